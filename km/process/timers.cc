#include "km/process/timers.h"

#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <limits>
#include <utility>

#include "km/signals/siginfo.h"

namespace km {
namespace {

// Of the numbers that queue: while a hint of a standard signal waits the host would merge into it
// what others send.
constexpr int kHintSignal = kMaxSignal;
// A timer whose signal is ignored goes on, but not faster than this, as in the kernel.
constexpr int64_t kIgnoredPause = 4000000;

constexpr int kItimerClocks[] = {CLOCK_MONOTONIC, CpuClockId(0, kClockUser),
                                 CpuClockId(0, kClockUserAndSystem)};
constexpr int kItimerSignals[] = {SIGALRM, SIGVTALRM, SIGPROF};

bool IsItimer(int id) { return id < 0; }

int64_t SetHost(int host, int flags, int64_t value) {
  itimerspec setting = {};
  setting.it_value = ToTimespec(value);
  return syscall(SYS_timer_settime, host, flags, &setting, nullptr);
}

// How often the timer has expired until `now` after the expiry that it is at.
int64_t Missed(const TimerState& timer, int64_t now) {
  return timer.interval > 0 ? std::max<int64_t>(now - timer.expiry, 0) / timer.interval : 0;
}

int OverrunOf(const TimerState& timer) {
  return static_cast<int>(std::min<int64_t>(timer.overrun, std::numeric_limits<int>::max()));
}

bool IsThreadClock(int clock) { return clock < 0 && (clock & kClockOfThread) != 0; }

int64_t SpentBy(int host_tid) {
  return HostClock(CpuClockId(host_tid, kClockScheduled | kClockOfThread));
}

// The processor time of all threads.
bool IsProcessTime(const TimerState& timer) {
  return timer.clock == CLOCK_PROCESS_CPUTIME_ID ||
         (timer.clock < 0 && !IsThreadClock(timer.clock));
}

}  // namespace

int Timers::ItimerClock(int which) { return kItimerClocks[which]; }

Timers::~Timers() {
  absl::MutexLock lock(&mutex_);
  for (auto& [id, timer] : timers_) {
    if (timer.host.has_value()) syscall(SYS_timer_delete, *timer.host);
  }
}

bool Timers::IsHint(const siginfo_t& info, int* id) {
  *id = info.si_int;
  return info.si_signo == kHintSignal && info.si_code == SI_TIMER;
}

int64_t Timers::Now(const Timer& timer) const {
  return timer.monotonic
             ? clock_.Monotonic()
             : SaturatingAdd(HostClock(timer.reference.host), timer.reference.offset_ns);
}

// 0 or a negative errno.
int Timers::MakeHost(Timer& timer) const {
  sigevent event = {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = kHintSignal;
  event.sigev_value.sival_int = timer.id;
  int host = 0;
  if (syscall(SYS_timer_create, timer.reference.host, &event, &host) != 0) return -errno;
  timer.host = host;
  return 0;
}

// Sets the host's timer to the next expiry, or to none.
void Timers::Arm(const Timer& timer) const {
  if (!timer.host.has_value()) return;
  if (!timer.armed) {
    SetHost(*timer.host, 0, 0);
  } else if (timer.monotonic) {
    SetHost(*timer.host, 0, std::max<int64_t>(timer.expiry - clock_.Monotonic(), 1));
  } else {
    int64_t expiry = SaturatingAdd(timer.expiry, -timer.reference.offset_ns);
    SetHost(*timer.host, TIMER_ABSTIME, std::max<int64_t>(expiry, 1));
  }
}

// To the next expiry after now, and not before `not_before`.
void Timers::GoOn(Timer& timer, int64_t not_before) const {
  timer.armed = timer.interval > 0;
  if (timer.armed) {
    int64_t missed = Missed(timer, not_before);
    timer.expiry = SaturatingAdd(timer.expiry + missed * timer.interval, timer.interval);
  }
  Arm(timer);
}

TimerSetting Timers::Remaining(const Timer& timer) const {
  TimerSetting setting = {0, timer.interval};
  if (!timer.armed) return setting;
  int64_t now = Now(timer);
  int64_t left = timer.expiry - now;
  if (left <= 0 && timer.interval > 0 && !IsItimer(timer.id)) {
    left += (Missed(timer, now) + 1) * timer.interval;
  }
  // 0 would mean that it is off. Where it has expired its signal is on its way.
  int64_t least = IsItimer(timer.id) ? 1000 : timer.notice.how == SIGEV_NONE ? 0 : 1;
  setting.value = std::max(left, least);
  return setting;
}

void Timers::Change(Timer& timer, bool absolute, const TimerSetting& wanted) {
  if (timer.waiting && !IsItimer(timer.id)) {
    signals_.DiscardTimer(timer.notice.sig, timer.id);
  }
  timer.waiting = false;
  timer.overrun = 0;
  timer.armed = wanted.value != 0;
  // The interval of one that is off is shown by the two that count processor time.
  bool keeps = timer.armed || timer.id < ItimerId(ITIMER_REAL);
  timer.interval = keeps ? wanted.interval : 0;
  timer.monotonic = !absolute && timer.clock == CLOCK_REALTIME;
  timer.expiry = absolute ? wanted.value : SaturatingAdd(Now(timer), wanted.value);
  if (timer.armed && IsProcessTime(timer)) (void)Busiest();  // from here on it counts
  Arm(timer);
}

Timers::Timer* Timers::Find(int id) {
  auto it = timers_.find(id);
  return it != timers_.end() ? &it->second : nullptr;
}

int Timers::Create(int clock, const ClockRef& reference, const std::optional<TimerNotice>& notice) {
  absl::MutexLock lock(&mutex_);
  Timer timer;
  // As in the kernel each one has its place in the queue of signals, also where none is sent.
  const auto itimers = static_cast<size_t>(std::distance(timers_.begin(), timers_.lower_bound(0)));
  if (timers_.size() - itimers >= signals_.QueueRoom()) return -EAGAIN;
  timer.id = next_id_;
  while (timers_.contains(timer.id)) {
    timer.id = timer.id == std::numeric_limits<int>::max() ? 0 : timer.id + 1;
  }
  timer.clock = clock;
  timer.reference = reference;
  timer.notice.value = static_cast<uint64_t>(timer.id);
  if (notice.has_value()) timer.notice = *notice;
  if (int error = MakeHost(timer); error != 0) return error;
  next_id_ = timer.id == std::numeric_limits<int>::max() ? 0 : timer.id + 1;
  if (timer.notice.how == SIGEV_NONE) syscall(SYS_timer_delete, *std::exchange(timer.host, {}));
  timers_[timer.id] = timer;
  return timer.id;
}

int Timers::Set(int id, bool absolute, const TimerSetting& wanted, TimerSetting* old) {
  absl::MutexLock lock(&mutex_);
  Timer* timer = IsItimer(id) ? nullptr : Find(id);
  if (timer == nullptr) return -EINVAL;
  if (timer->reference.host == kNoClock) return -ESRCH;  // the thread has ended
  *old = Remaining(*timer);
  Change(*timer, absolute, wanted);
  return 0;
}

int Timers::Get(int id, TimerSetting* setting) {
  absl::MutexLock lock(&mutex_);
  Timer* timer = IsItimer(id) ? nullptr : Find(id);
  if (timer == nullptr) return -EINVAL;
  *setting = Remaining(*timer);
  return 0;
}

int Timers::Overrun(int id) {
  absl::MutexLock lock(&mutex_);
  Timer* timer = IsItimer(id) ? nullptr : Find(id);
  if (timer == nullptr) return -EINVAL;
  return OverrunOf(*timer);
}

int Timers::Delete(int id) {
  absl::MutexLock lock(&mutex_);
  Timer* timer = IsItimer(id) ? nullptr : Find(id);
  if (timer == nullptr) return -EINVAL;
  Change(*timer, false, {});
  if (timer->host.has_value()) syscall(SYS_timer_delete, *timer->host);
  timers_.erase(id);
  return 0;
}

int Timers::SetItimer(int which, const ClockRef& reference, const TimerSetting& wanted,
                      TimerSetting* old) {
  absl::MutexLock lock(&mutex_);
  Timer* timer = Find(ItimerId(which));
  if (timer == nullptr) {
    Timer fresh;
    fresh.id = ItimerId(which);
    fresh.clock = ItimerClock(which);
    fresh.reference = reference;
    fresh.notice.sig = kItimerSignals[which];
    if (int error = MakeHost(fresh); error != 0) return error;
    timer = &(timers_[fresh.id] = fresh);
  }
  *old = Remaining(*timer);
  Change(*timer, false, wanted);
  return 0;
}

TimerSetting Timers::GetItimer(int which) {
  absl::MutexLock lock(&mutex_);
  Timer* timer = Find(ItimerId(which));
  return timer != nullptr ? Remaining(*timer) : TimerSetting{};
}

// The thread that has spent the most since this was last asked.
uint32_t Timers::Busiest() {
  uint32_t busiest = 0;
  int64_t most = 0;
  for (auto& [tid, runner] : runners_) {
    const int64_t now = SpentBy(runner.host_tid);
    const int64_t spent = now - std::exchange(runner.spent_ns, now);
    if (spent <= most) continue;
    most = spent;
    busiest = tid;
  }
  return busiest;
}

// In the kernel time of the process runs out for the thread that runs just then, which gets the
// signal; here for the one that has most likely done so.
SignalState::SendResult Timers::Send(const Timer& timer) {
  const uint32_t spender = IsProcessTime(timer) ? Busiest() : 0;
  if (IsItimer(timer.id)) return signals_.SendToProcess(KernelSiginfo(timer.notice.sig), spender);
  siginfo_t info = {};
  info.si_signo = timer.notice.sig;
  info.si_code = SI_TIMER;
  info.si_timerid = timer.id;
  info.si_ptr = reinterpret_cast<void*>(timer.notice.value);
  return signals_.SendTimer(timer.notice.how == SIGEV_THREAD_ID ? timer.notice.tid : 0, info,
                            spender);
}

uint32_t Timers::Expired(int id) {
  absl::MutexLock lock(&mutex_);
  Timer* timer = Find(id);
  if (timer == nullptr || !timer->armed || timer->waiting) return 0;
  int64_t now = Now(*timer);
  if (now < timer->expiry) {  // set anew meanwhile
    Arm(*timer);
    return 0;
  }
  SignalState::SendResult sent = Send(*timer);
  if (id == ItimerId(ITIMER_REAL)) {
    timer->waiting = timer->interval > 0;
    timer->armed = false;
  } else if (IsItimer(id)) {
    GoOn(*timer, now);
  } else if (sent.dropped) {
    GoOn(*timer, SaturatingAdd(now, kIgnoredPause));
  } else {
    timer->waiting = true;
    timer->armed = timer->interval > 0;
  }
  return sent.interrupt_tid;
}

void Timers::SignalTaken(siginfo_t* info) {
  const bool alarm = info->si_signo == SIGALRM;
  if (!alarm && info->si_code != SI_TIMER) return;
  absl::MutexLock lock(&mutex_);
  // Whoever sent it: the interval timer's own may have been merged into it.
  Timer* real = alarm ? Find(ItimerId(ITIMER_REAL)) : nullptr;
  if (real != nullptr && std::exchange(real->waiting, false)) GoOn(*real, Now(*real));
  if (info->si_code != SI_TIMER) return;
  Timer* timer = Find(info->si_timerid);
  if (timer == nullptr || !timer->waiting || timer->notice.sig != info->si_signo) return;
  int64_t now = Now(*timer);
  timer->waiting = false;
  timer->overrun = Missed(*timer, now);
  info->si_overrun = OverrunOf(*timer);
  GoOn(*timer, now);
}

void Timers::SignalDiscarded(int sig) {
  absl::MutexLock lock(&mutex_);
  for (auto& [id, timer] : timers_) {
    if (IsItimer(id) || !timer.waiting || timer.notice.sig != sig) continue;
    if (signals_.HasTimer(sig, id)) continue;
    timer.waiting = false;
    GoOn(timer, SaturatingAdd(Now(timer), kIgnoredPause));
  }
}

void Timers::ThreadEnded(uint32_t tid) {
  absl::MutexLock lock(&mutex_);
  runners_.erase(tid);
  for (auto& [id, timer] : timers_) {
    if (timer.reference.tid != tid) continue;
    if (timer.host.has_value()) syscall(SYS_timer_delete, *std::exchange(timer.host, {}));
    timer.reference = {};
    timer.armed = false;
  }
}

std::vector<TimerState> Timers::All() {
  absl::MutexLock lock(&mutex_);
  std::vector<TimerState> all;
  for (const auto& [id, timer] : timers_) all.push_back(timer);
  return all;
}

int Timers::next_id() {
  absl::MutexLock lock(&mutex_);
  return next_id_;
}

void Timers::RestoreNextId(int next_id) {
  absl::MutexLock lock(&mutex_);
  next_id_ = next_id;
}

int Timers::StartRestored(Timer& timer, const ClockRef& reference) const {
  timer.reference = reference;
  if (timer.notice.how == SIGEV_NONE) return 0;
  if (int error = MakeHost(timer); error != 0) return error;
  if (!timer.waiting) Arm(timer);
  return 0;
}

int Timers::Restore(const TimerState& state, const ClockRef& reference) {
  absl::MutexLock lock(&mutex_);
  Timer& timer = timers_[state.id];
  static_cast<TimerState&>(timer) = state;
  timer.not_started = IsThreadClock(state.clock);
  return timer.not_started ? 0 : StartRestored(timer, reference);
}

void Timers::ThreadStarted(uint32_t tid, int host_tid, const CpuTime& offset) {
  absl::MutexLock lock(&mutex_);
  runners_[tid] = {host_tid, SpentBy(host_tid)};
  for (auto& [id, timer] : timers_) {
    if (!timer.not_started || timer.clock >> 3 != static_cast<int>(~tid)) continue;
    timer.not_started = false;
    // Without room for a timer of the host's it never expires.
    (void)StartRestored(
        timer, ThreadCpuClock(timer.clock & (kClockKind | kClockOfThread), tid, host_tid, offset));
  }
}

}  // namespace km
