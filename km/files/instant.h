// The moment that a snapshot is of.
#ifndef KM_FILES_INSTANT_H_
#define KM_FILES_INSTANT_H_

#include <time.h>

#include <cstdint>

namespace km {

// What the host's clocks show, or showed, while the program's show what is in the snapshot:
// nanoseconds. Not the same in the process that saves and in the one that resumes.
struct Instant {
  int64_t monotonic_ns = 0;
  int64_t boottime_ns = 0;

  int64_t Of(int clock) const {
    return clock == CLOCK_BOOTTIME || clock == CLOCK_BOOTTIME_ALARM ? boottime_ns : monotonic_ns;
  }
};

}  // namespace km

#endif  // KM_FILES_INSTANT_H_
