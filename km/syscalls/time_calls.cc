// Clocks, sleeping and interval timers.
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <unistd.h>

#include <cerrno>

#include "km/process/clock.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"

namespace km {
namespace {

constexpr int kNoClock = 999;  // the host answers EINVAL

bool ValidTime(const timespec& time) {
  return time.tv_sec >= 0 && time.tv_nsec >= 0 && time.tv_nsec < kNanosecondsPerSecond;
}

// The host's vDSO makes the call for clocks that it cannot read itself; our entry point in front of
// it adds the offset.
bool FromHostVdso(const Call& call) {
  uint64_t rip = call.thread.registers.rip;
  return rip >= KM_HOST_VDSO_BASE && rip < KM_RUNTIME_END;
}

// A clock of a thread of ours (pthread_getcpuclockid(3)) by the id that the host knows it by. In
// the kernel's encoding ~id is in the bits above the third; bit 2 says that it is a thread's.
int HostClockId(const Call& call, int clock) {
  constexpr int kOfDescriptor = 3;  // CLOCKFD: a number that the host would take for its own
  if (clock >= 0) return clock;
  if ((clock & 7) == kOfDescriptor) return kNoClock;
  int id = ~(clock >> 3);
  if (id == 0) return clock;
  int host = (clock & 4) ? call.process.HostTid(static_cast<uint32_t>(id))
             : id == static_cast<int>(call.process.identity().pid) ? getpid()
                                                                   : id;
  return static_cast<int>(~static_cast<uint32_t>(host) << 3) | (clock & 7);
}

// Sleeps until `deadline` (host time of `clock`). 0, kKicked or a negative errno.
int64_t SleepUntil(Thread& thread, int clock, int64_t deadline_ns) {
  timespec until = ToTimespec(deadline_ns);
  return thread.Block(SYS_clock_nanosleep, static_cast<uint64_t>(clock), TIMER_ABSTIME,
                      reinterpret_cast<uint64_t>(&until));
}

SyscallResult SleepFor(Call& call, const timespec& time, GuestAddr remaining) {
  Thread& thread = call.thread;
  const GuestClock& clock = call.process.clock();
  if (!thread.deadline_ns.has_value()) {
    thread.deadline_ns = SaturatingAdd(clock.Monotonic(), ToNanoseconds(time));
  }
  int64_t result =
      SleepUntil(thread, CLOCK_MONOTONIC, clock.ToHost(CLOCK_MONOTONIC, *thread.deadline_ns));
  if (result != kKicked) return result;
  if (!remaining.null()) {
    int64_t left = std::max<int64_t>(*thread.deadline_ns - clock.Monotonic(), 0);
    if (int error = call.memory().CopyOut(remaining, ToTimespec(left)); error != 0) return error;
  }
  return kRestartNoHandler;
}

}  // namespace

SyscallResult ClockGettime(Call& call) {
  timespec now;
  int clock = call.Int(0);
  if (clock_gettime(HostClockId(call, clock), &now) != 0) return -errno;
  int64_t offset = FromHostVdso(call) ? 0 : call.process.clock().Offset(clock);
  if (offset != 0) now = ToTimespec(ToNanoseconds(now) + offset);
  return call.memory().CopyOut(call.Addr(1), now);
}

SyscallResult ClockGetres(Call& call) {
  timespec resolution;
  if (clock_getres(HostClockId(call, call.Int(0)), &resolution) != 0) return -errno;
  return call.Addr(1).null() ? 0 : call.memory().CopyOut(call.Addr(1), resolution);
}

SyscallResult Gettimeofday(Call& call) {
  return HostResult(syscall(SYS_gettimeofday, call.HostArg(0, sizeof(timeval)),
                            call.HostArg(1, sizeof(struct timezone))));
}

SyscallResult Time(Call& call) {
  time_t now = time(nullptr);
  if (!call.Addr(0).null()) {
    if (int error = call.memory().CopyOut(call.Addr(0), now); error != 0) return error;
  }
  return now;
}

SyscallResult Times(Call& call) {
  return HostResult(syscall(SYS_times, call.HostArg(0, sizeof(tms))));
}

SyscallResult Nanosleep(Call& call) {
  timespec time;
  if (int error = call.memory().CopyIn(&time, call.Addr(0)); error != 0) return error;
  return ValidTime(time) ? SleepFor(call, time, call.Addr(1)) : SyscallResult(-EINVAL);
}

SyscallResult ClockNanosleep(Call& call) {
  timespec time;
  int clock = call.Int(0);
  if (int error = call.memory().CopyIn(&time, call.Addr(2)); error != 0) return error;
  if (!ValidTime(time)) return -EINVAL;
  bool absolute = call.Int(1) & TIMER_ABSTIME;
  // A relative sleep is on CLOCK_MONOTONIC for either of these, as in the kernel.
  if (!absolute && (clock == CLOCK_MONOTONIC || clock == CLOCK_REALTIME)) {
    return SleepFor(call, time, call.Addr(3));
  }
  int host_clock = HostClockId(call, clock);
  int64_t deadline = call.process.clock().ToHost(clock, ToNanoseconds(time));
  if (!absolute) {
    timespec now;
    if (clock_gettime(host_clock, &now) != 0) return -errno;
    deadline = SaturatingAdd(ToNanoseconds(now), ToNanoseconds(time));
  }
  int64_t result = SleepUntil(call.thread, host_clock, deadline);
  return result == kKicked ? kRestartNoHandler : result;
}

// The host's timers: their signals reach the monitor and from there the program.
SyscallResult Getitimer(Call& call) {
  return HostResult(syscall(SYS_getitimer, call.Int(0), call.HostArg(1, sizeof(itimerval))));
}

SyscallResult Setitimer(Call& call) {
  return HostResult(syscall(SYS_setitimer, call.Int(0), call.HostArg(1, sizeof(itimerval)),
                            call.HostArg(2, sizeof(itimerval))));
}

SyscallResult Alarm(Call& call) { return alarm(call.Uint(0)); }

}  // namespace km
