// The program's clocks: the host's, with an offset where a snapshot was taken in between.
#ifndef KM_PROCESS_CLOCK_H_
#define KM_PROCESS_CLOCK_H_

#include <time.h>

#include <cstdint>

namespace km {

inline constexpr int64_t kNanosecondsPerSecond = 1000000000;

// Times that a program gives may be far beyond what nanoseconds can count: the ends of the range
// stand for them.
int64_t SaturatingAdd(int64_t a, int64_t b);
int64_t ToNanoseconds(const timespec& time);
// As the kernel asks of what it is given: not negative, less than a second of nanoseconds.
bool ValidTime(const timespec& time);
timespec ToTimespec(int64_t nanoseconds);

inline constexpr int kNoClock = 999;  // the host answers EINVAL

// A clock of the program's, by the host's id for it.
struct ClockRef {
  int host = kNoClock;
  int64_t offset_ns = 0;  // is added to the host's reading
  uint32_t tid = 0;       // the thread whose processor time it counts, or 0
};

// Ids of the clocks of processor time, as the kernel makes them: ~id of the process or thread above
// three bits, the third of which says that it is a thread.
inline constexpr int kClockOfThread = 4, kClockKind = 3;
enum ClockKind { kClockUserAndSystem = 0, kClockUser = 1, kClockScheduled = 2, kClockOfFile = 3 };
constexpr int CpuClockId(int id, int kind_and_thread) {
  return static_cast<int>(~static_cast<uint32_t>(id) << 3) | kind_and_thread;
}

// Processor time that was spent.
struct CpuTime {
  int64_t total_ns = 0;
  int64_t user_ns = 0;
};

// A clock of the time that a thread of the program's has spent; `kind` with kClockOfThread.
ClockRef ThreadCpuClock(int kind, uint32_t tid, int host_tid, const CpuTime& offset);

// Offsets are set before the first vCPU runs and constant from then on: thread-safe.
class GuestClock {
 public:
  // What is added to the host's reading of `clock` (CLOCK_*).
  int64_t Offset(int clock) const;
  // The program's CLOCK_MONOTONIC.
  int64_t Monotonic() const;
  // What the host's `clock` shows when the program's shows `guest_ns`; not before its zero, which
  // the kernel would refuse.
  int64_t ToHost(int clock, int64_t guest_ns) const;

  void SetOffsets(int64_t monotonic_ns, int64_t boottime_ns) {
    monotonic_offset_ = monotonic_ns;
    boottime_offset_ = boottime_ns;
  }

 private:
  int64_t monotonic_offset_ = 0;
  int64_t boottime_offset_ = 0;
};

// The host's reading of a clock in nanoseconds.
int64_t HostClock(int clock);
// What the host thread `tid` (0: the calling one), or the monitor, has spent so far.
CpuTime HostThreadCpuTime(int tid);
CpuTime HostCpuTime();

}  // namespace km

#endif  // KM_PROCESS_CLOCK_H_
