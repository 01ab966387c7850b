// Guest page tables: what a mapping, or one page fault served by the monitor, costs.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <memory>

#include "km/kvm/vm.h"
#include "km/memory/page_tables.h"
#include "km/memory/table_arena.h"

namespace km {
namespace {

constexpr uint64_t kVa = uint64_t{1} << 30;
constexpr uint64_t kGpa = uint64_t{8} << 30;

// Fills and clears again `state.range(0)` MiB that begin `offset` bytes into a large page.
void FillAndClear(benchmark::State& state, uint64_t offset) {
  absl::StatusOr<std::unique_ptr<Vm>> vm = Vm::Create();
  TableArena arena;
  PageTables tables;
  if (!vm.ok() || !arena.Initialize(vm->get(), 0).ok() || !tables.Initialize(&arena).ok()) {
    state.SkipWithError("no usable /dev/kvm");
    return;
  }
  uint64_t start = kVa + offset;
  uint64_t end = start + (static_cast<uint64_t>(state.range(0)) << 20);
  for (auto _ : state) {
    if (!tables.Fill(start, end, kGpa + offset, PROT_READ | PROT_WRITE).ok() ||
        !tables.Clear(start, end).ok()) {
      state.SkipWithError("the arena is exhausted");
      return;
    }
  }
}

// One mapping of a library: 512 leaves of 4 KiB in two tables.
void BM_FillSmallPages(benchmark::State& state) { FillAndClear(state, uint64_t{1} << 20); }
BENCHMARK(BM_FillSmallPages)->Arg(2);

// What one page fault in a large mapping makes present: 32 leaves of 2 MiB.
void BM_FillLargePages(benchmark::State& state) { FillAndClear(state, 0); }
BENCHMARK(BM_FillLargePages)->Arg(64);

}  // namespace
}  // namespace km
