// The program's timers: of timer_create(2), and the three of setitimer(2).
//
// Behind each stands a timer of the host's, armed for one expiry at a time. Its signal is no more
// than a hint to the main thread to look at the clock. As in the kernel a periodic timer goes on
// when its signal is taken, and what it missed until then is its overrun: however short the period
// is, no more signals are made than the program takes.
#ifndef KM_PROCESS_TIMERS_H_
#define KM_PROCESS_TIMERS_H_

#include <signal.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/synchronization/mutex.h"
#include "km/process/clock.h"
#include "km/process/signal_state.h"

namespace km {

// Times are nanoseconds.

// What an expiry does: sigevent(7) without SIGEV_THREAD, which is libc's.
struct TimerNotice {
  int how = SIGEV_SIGNAL;  // SIGEV_SIGNAL, SIGEV_NONE or SIGEV_THREAD_ID
  int sig = SIGALRM;
  uint64_t value = 0;
  uint32_t tid = 0;  // for SIGEV_THREAD_ID
};
struct TimerSetting {
  int64_t value = 0;  // until the next expiry; 0: disarmed
  int64_t interval = 0;
};
// All of a timer, for a snapshot.
struct TimerState {
  int id = 0;
  int clock = CLOCK_REALTIME;  // the program's; never its name for the calling thread's own
  TimerNotice notice;
  bool armed = false;
  // Its signal is pending, and whoever takes it will arm it again.
  bool waiting = false;
  // Set without TIMER_ABSTIME on CLOCK_REALTIME: steps of the clock do not count, and `expiry` is
  // on CLOCK_MONOTONIC.
  bool monotonic = false;
  int64_t expiry = 0;  // on the program's clock
  int64_t interval = 0;
  int64_t overrun = 0;  // of the signal that was taken last
};

// Thread-safe. The lock comes before SignalState's, and before no other. Errors are negative
// errnos.
class Timers {
 public:
  // Interval timers have the ids ItimerId(ITIMER_*).
  static constexpr int ItimerId(int which) { return -1 - which; }

  Timers(SignalState* signals, const GuestClock* clock) : signals_(*signals), clock_(*clock) {}
  ~Timers();

  // timer_create: an id. A TimerNotice without a value has the id as its value.
  int Create(int clock, const ClockRef& reference, const std::optional<TimerNotice>& notice)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // -EINVAL: no such timer.
  int Set(int id, bool absolute, const TimerSetting& wanted, TimerSetting* old)
      ABSL_LOCKS_EXCLUDED(mutex_);
  int Get(int id, TimerSetting* setting) ABSL_LOCKS_EXCLUDED(mutex_);
  int Overrun(int id) ABSL_LOCKS_EXCLUDED(mutex_);
  int Delete(int id) ABSL_LOCKS_EXCLUDED(mutex_);

  // setitimer and getitimer; `which` is valid, and `reference` is to ItimerClock(which).
  static int ItimerClock(int which);
  int SetItimer(int which, const ClockRef& reference, const TimerSetting& wanted, TimerSetting* old)
      ABSL_LOCKS_EXCLUDED(mutex_);
  TimerSetting GetItimer(int which) ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether a signal that the main thread has read is such a hint; then `id` is whose. An outsider
  // who forges one makes it look at the clock.
  static bool IsHint(const siginfo_t& info, int* id);
  // Acts upon a hint. Returns the thread that must look at its signals, or 0.
  uint32_t Expired(int id) ABSL_LOCKS_EXCLUDED(mutex_);

  // Somebody took this signal out of a queue, to deliver it or to drop it: its timer goes on, and
  // the overrun goes into `info`.
  void SignalTaken(siginfo_t* info) ABSL_LOCKS_EXCLUDED(mutex_);
  // All of `sig` that was pending is gone, because it is ignored now.
  void SignalDiscarded(int sig) ABSL_LOCKS_EXCLUDED(mutex_);

  // The clock of a thread ends with it.
  void ThreadEnded(uint32_t tid) ABSL_LOCKS_EXCLUDED(mutex_);

  // For a snapshot, and back. A timer on the clock of one thread starts with ThreadStarted; all
  // others at once.
  std::vector<TimerState> All() ABSL_LOCKS_EXCLUDED(mutex_);
  int next_id() ABSL_LOCKS_EXCLUDED(mutex_);
  int Restore(const TimerState& state, const ClockRef& reference) ABSL_LOCKS_EXCLUDED(mutex_);
  void RestoreNextId(int next_id) ABSL_LOCKS_EXCLUDED(mutex_);
  // By every thread itself.
  void ThreadStarted(uint32_t tid, int host_tid, const CpuTime& offset) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Timer : TimerState {
    ClockRef reference;
    std::optional<int> host;   // the host's id; none where nobody is notified
    bool not_started = false;  // restored, and its thread has not started
  };
  struct Runner {
    int host_tid = 0;
    int64_t spent_ns = 0;  // when it was last looked at
  };

  Timer* Find(int id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Now(const Timer& timer) const;
  int MakeHost(Timer& timer) const;
  int StartRestored(Timer& timer, const ClockRef& reference) const;
  void Arm(const Timer& timer) const;
  void GoOn(Timer& timer, int64_t not_before) const;
  TimerSetting Remaining(const Timer& timer) const;
  void Change(Timer& timer, bool absolute, const TimerSetting& wanted)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SignalState::SendResult Send(const Timer& timer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint32_t Busiest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  SignalState& signals_;
  const GuestClock& clock_;
  absl::Mutex mutex_;
  absl::btree_map<int, Timer> timers_ ABSL_GUARDED_BY(mutex_);
  absl::btree_map<uint32_t, Runner> runners_ ABSL_GUARDED_BY(mutex_);  // all threads, by their ids
  int next_id_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace km

#endif  // KM_PROCESS_TIMERS_H_
