#include "km/process/clock.h"

namespace km {

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

int64_t GuestClock::Monotonic() const { return HostClock(CLOCK_MONOTONIC) + monotonic_offset_; }

}  // namespace km
