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
timespec ToTimespec(int64_t nanoseconds);

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

}  // namespace km

#endif  // KM_PROCESS_CLOCK_H_
