// --stats: what the program cost, counted while it runs and printed when it ends.
#ifndef KM_MONITOR_STATS_H_
#define KM_MONITOR_STATS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "km/base/owned.h"
#include "km/control/protocol.h"
#include "km/kvm/vcpu.h"
#include "km/syscalls/call.h"

namespace km {

// Thread-safe, without locks. Times are nanoseconds of CLOCK_MONOTONIC, summed over threads; the
// time of a call that blocks counts as its own.
class Stats {
 public:
  // Counts from `now` on. All times of day are CLOCK_MONOTONIC's, in nanoseconds.
  explicit Stats(int64_t now);

  // A call with its row (null: Linux has none of that number) and what its handler answered; 0 for
  // one that does not return. Of kRestart and the like only the time counts: the call comes again.
  void CountCall(const SyscallRow* row, int64_t result, int64_t nanoseconds);
  // A return of Vcpu::Run, which took `guest_nanoseconds` (entry and exit included).
  void CountExit(const VcpuExit& exit, int64_t guest_nanoseconds);
  // A signal acted upon.
  void CountSignal() { Add(signals_, 1); }
  // A snapshot written, and how long the program stood still for it.
  void CountSnapshot(int64_t nanoseconds);

  // The tables, ready to print.
  std::string Table(int64_t now) const;
  // The same figures for programs, as docs/control-protocol.md has them.
  Json Figures(int64_t now) const;
  // Writes them to the standard error that was there at the start: many programs close theirs
  // before they end.
  void Print(int64_t now) const;

 private:
  using Counter = std::atomic<uint64_t>;
  struct CallCounters {
    Counter calls = 0;
    Counter errors = 0;
    Counter unsupported = 0;  // answered ENOSYS
    Counter nanoseconds = 0;
  };
  static constexpr size_t kKinds = static_cast<size_t>(VcpuExit::Kind::kFailed) + 1;

  static void Add(Counter& counter, uint64_t n) { counter.fetch_add(n, std::memory_order_relaxed); }
  static std::string NameAt(size_t place);
  struct CallRow {
    std::string name;
    uint64_t calls = 0, errors = 0, unsupported = 0, nanoseconds = 0;
  };
  using Counted = std::vector<std::pair<uint64_t, std::string>>;
  std::vector<CallRow> CallRows() const;  // the costliest first
  Counted ExitRows() const;               // the most frequent first
  uint64_t CallNanoseconds() const;
  std::string CallTable() const;
  std::string UnsupportedTable() const;
  std::string ExitTable() const;

  const OwnedFd output_;
  const int64_t begin_;
  std::vector<CallCounters> calls_;  // by the row's place in the table; the last: unknown numbers
  std::array<Counter, kKinds> exits_{};
  std::array<Counter, 32> exceptions_{};  // by vector
  Counter guest_nanoseconds_ = 0;
  Counter signals_ = 0;
  Counter snapshots_ = 0;
  Counter snapshot_nanoseconds_ = 0;
};

}  // namespace km

#endif  // KM_MONITOR_STATS_H_
