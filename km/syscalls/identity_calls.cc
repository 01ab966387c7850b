// Who and where the process is: ids, limits, names, scheduling, the machine.
#include <asm/prctl.h>
#include <linux/capability.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>

#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/transfer.h"

namespace km {
namespace {

// The program's own pid, group and session survive a resume; the host knows them by others.
int64_t GuestPid(Call& call, int64_t host) {
  const Identity& identity = call.process.identity();
  if (host == getpid()) return identity.pid;
  if (host == identity.host_process_group) return identity.process_group;
  return host == identity.host_session ? identity.session : host;
}

bool IsSelf(Call& call, int pid) {
  return pid == 0 || pid == static_cast<int>(call.process.identity().pid);
}

// The host's id of a thread named by the program's: 0 is the caller.
int HostTidArgument(Call& call, size_t index) {
  int tid = call.Int(index);
  return tid <= 0 ? tid : call.process.HostTid(call.Uint(index));
}

int64_t PriorityCall(Call& call, long number, uint64_t second = 0) {
  return HostResult(syscall(number, HostTidArgument(call, 0), second));
}

}  // namespace

SyscallResult Getpid(Call& call) { return call.process.identity().pid; }
SyscallResult Getppid(Call&) { return getppid(); }
SyscallResult Getuid(Call&) { return getuid(); }
SyscallResult Geteuid(Call&) { return geteuid(); }
SyscallResult Getgid(Call&) { return getgid(); }
SyscallResult Getegid(Call&) { return getegid(); }
SyscallResult Getpgrp(Call& call) { return GuestPid(call, getpgrp()); }

SyscallResult Getpgid(Call& call) {
  int64_t result = HostResult(getpgid(IsSelf(call, call.Int(0)) ? 0 : call.Int(0)));
  return GuestPid(call, result);
}

SyscallResult Getsid(Call& call) {
  int64_t result = HostResult(getsid(IsSelf(call, call.Int(0)) ? 0 : call.Int(0)));
  return GuestPid(call, result);
}

SyscallResult Setpgid(Call& call) {
  if (!IsSelf(call, call.Int(0))) return -ESRCH;
  return HostResult(setpgid(0, IsSelf(call, call.Int(1)) ? 0 : call.Int(1)));
}

SyscallResult Setsid(Call& call) { return GuestPid(call, HostResult(setsid())); }

SyscallResult Getgroups(Call& call) {
  uint64_t count = call.Int(0) > 0 ? call.Uint(0) : 0;
  return HostResult(syscall(SYS_getgroups, call.Int(0), call.HostArg(1, count * sizeof(gid_t))));
}

SyscallResult Getresuid(Call& call) {
  return HostResult(
      syscall(SYS_getresuid, call.HostArg(0, 4), call.HostArg(1, 4), call.HostArg(2, 4)));
}

SyscallResult Getresgid(Call& call) {
  return HostResult(
      syscall(SYS_getresgid, call.HostArg(0, 4), call.HostArg(1, 4), call.HostArg(2, 4)));
}

SyscallResult Capget(Call& call) {
  return HostResult(syscall(SYS_capget, call.HostArg(0, sizeof(__user_cap_header_struct)),
                            call.HostArg(1, 2 * sizeof(__user_cap_data_struct))));
}

SyscallResult Uname(Call& call) {
  return HostResult(syscall(SYS_uname, call.HostArg(0, sizeof(utsname))));
}

SyscallResult Sysinfo(Call& call) {
  return HostResult(syscall(SYS_sysinfo, call.HostArg(0, sizeof(struct sysinfo))));
}

SyscallResult Prlimit64(Call& call) {
  if (!IsSelf(call, call.Int(0))) return -EPERM;
  std::optional<rlimit> wanted;
  if (!call.Addr(2).null()) {
    wanted.emplace();
    if (int error = call.memory().CopyIn(&*wanted, call.Addr(2)); error != 0) return error;
  }
  rlimit old;
  if (int error = call.process.Limit(call.Int(1), wanted, &old); error != 0) return error;
  return call.Addr(3).null() ? 0 : call.memory().CopyOut(call.Addr(3), old);
}

SyscallResult Getrlimit(Call& call) {
  rlimit limit;
  if (int error = call.process.Limit(call.Int(0), std::nullopt, &limit); error != 0) return error;
  return call.memory().CopyOut(call.Addr(1), limit);
}

SyscallResult Setrlimit(Call& call) {
  rlimit limit, old;
  if (int error = call.memory().CopyIn(&limit, call.Addr(1)); error != 0) return error;
  return call.process.Limit(call.Int(0), limit, &old);
}

SyscallResult ArchPrctl(Call& call) {
  Thread& thread = call.thread;
  uint64_t value = call.arguments[1];
  switch (call.Int(0)) {
    case ARCH_SET_FS:
    case ARCH_SET_GS: {
      if (value >= call.memory().end()) return -EPERM;
      Vcpu::Base base = call.Int(0) == ARCH_SET_FS ? Vcpu::Base::kFs : Vcpu::Base::kGs;
      return thread.vcpu->WriteBase(base, value).ok() ? 0 : -EINVAL;
    }
    case ARCH_GET_FS:
    case ARCH_GET_GS: {
      if (!thread.vcpu->ReadBases(thread.registers).ok()) return -EINVAL;
      bool fs = call.Int(0) == ARCH_GET_FS;
      return call.memory().CopyOut(call.Addr(1),
                                   fs ? thread.registers.fs_base : thread.registers.gs_base);
    }
    default:
      return -EINVAL;
  }
}

SyscallResult Prctl(Call& call) {
  switch (call.Int(0)) {
    case PR_SET_NAME: {
      char name[16] = {};
      std::string text;
      int error = call.memory().CopyInString(&text, call.Addr(1), sizeof(name));
      if (error == -EFAULT) return error;
      call.process.SetComm(call.thread.tid, text.substr(0, sizeof(name) - 1));
      return 0;
    }
    case PR_GET_NAME: {
      char name[16] = {};
      call.process.Comm(call.thread.tid).copy(name, sizeof(name) - 1);
      return call.memory().CopyOut(call.Addr(1), name);
    }
    case PR_SET_VMA:
      return PrctlSetVma(call);
    case PR_GET_PDEATHSIG:
      return HostResult(syscall(SYS_prctl, PR_GET_PDEATHSIG, call.HostArg(1, sizeof(int))));
    case PR_SET_PDEATHSIG:
    case PR_GET_DUMPABLE:
    case PR_SET_DUMPABLE:
    case PR_GET_NO_NEW_PRIVS:
    case PR_SET_NO_NEW_PRIVS:
    case PR_GET_TIMERSLACK:
    case PR_SET_TIMERSLACK:
    case PR_CAPBSET_READ:
    case PR_GET_KEEPCAPS:
    case PR_GET_SECUREBITS:
      return HostResult(syscall(SYS_prctl, call.Int(0), call.arguments[1], call.arguments[2],
                                call.arguments[3], call.arguments[4]));
    default:
      return -EINVAL;
  }
}

SyscallResult Personality(Call& call) {
  constexpr uint32_t kQuery = 0xffffffff;
  return call.Uint(0) == kQuery || call.Uint(0) == PER_LINUX ? PER_LINUX : -EINVAL;
}

SyscallResult Getrandom(Call& call) {
  return call.thread.Block(SYS_getrandom, Buffer(call, call.arguments[0], call.arguments[1]),
                           call.arguments[1], call.arguments[2]);
}

SyscallResult Getcpu(Call& call) {
  return HostResult(syscall(SYS_getcpu, call.HostArg(0, 4), call.HostArg(1, 4), 0));
}

SyscallResult SchedYield(Call&) { return HostResult(sched_yield()); }

SyscallResult SchedGetaffinity(Call& call) {
  return HostResult(syscall(SYS_sched_getaffinity, HostTidArgument(call, 0), call.arguments[1],
                            call.HostArg(2, call.Uint(1))));
}

SyscallResult SchedSetaffinity(Call& call) {
  return HostResult(syscall(SYS_sched_setaffinity, HostTidArgument(call, 0), call.arguments[1],
                            call.HostArg(2, call.Uint(1))));
}

SyscallResult SchedGetparam(Call& call) {
  return PriorityCall(call, SYS_sched_getparam, call.HostArg(1, sizeof(sched_param)));
}
SyscallResult SchedGetscheduler(Call& call) { return PriorityCall(call, SYS_sched_getscheduler); }

SyscallResult SchedSetparam(Call& call) {
  return PriorityCall(call, SYS_sched_setparam, call.HostArg(1, sizeof(sched_param)));
}
SyscallResult SchedSetscheduler(Call& call) {
  return HostResult(syscall(SYS_sched_setscheduler, HostTidArgument(call, 0), call.Int(1),
                            call.HostArg(2, sizeof(sched_param))));
}
SyscallResult SchedRrGetInterval(Call& call) {
  return PriorityCall(call, SYS_sched_rr_get_interval, call.HostArg(1, sizeof(timespec)));
}

SyscallResult SchedGetPriorityMax(Call& call) {
  return HostResult(sched_get_priority_max(call.Int(0)));
}
SyscallResult SchedGetPriorityMin(Call& call) {
  return HostResult(sched_get_priority_min(call.Int(0)));
}

SyscallResult Getpriority(Call& call) {
  if (call.Int(0) != PRIO_PROCESS || !IsSelf(call, call.Int(1))) return -ESRCH;
  return HostResult(syscall(SYS_getpriority, PRIO_PROCESS, 0));
}

SyscallResult Setpriority(Call& call) {
  if (call.Int(0) != PRIO_PROCESS || !IsSelf(call, call.Int(1))) return -ESRCH;
  return HostResult(syscall(SYS_setpriority, PRIO_PROCESS, 0, call.Int(2)));
}

// The host's barrier reaches a processor that runs a guest thread as an interrupt, which is one. It
// keeps the registrations, too: the monitor makes none of its own.
SyscallResult Membarrier(Call& call) {
  return HostResult(syscall(SYS_membarrier, call.Int(0), call.Uint(1), call.Int(2)));
}

}  // namespace km
