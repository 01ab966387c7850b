#include "km/process/clock.h"

#include <algorithm>
#include <limits>

namespace km {

int64_t SaturatingAdd(int64_t a, int64_t b) {
  int64_t sum = 0;
  if (!__builtin_add_overflow(a, b, &sum)) return sum;
  return b < 0 ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
}

int64_t ToNanoseconds(const timespec& time) {
  int64_t product = 0;
  if (__builtin_mul_overflow(time.tv_sec, kNanosecondsPerSecond, &product)) {
    return time.tv_sec < 0 ? std::numeric_limits<int64_t>::min()
                           : std::numeric_limits<int64_t>::max();
  }
  return SaturatingAdd(product, time.tv_nsec);
}

bool ValidTime(const timespec& time) {
  return time.tv_sec >= 0 && time.tv_nsec >= 0 && time.tv_nsec < kNanosecondsPerSecond;
}

timespec ToTimespec(int64_t nanoseconds) {
  timespec time;
  time.tv_sec = nanoseconds / kNanosecondsPerSecond;
  time.tv_nsec = nanoseconds % kNanosecondsPerSecond;
  if (time.tv_nsec < 0) {
    time.tv_nsec += kNanosecondsPerSecond;
    time.tv_sec -= 1;
  }
  return time;
}

int64_t HostClock(int clock) {
  timespec now = {};
  clock_gettime(clock, &now);
  return ToNanoseconds(now);
}

CpuTime HostThreadCpuTime(int tid) {
  return {HostClock(CpuClockId(tid, kClockScheduled | kClockOfThread)),
          HostClock(CpuClockId(tid, kClockUser | kClockOfThread))};
}

CpuTime HostCpuTime() {
  return {HostClock(CLOCK_PROCESS_CPUTIME_ID), HostClock(CpuClockId(0, kClockUser))};
}

ClockRef ThreadCpuClock(int kind, uint32_t tid, int host_tid, const CpuTime& offset) {
  bool user = (kind & kClockKind) == kClockUser;
  return {CpuClockId(host_tid, kind), user ? offset.user_ns : offset.total_ns, tid};
}

int64_t GuestClock::Offset(int clock) const {
  switch (clock) {
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
      return monotonic_offset_;
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
      return boottime_offset_;
    default:
      return 0;
  }
}

int64_t GuestClock::ToHost(int clock, int64_t guest_ns) const {
  return std::max<int64_t>(SaturatingAdd(guest_ns, -Offset(clock)), 0);
}

int64_t GuestClock::Monotonic() const { return HostClock(CLOCK_MONOTONIC) + monotonic_offset_; }

}  // namespace km
