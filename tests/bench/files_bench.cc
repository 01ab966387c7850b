// The descriptor table: every call on a descriptor looks into it.
#include <benchmark/benchmark.h>
#include <fcntl.h>

#include "km/files/fd_table.h"

namespace km {
namespace {

void BM_FdTableGet(benchmark::State& state) {
  FdTable table(1024);
  for (int i = 0; i < 64; ++i) {
    int host = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (table.Add(host, FileKind::kCharacterDevice, "/dev/null", false) != i) {
      state.SkipWithError("cannot open /dev/null");
      return;
    }
  }
  uint64_t fd = 0;
  for (auto _ : state) benchmark::DoNotOptimize(table.Get(fd++ % 64));
}
BENCHMARK(BM_FdTableGet);

// The lowest free number among many, then closed again.
void BM_FdTableInstall(benchmark::State& state) {
  FdTable table(4096);
  auto file = std::make_shared<OpenFile>(OwnedFd(open("/dev/null", O_RDONLY | O_CLOEXEC)),
                                         std::make_shared<FileDescription>());
  for (int i = 0; i < 1000; ++i) table.Install(file, false);
  for (auto _ : state) {
    table.Take(500);
    benchmark::DoNotOptimize(table.Install(file, false));
  }
}
BENCHMARK(BM_FdTableInstall);

}  // namespace
}  // namespace km
