// Signal frames: the monitor's share of delivering a signal and of coming back.
#include <benchmark/benchmark.h>

#include <cstring>
#include <vector>

#include "km/signals/frame.h"

namespace km {
namespace {

// AVX-512's areas as processors have them (Intel SDM vol. 1, 13.5).
CpuidRegisters Avx512(uint32_t /*leaf*/, uint32_t component) {
  switch (component) {
    case 2:
      return {256, 576, 0, 0};
    case 5:
      return {64, 1088, 0, 0};
    case 6:
      return {512, 1152, 0, 0};
    case 7:
      return {1024, 1664, 0, 0};
    default:
      return {};
  }
}

struct Parts {
  XsaveFormat format = XsaveFormatOf(0xe7, Avx512);
  std::vector<uint8_t> xsave = InitialXsave(format);
  Registers registers;
  SignalDelivery delivery;
  SignalFrame frame;

  Parts() {
    registers.rsp = 0x7fff00000000;
    delivery.action = {
        .handler = 0x401000, .flags = SA_SIGINFO | kSaRestorer, .restorer = 0x402000, .mask = 0};
    delivery.info.si_signo = SIGUSR1;
  }
  int Build() { return BuildSignalFrame(delivery, registers, {}, xsave, format, &frame); }
};

void BM_BuildSignalFrame(benchmark::State& state) {
  Parts parts;
  for (auto _ : state) {
    if (parts.Build() != 0) state.SkipWithError("the frame was refused");
    benchmark::DoNotOptimize(parts.frame.bytes.data());
  }
}
BENCHMARK(BM_BuildSignalFrame);

void BM_RestoreContext(benchmark::State& state) {
  Parts parts;
  if (parts.Build() != 0) state.SkipWithError("the frame was refused");
  SignalContext context;  // behind the restorer's address
  memcpy(&context, parts.frame.bytes.data() + sizeof(uint64_t), sizeof(context));
  AltStack alt_stack;
  SignalSet mask = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(RestoreContext(context, parts.registers, alt_stack, mask));
  }
}
BENCHMARK(BM_RestoreContext);

}  // namespace
}  // namespace km
