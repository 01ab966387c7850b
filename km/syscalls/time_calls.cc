// Clocks and sleeping.
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "km/process/clock.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"

namespace km {
namespace {

// The host's vDSO makes the call for clocks that it cannot read itself; our entry point in front of
// it adds the offset of those that it knows.
bool FromHostVdso(const Call& call) {
  uint64_t rip = call.thread.registers.rip;
  return rip >= KM_HOST_VDSO_BASE && rip < KM_RUNTIME_END;
}

// Sleeps until the deadline in `thread.deadline_ns`, which is on CLOCK_MONOTONIC for a relative
// sleep on that or CLOCK_REALTIME, as in the kernel, and else on `clock`.
SyscallResult SleepUntil(Call& call, int clock, GuestAddr remaining) {
  Thread& thread = call.thread;
  ClockRef reference = call.process.Clock(clock, thread.tid);
  timespec until =
      ToTimespec(std::max<int64_t>(SaturatingAdd(*thread.deadline_ns, -reference.offset_ns), 0));
  int64_t result = thread.Block(SYS_clock_nanosleep, static_cast<uint64_t>(reference.host),
                                TIMER_ABSTIME, reinterpret_cast<uint64_t>(&until));
  if (result != kKicked) return result;
  if (!remaining.null()) {
    int64_t now = SaturatingAdd(HostClock(reference.host), reference.offset_ns);
    int64_t left = std::max<int64_t>(*thread.deadline_ns - now, 0);
    if (int error = call.memory().CopyOut(remaining, ToTimespec(left)); error != 0) return error;
  }
  return kRestartNoHandler;
}

SyscallResult SleepFor(Call& call, int clock, const timespec& time, GuestAddr remaining) {
  if (clock == CLOCK_REALTIME) clock = CLOCK_MONOTONIC;
  if (!call.thread.deadline_ns.has_value()) {
    ClockRef reference = call.process.Clock(clock, call.thread.tid);
    int64_t now = SaturatingAdd(HostClock(reference.host), reference.offset_ns);
    call.thread.deadline_ns = SaturatingAdd(now, ToNanoseconds(time));
  }
  return SleepUntil(call, clock, remaining);
}

// The clock is the host's and everybody's: it can be read, and never set.
SyscallResult Adjust(Call& call, int clock, GuestAddr address) {
  timex state;
  if (int error = call.memory().CopyIn(&state, address); error != 0) return error;
  constexpr unsigned kReadOnly = 0x2000, kAdjtime = 0x8000;  // of adjtime(3)
  if (state.modes & kAdjtime) {
    if (!(state.modes & ADJ_OFFSET)) return -EINVAL;
    if (!(state.modes & kReadOnly)) return -EPERM;
  } else if (state.modes != 0) {
    return -EPERM;
  }
  int64_t result = HostResult(syscall(SYS_clock_adjtime, clock, &state));
  if (result < 0) return result;
  int error = call.memory().CopyOut(address, state);
  return error != 0 ? error : result;
}

bool IsCpuClock(int clock) {
  return clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID ||
         (clock < 0 && (clock & kClockKind) != kClockOfFile);
}

// What is added to the processor time of the host's process or thread.
CpuTime CpuOffset(Call& call, int who) {
  if (who == RUSAGE_SELF) return call.process.cpu_offset();
  return who == RUSAGE_THREAD ? call.thread.cpu_offset : CpuTime{};
}

void AddTo(timeval& time, int64_t nanoseconds) {
  int64_t sum = ToNanoseconds({time.tv_sec, time.tv_usec * 1000}) + nanoseconds;
  timespec wide = ToTimespec(std::max<int64_t>(sum, 0));
  time = {wide.tv_sec, wide.tv_nsec / 1000};
}

}  // namespace

SyscallResult ClockGettime(Call& call) {
  timespec now;
  int clock = call.Int(0);
  ClockRef reference = call.process.Clock(clock, call.thread.tid);
  if (clock_gettime(reference.host, &now) != 0) return -errno;
  int64_t offset = FromHostVdso(call) && !IsCpuClock(clock) ? 0 : reference.offset_ns;
  if (offset != 0) now = ToTimespec(ToNanoseconds(now) + offset);
  return call.memory().CopyOut(call.Addr(1), now);
}

SyscallResult ClockGetres(Call& call) {
  timespec resolution;
  ClockRef reference = call.process.Clock(call.Int(0), call.thread.tid);
  if (clock_getres(reference.host, &resolution) != 0) return -errno;
  return call.Addr(1).null() ? 0 : call.memory().CopyOut(call.Addr(1), resolution);
}

SyscallResult ClockSettime(Call& call) {
  int clock = call.Int(0);
  timespec time;
  ClockRef reference = call.process.Clock(clock, call.thread.tid);
  if (clock != CLOCK_REALTIME && !IsCpuClock(clock)) return -EINVAL;
  if (int error = call.memory().CopyIn(&time, call.Addr(1)); error != 0) return error;
  if (clock == CLOCK_REALTIME) return ValidTime(time) ? -EPERM : -EINVAL;
  return clock_getres(reference.host, &time) != 0 ? -errno : -EPERM;
}

SyscallResult Adjtimex(Call& call) { return Adjust(call, CLOCK_REALTIME, call.Addr(0)); }

SyscallResult ClockAdjtime(Call& call) {
  timespec resolution;
  timex state;
  int clock = call.Int(0);
  if (clock == CLOCK_REALTIME) return Adjust(call, clock, call.Addr(1));
  if (int error = call.memory().CopyIn(&state, call.Addr(1)); error != 0) return error;
  bool known = clock_getres(call.process.Clock(clock, call.thread.tid).host, &resolution) == 0;
  return known || clock < 0 ? -EOPNOTSUPP : -EINVAL;
}

SyscallResult Gettimeofday(Call& call) {
  return HostResult(syscall(SYS_gettimeofday, call.HostArg(0, sizeof(timeval)),
                            call.HostArg(1, sizeof(struct timezone))));
}

SyscallResult Settimeofday(Call& call) {
  timeval time = {};
  struct timezone zone;
  if (!call.Addr(0).null()) {
    if (int error = call.memory().CopyIn(&time, call.Addr(0)); error != 0) return error;
    if (time.tv_usec < 0 || time.tv_usec > 1000000) return -EINVAL;
  }
  if (!call.Addr(1).null()) {
    if (int error = call.memory().CopyIn(&zone, call.Addr(1)); error != 0) return error;
  }
  return !call.Addr(0).null() && time.tv_sec < 0 ? -EINVAL : -EPERM;
}

SyscallResult Time(Call& call) {
  time_t now = time(nullptr);
  if (!call.Addr(0).null()) {
    if (int error = call.memory().CopyOut(call.Addr(0), now); error != 0) return error;
  }
  return now;
}

SyscallResult Times(Call& call) {
  const int64_t tick = kNanosecondsPerSecond / sysconf(_SC_CLK_TCK);
  CpuTime offset = CpuOffset(call, RUSAGE_SELF);
  struct tms spent = {};
  times(&spent);
  spent.tms_utime += offset.user_ns / tick;
  spent.tms_stime += (offset.total_ns - offset.user_ns) / tick;
  if (!call.Addr(0).null()) {
    if (int error = call.memory().CopyOut(call.Addr(0), spent); error != 0) return error;
  }
  // The time since the machine was started, and some.
  return HostResult(syscall(SYS_times, nullptr)) +
         call.process.clock().Offset(CLOCK_MONOTONIC) / tick;
}

SyscallResult Getrusage(Call& call) {
  int who = call.Int(0);
  rusage usage;
  if (syscall(SYS_getrusage, who, &usage) != 0) return -errno;
  CpuTime offset = CpuOffset(call, who);
  AddTo(usage.ru_utime, offset.user_ns);
  AddTo(usage.ru_stime, offset.total_ns - offset.user_ns);
  return call.memory().CopyOut(call.Addr(1), usage);
}

SyscallResult Nanosleep(Call& call) {
  timespec time;
  if (int error = call.memory().CopyIn(&time, call.Addr(0)); error != 0) return error;
  if (!ValidTime(time)) return -EINVAL;
  return SleepFor(call, CLOCK_MONOTONIC, time, call.Addr(1));
}

SyscallResult ClockNanosleep(Call& call) {
  timespec time;
  int clock = call.Int(0);
  if (int error = call.memory().CopyIn(&time, call.Addr(2)); error != 0) return error;
  if (!ValidTime(time)) return -EINVAL;
  // A clock that cannot be slept on has the host say so, with its own error.
  timespec none = {};
  int host = call.process.Clock(clock, call.thread.tid).host;
  if (syscall(SYS_clock_nanosleep, host, TIMER_ABSTIME, &none, nullptr) != 0) return -errno;
  if ((call.Int(1) & TIMER_ABSTIME) == 0) return SleepFor(call, clock, time, call.Addr(3));
  call.thread.deadline_ns = ToNanoseconds(time);
  return SleepUntil(call, clock, GuestAddr(0));
}

}  // namespace km
