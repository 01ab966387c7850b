// Timers that are read (timerfd_create(2)): the host's own. What it does not say by a call it says
// in /proc/self/fdinfo.
#ifndef KM_FILES_TIMER_FD_H_
#define KM_FILES_TIMER_FD_H_

#include <time.h>

#include <cstdint>
#include <optional>

namespace km {

// Source: proc_pid_fdinfo(5).
struct TimerFdState {
  int clock = 0;       // CLOCK_*
  uint64_t ticks = 0;  // expiries that nobody has read
  int flags = 0;       // TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET: how it was set last
  itimerspec setting = {};
};

// None: it is no timerfd.
std::optional<TimerFdState> ReadTimerFd(int host_fd);

}  // namespace km

#endif  // KM_FILES_TIMER_FD_H_
