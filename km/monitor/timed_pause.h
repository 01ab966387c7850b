// A pause on behalf of somebody who waits for it.
#ifndef KM_MONITOR_TIMED_PAUSE_H_
#define KM_MONITOR_TIMED_PAUSE_H_

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "km/base/status.h"
#include "km/process/process.h"

namespace km {

// Pauses the process for as long as it lives, if that can be: a thread may be in a call of the
// host's that no signal interrupts (of a file server that is gone, of a slow disk), and meanwhile
// the main thread, which waits here, forwards no signal and serves nobody.
class TimedPause {
 public:
  explicit TimedPause(Process* process)
      : process_(process), complete_(process->PauseWithin(kLimit)) {}
  ~TimedPause() { process_->Resume(); }
  TimedPause(const TimedPause&) = delete;
  TimedPause& operator=(const TimedPause&) = delete;

  // Without OK some threads run.
  absl::Status status() const {
    if (complete_) return absl::OkStatus();
    return ErrnoStatus(
        EBUSY, absl::StrCat("a thread did not stop within ", absl::FormatDuration(kLimit),
                            ": it is in a system call that nothing interrupts, of a disk or a "
                            "server that does not answer; the program goes on, try again later"));
  }

 private:
  static constexpr absl::Duration kLimit = absl::Seconds(10);

  Process* const process_;
  const bool complete_;
};

}  // namespace km

#endif  // KM_MONITOR_TIMED_PAUSE_H_
