// Reading a snapshot's headers and notes: all that a resume reads of the file.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "km/base/owned.h"
#include "km/snapshot/parser.h"
#include "km/snapshot/writer.h"

namespace km {
namespace {

constexpr uint64_t kPage = 4096;

// A process of one thread with `count` private mappings of two pages, the first of them written.
Image MakeImage(uint64_t count, uint64_t first) {
  Image image;
  image.header.producer = "km";
  image.header.xcr0 = 3;
  image.process.pid = 1000;
  image.process.comm = "bench";
  image.process.working_directory = "/";
  image.process.auxv = {0, 0};
  image.program = {"/bin/bench", 0, 0x401000, std::vector<uint8_t>(64), std::vector<uint8_t>(56)};
  ImageThread thread;
  thread.tid = 1000;
  thread.xsave.resize(576);
  image.threads.push_back(thread);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t start = first + 4 * i * kPage;
    ImageMapping mapping;
    mapping.start = start;
    mapping.end = start + 2 * kPage;
    mapping.protection = PROT_READ | PROT_WRITE;
    mapping.flags = MAP_PRIVATE | MAP_ANONYMOUS;
    image.mappings.push_back(mapping);
    image.memory.push_back({start, kPage, 0});
  }
  return image;
}

void BM_ParseSnapshot(benchmark::State& state) {
  constexpr uint64_t kFirst = 0x10000;
  auto count = static_cast<uint64_t>(state.range(0));
  std::vector<std::byte> memory(kFirst + 4 * count * kPage, std::byte{1});
  MemorySource source;
  source.window = memory.data();
  char folder[] = "/tmp/km-bench-XXXXXX";
  if (mkdtemp(folder) == nullptr) return state.SkipWithError("cannot make a folder in /tmp");
  std::string path = std::string(folder) + "/snapshot";
  absl::Status written = WriteSnapshot(MakeImage(count, kFirst), source, path, {.sync = false});
  OwnedFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  unlink(path.c_str());
  rmdir(folder);
  if (!written.ok()) return state.SkipWithError(std::string(written.message()).c_str());
  for (auto _ : state) {
    absl::StatusOr<Image> image = ParseSnapshot(file.get());
    if (!image.ok()) return state.SkipWithError(std::string(image.status().message()).c_str());
    benchmark::DoNotOptimize(image->mappings.data());
  }
}
BENCHMARK(BM_ParseSnapshot)->Arg(10)->Arg(1000);

}  // namespace
}  // namespace km
