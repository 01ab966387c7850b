// Scheduling: a guest thread is scheduled as its host thread is. Source: sched(7), setpriority(2),
// ioprio_set(2), sched_setaffinity(2).
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"

namespace km {
namespace {

// linux/ioprio.h, which C++ does not take.
constexpr int kIoprioProcess = 1, kIoprioGroup = 2;

bool IsFirst(const Call& call, int tid) {
  uint32_t first = call.process.identity().pid;
  return tid == 0 ? call.thread.tid == first : tid == static_cast<int>(first);
}

// The main thread is what the host shows as the process, and counts in its group: it gets the
// priority of the program's first thread.
void MainFollows(Call& call) {
  FollowScheduling(call.process.HostTid(static_cast<int>(call.process.identity().pid)));
}

// The program has set it for itself: a snapshot carries it from now on.
void Noted(Call& call, long number) {
  call.process.changed_settings().Note(number == SYS_sched_setaffinity ? Setting::kProcessors
                                       : number == SYS_ioprio_set      ? Setting::kIoPriority
                                                                       : Setting::kScheduling);
  call.process.HostThreadsDiffer();
}

bool IsOwn(const Call& call, int tid) {
  return tid == 0 || call.process.HasThread(static_cast<uint32_t>(tid));
}

// A host call about the thread in argument 0 that changes how it is scheduled.
int64_t Change(Call& call, long number, uint64_t second, uint64_t third) {
  int64_t result = HostResult(syscall(number, call.process.HostTid(call.Int(0)), second, third));
  if (result != 0 || !IsOwn(call, call.Int(0))) return result;
  Noted(call, number);
  if (IsFirst(call, call.Int(0)) && number != SYS_sched_setaffinity) MainFollows(call);
  return 0;
}

int64_t Ask(Call& call, long number, uint64_t second = 0, uint64_t third = 0, uint64_t fourth = 0) {
  return HostResult(syscall(number, call.process.HostTid(call.Int(0)), second, third, fourth));
}

// Whom getpriority and ioprio_get mean: `process` and `group` are what they call these.
int Who(Call& call, int process, int group) {
  if (call.Int(0) == process) return call.process.HostTid(call.Int(1));
  if (call.Int(0) == group) return call.process.ids().HostGroup(call.Int(1));
  return call.Int(1);
}

int64_t ChangeWho(Call& call, long number, int process, int group) {
  int64_t result = HostResult(syscall(number, call.Int(0), Who(call, process, group), call.Int(2)));
  if (result != 0 || (call.Int(0) == process && !IsOwn(call, call.Int(1)))) return result;
  Noted(call, number);
  if (call.Int(0) == process && IsFirst(call, call.Int(1))) MainFollows(call);
  return 0;
}

}  // namespace

SyscallResult SchedYield(Call&) { return HostResult(sched_yield()); }

SyscallResult SchedGetaffinity(Call& call) {
  return Ask(call, SYS_sched_getaffinity, call.Uint(1), call.HostArg(2, call.Uint(1)));
}
SyscallResult SchedSetaffinity(Call& call) {
  return Change(call, SYS_sched_setaffinity, call.Uint(1), call.HostArg(2, call.Uint(1)));
}

SyscallResult SchedGetparam(Call& call) {
  return Ask(call, SYS_sched_getparam, call.HostArg(1, sizeof(sched_param)));
}
SyscallResult SchedSetparam(Call& call) {
  return Change(call, SYS_sched_setparam, call.HostArg(1, sizeof(sched_param)), 0);
}

SyscallResult SchedGetscheduler(Call& call) { return Ask(call, SYS_sched_getscheduler); }
SyscallResult SchedSetscheduler(Call& call) {
  return Change(call, SYS_sched_setscheduler, call.Uint(1), call.HostArg(2, sizeof(sched_param)));
}

// The structure says itself how long it is; the kernel takes no more than a page.
SyscallResult SchedGetattr(Call& call) {
  return Ask(call, SYS_sched_getattr, call.HostArg(1, kPageSize), call.Uint(2), call.Uint(3));
}
SyscallResult SchedSetattr(Call& call) {
  return Change(call, SYS_sched_setattr, call.HostArg(1, kPageSize), call.Uint(2));
}

SyscallResult SchedRrGetInterval(Call& call) {
  return Ask(call, SYS_sched_rr_get_interval, call.HostArg(1, sizeof(timespec)));
}

SyscallResult SchedGetPriorityMax(Call& call) {
  return HostResult(sched_get_priority_max(call.Int(0)));
}
SyscallResult SchedGetPriorityMin(Call& call) {
  return HostResult(sched_get_priority_min(call.Int(0)));
}

SyscallResult Getpriority(Call& call) {
  int who = Who(call, PRIO_PROCESS, PRIO_PGRP);
  return HostResult(syscall(SYS_getpriority, call.Int(0), who));
}
SyscallResult Setpriority(Call& call) {
  return ChangeWho(call, SYS_setpriority, PRIO_PROCESS, PRIO_PGRP);
}

SyscallResult IoprioGet(Call& call) {
  int who = Who(call, kIoprioProcess, kIoprioGroup);
  return HostResult(syscall(SYS_ioprio_get, call.Int(0), who));
}
SyscallResult IoprioSet(Call& call) {
  return ChangeWho(call, SYS_ioprio_set, kIoprioProcess, kIoprioGroup);
}

}  // namespace km
