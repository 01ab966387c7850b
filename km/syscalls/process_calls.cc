// The process among others: ids, groups and sessions, children, pidfds. Source: credentials(7),
// setpgid(2), wait(2), pidfd_open(2).
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <memory>

#include "km/files/pidfd.h"
#include "km/signals/siginfo.h"
#include "km/syscalls/companion_calls.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/paths.h"

namespace km {
namespace {

// A descriptor that is open nowhere.
constexpr int kNoFd = INT_MAX;

// Where a group is asked for or entered.
int64_t GuestGroupOf(Call& call, int64_t host) {
  return host < 0 ? host : call.process.ids().GuestGroup(static_cast<int>(host));
}

int64_t Moved(Call& call, int64_t result) {
  if (result >= 0) call.process.ids().Moved();
  return result;
}

int64_t SignalSelf(Call& call, int sig) {
  siginfo_t info = SenderSiginfo(sig, SI_USER, static_cast<int32_t>(call.pid()), getuid());
  if (!call.Addr(2).null()) {
    if (int error = call.memory().CopyIn(&info, call.Addr(2)); error != 0) return error;
    if (info.si_signo != sig) return -EINVAL;
    bool first = call.thread.tid == call.process.identity().pid;
    if (!first && (info.si_code >= 0 || info.si_code == SI_TKILL)) return -EPERM;
  }
  if (sig != 0 && !ValidSignal(sig)) return -EINVAL;
  return sig == 0 ? 0 : call.process.Signal(info);
}

}  // namespace

SyscallResult Getpid(Call& call) { return call.pid(); }

SyscallResult Getppid(Call& call) {
  if (call.thread.companion != nullptr) return call.process.identity().pid;
  return getppid();
}

SyscallResult Getpgrp(Call& call) { return GuestGroupOf(call, getpgrp()); }

SyscallResult Getpgid(Call& call) {
  return GuestGroupOf(call, HostResult(getpgid(call.process.HostTid(call.Int(0)))));
}

SyscallResult Getsid(Call& call) {
  int64_t host = HostResult(getsid(call.process.HostTid(call.Int(0))));
  return host < 0 ? host : call.process.ids().GuestSession(static_cast<int>(host));
}

// Of a thread that is not the first the host knows that it is no process.
SyscallResult Setpgid(Call& call) {
  int pid = call.Int(0), first = static_cast<int>(call.process.identity().pid);
  pid = pid == first ? getpid() : call.process.HostTid(pid);
  return Moved(call, HostResult(setpgid(pid, call.process.ids().HostGroup(call.Int(1)))));
}

SyscallResult Setsid(Call& call) { return GuestGroupOf(call, Moved(call, HostResult(setsid()))); }

// The writer of a live snapshot is a child without an exit signal, of the main thread. The program
// does not find it: it has no such children of its own.
uint64_t WithoutWriter(uint64_t options) {
  if (options & __WALL) return options & ~uint64_t{__WALL | __WCLONE};
  return options & __WCLONE ? options | __WNOTHREAD : options;
}

// A child that the monitor was started with is the program's. Those that share its memory have no
// exit signal, and are waited for one by one.
SyscallResult Wait4(Call& call) {
  int pid = call.Int(0);
  if (pid > 0 && call.thread.companion != nullptr) return WaitForTraced(call);
  // Looked for once: another thread may have waited for it meanwhile.
  const std::shared_ptr<Companion> companion = call.process.FindCompanion(call.Uint(0));
  if (companion != nullptr) return WaitForCompanion(call, *companion);
  if (pid > 0) pid = call.process.HostTid(pid);
  if (pid < -1 && pid != INT_MIN) pid = -call.process.ids().HostGroup(-pid);
  return call.thread.Block(SYS_wait4, static_cast<uint64_t>(pid), call.HostArg(1, sizeof(int)),
                           WithoutWriter(call.arguments[2]), call.HostArg(3, sizeof(rusage)));
}

SyscallResult Waitid(Call& call) {
  int id = call.Int(1);
  std::shared_ptr<OpenFile> file;
  switch (call.Int(0)) {
    case P_PID:
      id = call.process.HostTid(id);
      break;
    case P_PGID:
      id = call.process.ids().HostGroup(id);
      break;
    case P_PIDFD:
      file = FileArg(call, 1);
      if (id >= 0) id = file != nullptr ? file->host.get() : kNoFd;
      break;
    default:
      break;
  }
  return call.thread.Block(SYS_waitid, call.arguments[0], static_cast<uint64_t>(id),
                           call.HostArg(2, sizeof(siginfo_t)), WithoutWriter(call.arguments[3]),
                           call.HostArg(4, sizeof(rusage)));
}

// The first thread's pidfd is the process's. One of another thread (PIDFD_THREAD) would tell of a
// host thread, which may outlive it.
SyscallResult PidfdOpen(Call& call) {
  int pid = call.Int(0), first = static_cast<int>(call.process.identity().pid);
  bool own = pid > 0 && (pid == first || call.process.HasThread(call.Uint(0)));
  if (own && (call.Uint(1) & O_EXCL)) return -EINVAL;
  pid = pid == first ? getpid() : call.process.HostTid(pid);
  int64_t fd = HostResult(syscall(SYS_pidfd_open, pid, call.Uint(1)));
  if (fd < 0) return fd;
  return call.process.files().Add(static_cast<int>(fd), FileKind::kPidFd, "", true);
}

SyscallResult PidfdSendSignal(Call& call) {
  auto file = FileArg(call, 0);
  auto fd = file != nullptr ? HostFd(file) : uint64_t{kNoFd};
  if (file != nullptr && call.Uint(3) == 0 && PidfdProcess(file->host.get()) == getpid()) {
    return SignalSelf(call, call.Int(1));
  }
  int64_t result = HostResult(syscall(SYS_pidfd_send_signal, fd, call.Int(1),
                                      call.HostArg(2, sizeof(siginfo_t)), call.Uint(3)));
  // It may have been to the program's own group.
  return {result, result == 0 ? NextAction::kMainThread : NextAction::kContinue};
}

// Out of another process it takes the right to trace that one, which may be another monitor.
SyscallResult PidfdGetfd(Call& call) {
  if (call.Uint(2) != 0) return -EINVAL;
  auto file = FileArg(call, 0);
  int pid = file != nullptr ? PidfdProcess(file->host.get()) : 0;
  if (pid == 0) return -EBADF;
  if (pid < 0) return -ESRCH;
  if (pid != getpid()) return -EPERM;
  auto from = FileArg(call, 1);
  if (from == nullptr) return -EBADF;
  ReservedFd reserved(call.process.files());
  if (reserved.error() != 0) return reserved.error();
  int copy = fcntl(from->host.get(), F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return -errno;
  return reserved.Fill(std::make_shared<OpenFile>(OwnedFd(copy), from->description), true);
}

}  // namespace km
