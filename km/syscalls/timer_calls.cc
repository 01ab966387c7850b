// Timers that send signals. Source: timer_create(2), timer_settime(2), setitimer(2), alarm(2).
#include <sys/time.h>

#include <cerrno>

#include "km/syscalls/handlers.h"

namespace km {
namespace {

constexpr int64_t kNanosecondsPerMicrosecond = 1000;

itimerspec ToItimerspec(const TimerSetting& setting) {
  return {ToTimespec(setting.interval), ToTimespec(setting.value)};
}

timeval ToTimeval(int64_t nanoseconds) {
  timespec time = ToTimespec(nanoseconds);
  return {time.tv_sec, time.tv_nsec / kNanosecondsPerMicrosecond};
}

itimerval ToItimerval(const TimerSetting& setting) {
  return {ToTimeval(setting.interval), ToTimeval(setting.value)};
}

// -EINVAL where it is no time.
int FromTimeval(const timeval& time, int64_t* nanoseconds) {
  if (time.tv_sec < 0 || time.tv_usec < 0 || time.tv_usec >= 1000000) return -EINVAL;
  *nanoseconds = ToNanoseconds({time.tv_sec, time.tv_usec * kNanosecondsPerMicrosecond});
  return 0;
}

// What the program wants to hear of an expiry: 0, or -EINVAL.
int CheckNotice(Call& call, const sigevent& event, TimerNotice* notice) {
  notice->how = event.sigev_notify;
  notice->sig = event.sigev_signo;
  notice->value = reinterpret_cast<uint64_t>(event.sigev_value.sival_ptr);
  switch (event.sigev_notify) {
    case SIGEV_NONE:
      return 0;
    case SIGEV_THREAD_ID:
      notice->tid = static_cast<uint32_t>(event._sigev_un._tid);
      if (!call.process.HasThread(notice->tid)) return -EINVAL;
      [[fallthrough]];
    case SIGEV_SIGNAL:
      return ValidSignal(event.sigev_signo) ? 0 : -EINVAL;
    default:
      return -EINVAL;
  }
}

// The name of a clock that means the same in every thread.
int AbsoluteClock(const Call& call, int clock) {
  int kind = clock & kClockKind;
  if (clock == CLOCK_THREAD_CPUTIME_ID) kind = kClockScheduled;
  bool own = clock == CLOCK_THREAD_CPUTIME_ID ||
             (clock < 0 && (clock & kClockOfThread) && kind != kClockOfFile && ~(clock >> 3) == 0);
  return own ? CpuClockId(static_cast<int>(call.thread.tid), kind | kClockOfThread) : clock;
}

int SetItimer(Call& call, int which, const TimerSetting& wanted, TimerSetting* old) {
  ClockRef reference = call.process.Clock(Timers::ItimerClock(which), call.thread.tid);
  return call.process.timers().SetItimer(which, reference, wanted, old);
}

bool ValidItimer(int which) { return which >= ITIMER_REAL && which <= ITIMER_PROF; }

}  // namespace

SyscallResult TimerCreate(Call& call) {
  std::optional<TimerNotice> notice;
  int bad_notice = 0;
  if (!call.Addr(1).null()) {
    sigevent event;
    if (int error = call.memory().CopyIn(&event, call.Addr(1)); error != 0) return error;
    bad_notice = CheckNotice(call, event, &notice.emplace());
  }
  int clock = AbsoluteClock(call, call.Int(0));
  // CLOCKFD: with the bit that makes it a thread's it is none (include/linux/posix-timers.h).
  if (clock < 0 && (clock & (kClockOfThread | kClockKind)) == kClockOfFile) return -EOPNOTSUPP;
  ClockRef reference = call.process.Clock(clock, call.thread.tid);
  Timers& timers = call.process.timers();
  // The kernel looks for the clock first, and whether the caller may have it last.
  if (bad_notice != 0) {
    TimerNotice none;
    none.how = SIGEV_NONE;
    int id = timers.Create(clock, reference, none);
    if (id >= 0) timers.Delete(id);
    return id == -EOPNOTSUPP ? id : bad_notice;
  }
  int id = timers.Create(clock, reference, notice);
  if (id < 0) return id;
  int error = call.memory().CopyOut(call.Addr(2), id);
  if (error != 0) timers.Delete(id);
  return error;
}

SyscallResult TimerSettime(Call& call) {
  itimerspec wanted;
  if (call.Addr(2).null()) return -EINVAL;
  if (int error = call.memory().CopyIn(&wanted, call.Addr(2)); error != 0) return error;
  if (!ValidTime(wanted.it_value) || !ValidTime(wanted.it_interval)) return -EINVAL;
  TimerSetting old;
  int error = call.process.timers().Set(
      call.Int(0), (call.Int(1) & TIMER_ABSTIME) != 0,
      {ToNanoseconds(wanted.it_value), ToNanoseconds(wanted.it_interval)}, &old);
  if (error != 0 || call.Addr(3).null()) return error;
  return call.memory().CopyOut(call.Addr(3), ToItimerspec(old));
}

SyscallResult TimerGettime(Call& call) {
  TimerSetting setting;
  if (int error = call.process.timers().Get(call.Int(0), &setting); error != 0) return error;
  return call.memory().CopyOut(call.Addr(1), ToItimerspec(setting));
}

SyscallResult TimerGetoverrun(Call& call) { return call.process.timers().Overrun(call.Int(0)); }

SyscallResult TimerDelete(Call& call) { return call.process.timers().Delete(call.Int(0)); }

SyscallResult Getitimer(Call& call) {
  if (!ValidItimer(call.Int(0))) return -EINVAL;
  return call.memory().CopyOut(call.Addr(1),
                               ToItimerval(call.process.timers().GetItimer(call.Int(0))));
}

SyscallResult Setitimer(Call& call) {
  itimerval from = {};  // null turns it off, for what old programs expect
  if (!call.Addr(1).null()) {
    if (int error = call.memory().CopyIn(&from, call.Addr(1)); error != 0) return error;
  }
  TimerSetting wanted, old;
  if (int error = FromTimeval(from.it_value, &wanted.value); error != 0) return error;
  if (int error = FromTimeval(from.it_interval, &wanted.interval); error != 0) return error;
  if (!ValidItimer(call.Int(0))) return -EINVAL;
  if (int error = SetItimer(call, call.Int(0), wanted, &old); error != 0) return error;
  return call.Addr(2).null() ? 0 : call.memory().CopyOut(call.Addr(2), ToItimerval(old));
}

SyscallResult Alarm(Call& call) {
  TimerSetting wanted, old;
  wanted.value = call.Uint(0) * kNanosecondsPerSecond;
  if (int error = SetItimer(call, ITIMER_REAL, wanted, &old); error != 0) return error;
  // Rounded, but never to 0 while one was running.
  timeval left = ToTimeval(old.value);
  return left.tv_sec + ((left.tv_sec == 0 && left.tv_usec > 0) || left.tv_usec >= 500000 ? 1 : 0);
}

}  // namespace km
