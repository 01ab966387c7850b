// Signals. Source: sigaction(2), sigprocmask(2), sigreturn(2), kill(2), sigwaitinfo(2).
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <optional>

#include "km/process/clock.h"
#include "km/signals/siginfo.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/signal_masks.h"

namespace km {
namespace {

siginfo_t FromSelf(Call& call, int sig, int code) {
  return SenderSiginfo(sig, code, static_cast<int32_t>(call.pid()), getuid());
}

// Reads an optional sigset; its size must be the kernel's.
int ReadSet(Call& call, size_t pointer, size_t size, SignalSet* set) {
  if (call.arguments[size] != sizeof(SignalSet)) return -EINVAL;
  return call.memory().CopyIn(set, call.Addr(pointer));
}

int64_t SendTo(Call& call, uint32_t tid, int sig, const siginfo_t& info) {
  if (sig != 0 && !ValidSignal(sig)) return -EINVAL;
  return call.process.SignalThread(tid, info);
}

// To the program or a process beside it, if `pid` names one: its number means another process on
// the host. As natively the id of any thread names its process.
std::optional<int64_t> SendToOwn(Call& call, int pid, int sig, const siginfo_t& info) {
  const uint32_t program = call.process.identity().pid, id = static_cast<uint32_t>(pid);
  const uint32_t to = id == program ? id : call.process.ProcessOf(id);
  if (pid <= 0 || to == 0) return std::nullopt;
  if (to != program) return SendTo(call, to, sig, info);
  if (sig != 0 && !ValidSignal(sig)) return -EINVAL;
  return sig == 0 ? 0 : call.process.Signal(info);
}

// The siginfo of rt_sigqueueinfo: the program says what is in it ...
int ReadInfo(Call& call, size_t index, int sig, siginfo_t* info) {
  *info = {};
  int error = call.memory().CopyIn(info, call.Addr(index), kKernelSiginfoSize);
  if (error != 0) return error;
  info->si_signo = sig;
  if (KnownSiginfoLayout(sig, info->si_code)) return 0;
  std::array<uint8_t, sizeof(siginfo_t) - kKernelSiginfoSize> rest;
  error = call.memory().CopyIn(&rest, call.Addr(index) + kKernelSiginfoSize);
  if (error != 0) return error;
  return std::all_of(rest.begin(), rest.end(), [](uint8_t byte) { return byte == 0; }) ? 0 : -E2BIG;
}

// ... but a thread cannot pose as the kernel to others than itself.
bool Poses(const Call& call, int target, const siginfo_t& info) {
  return target != static_cast<int>(call.thread.tid) &&
         (info.si_code >= 0 || info.si_code == SI_TKILL);
}

}  // namespace

void NoticeSignals(Process& process, Thread& thread) {
  if (process.signals().HasDeliverable(thread.tid)) thread.attention.store(1);
  process.RedirectSignals();
}

SyscallResult RtSigaction(Call& call) {
  int sig = call.Int(0);
  if (call.arguments[3] != sizeof(SignalSet) || !ValidSignal(sig)) return -EINVAL;
  SignalState& signals = call.process.signals();
  SignalAction action, old = signals.Action(sig, call.thread.tid);
  if (!call.Addr(1).null()) {
    if (int error = call.memory().CopyIn(&action, call.Addr(1)); error != 0) return error;
    if (int error = signals.SetAction(sig, action, call.thread.tid); error != 0) return error;
    call.process.timers().SignalDiscarded(sig);
  }
  return call.Addr(2).null() ? 0 : call.memory().CopyOut(call.Addr(2), old);
}

SyscallResult RtSigprocmask(Call& call) {
  if (call.arguments[3] != sizeof(SignalSet)) return -EINVAL;
  SignalState& signals = call.process.signals();
  SignalSet old = signals.Mask(call.thread.tid), set = 0;
  if (!call.Addr(1).null()) {
    if (int error = call.memory().CopyIn(&set, call.Addr(1)); error != 0) return error;
    switch (call.Int(0)) {
      case SIG_BLOCK:
        set |= old;
        break;
      case SIG_UNBLOCK:
        set = old & ~set;
        break;
      case SIG_SETMASK:
        break;
      default:
        return -EINVAL;
    }
    signals.SetMask(call.thread.tid, set);
    NoticeSignals(call.process, call.thread);
  }
  return call.Addr(2).null() ? 0 : call.memory().CopyOut(call.Addr(2), old);
}

SyscallResult RtSigpending(Call& call) {
  if (call.arguments[1] > sizeof(SignalSet)) return -EINVAL;
  SignalState& signals = call.process.signals();
  SignalSet pending = signals.Pending(call.thread.tid) & signals.Mask(call.thread.tid);
  return call.memory().CopyOut(call.Addr(0), &pending, call.arguments[1]);
}

SyscallResult RtSigsuspend(Call& call) {
  SignalSet mask = 0;
  if (int error = ReadSet(call, 0, 1, &mask); error != 0) return error;
  call.process.signals().SetTemporaryMask(call.thread.tid, mask);
  NoticeSignals(call.process, call.thread);
  call.thread.Block(SYS_pause);
  return kRestartNoHandler;
}

SyscallResult Pause(Call& call) {
  call.thread.Block(SYS_pause);
  return kRestartNoHandler;
}

SyscallResult RtSigtimedwait(Call& call) {
  SignalSet set = 0;
  if (int error = ReadSet(call, 0, 3, &set); error != 0) return error;
  Thread& thread = call.thread;
  timespec timeout = {};
  if (!call.Addr(2).null()) {
    if (int error = call.memory().CopyIn(&timeout, call.Addr(2)); error != 0) return error;
    if (!ValidTime(timeout)) return -EINVAL;
    if (!thread.deadline_ns.has_value()) {
      thread.deadline_ns = SaturatingAdd(call.process.clock().Monotonic(), ToNanoseconds(timeout));
    }
  }
  SignalState& signals = call.process.signals();
  std::optional<siginfo_t> info = signals.Wait(thread.tid, set);
  if (!info.has_value()) {
    int64_t result;
    if (thread.deadline_ns.has_value()) {
      timespec until =
          ToTimespec(call.process.clock().ToHost(CLOCK_MONOTONIC, *thread.deadline_ns));
      result = thread.Block(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME,
                            reinterpret_cast<uint64_t>(&until));
    } else {
      result = thread.Block(SYS_pause);
    }
    info = signals.Wait(thread.tid, set);
    signals.EndWait(thread.tid);
    if (!info.has_value()) return result == 0 ? -EAGAIN : kRestartNoHandler;
  }
  call.process.timers().SignalTaken(&*info);
  if (!call.Addr(1).null()) {
    if (int error = call.memory().CopyOut(call.Addr(1), *info); error != 0) return error;
  }
  return info->si_signo;
}

SyscallResult Kill(Call& call) {
  int pid = call.Int(0), sig = call.Int(1);
  const siginfo_t info = FromSelf(call, sig, SI_USER);
  if (std::optional<int64_t> sent = SendToOwn(call, pid, sig, info)) return *sent;
  if (pid > 0) return HostResult(kill(call.process.HostTid(pid), sig));
  if (pid < -1 && pid != INT_MIN) pid = -call.process.ids().HostGroup(-pid);
  int64_t result = HostResult(kill(pid, sig));
  // The program's own share is in its queue when the call returns.
  return {result, result == 0 ? NextAction::kMainThread : NextAction::kContinue};
}

SyscallResult Tkill(Call& call) {
  int tid = call.Int(0), sig = call.Int(1);
  if (tid > 0 && call.process.ProcessOf(call.Uint(0)) != 0) {
    return SendTo(call, call.Uint(0), sig, FromSelf(call, sig, SI_TKILL));
  }
  return HostResult(syscall(SYS_tkill, call.process.HostTid(tid), sig));
}

SyscallResult Tgkill(Call& call) {
  int pid = call.Int(0), tid = call.Int(1), sig = call.Int(2);
  const uint32_t own = call.process.ProcessOf(call.Uint(1));
  if (pid > 0 && tid > 0 && own != 0) {
    if (call.Uint(0) != own) return -ESRCH;
    return SendTo(call, call.Uint(1), sig, FromSelf(call, sig, SI_TKILL));
  }
  int host_pid = call.process.ids().HostProcess(pid);
  return HostResult(syscall(SYS_tgkill, host_pid, call.process.HostTid(tid), sig));
}

SyscallResult RtSigqueueinfo(Call& call) {
  siginfo_t info;
  int pid = call.Int(0), sig = call.Int(1);
  if (int error = ReadInfo(call, 2, sig, &info); error != 0) return error;
  if (Poses(call, pid, info)) return -EPERM;
  if (std::optional<int64_t> sent = SendToOwn(call, pid, sig, info)) return *sent;
  return HostResult(syscall(SYS_rt_sigqueueinfo, call.process.HostTid(pid), sig, &info));
}

SyscallResult RtTgsigqueueinfo(Call& call) {
  siginfo_t info;
  int pid = call.Int(0), tid = call.Int(1), sig = call.Int(2);
  if (int error = ReadInfo(call, 3, sig, &info); error != 0) return error;
  if (pid <= 0 || tid <= 0) return -EINVAL;
  if (Poses(call, tid, info)) return -EPERM;
  if (const uint32_t own = call.process.ProcessOf(call.Uint(1)); own != 0) {
    if (call.Uint(0) != own) return -ESRCH;
    return SendTo(call, call.Uint(1), sig, info);
  }
  int host_pid = call.process.ids().HostProcess(pid);
  return HostResult(
      syscall(SYS_rt_tgsigqueueinfo, host_pid, call.process.HostTid(tid), sig, &info));
}

SyscallResult Sigaltstack(Call& call) {
  Thread& thread = call.thread;
  stack_t old = GetAltStack(thread.alt_stack, thread.registers.rsp);
  if (!call.Addr(0).null()) {
    stack_t wanted;
    if (int error = call.memory().CopyIn(&wanted, call.Addr(0)); error != 0) return error;
    if (int error = SetAltStack(thread.alt_stack, thread.registers.rsp, wanted); error != 0) {
      return error;
    }
  }
  return call.Addr(1).null() ? 0 : call.memory().CopyOut(call.Addr(1), old);
}

// A frame that cannot be read or makes no sense is the program's own fault: SIGSEGV.
SyscallResult RtSigreturn(Call& call) {
  Thread& thread = call.thread;
  const XsaveFormat& format = call.process.xsave_format();
  SignalContext context;
  Registers registers = thread.registers;
  AltStack alt_stack = thread.alt_stack;
  SignalSet mask = 0;
  std::vector<uint8_t> xsave = InitialXsave(format);
  // `ret` of the restorer took the frame's first word off the stack.
  int error = call.memory().CopyIn(&context, GuestAddr(registers.rsp));
  if (error == 0) error = RestoreContext(context, registers, alt_stack, mask);
  if (error == 0 && context.fpstate != 0) {
    xsave.resize(kLegacyFpstateSize);
    error = call.memory().CopyIn(xsave.data(), GuestAddr(context.fpstate), xsave.size());
    size_t rest = error == 0 ? ExtendedFpstateSize(xsave, format) : 0;
    if (rest != 0) {
      xsave.resize(kLegacyFpstateSize + rest);
      error = call.memory().CopyIn(xsave.data() + kLegacyFpstateSize,
                                   GuestAddr(context.fpstate) + kLegacyFpstateSize, rest);
    }
    if (error == 0) error = RestoreFpstate(context.fpstate, format, xsave);
  }
  if (error == 0 && !thread.vcpu->WriteXsave(xsave).ok()) error = -EFAULT;
  if (error != 0) {
    call.process.signals().Force(thread.tid, KernelSiginfo(SIGSEGV));
  } else {
    thread.registers = registers;
    thread.alt_stack = alt_stack;
    call.process.signals().SetMask(thread.tid, mask);
  }
  NoticeSignals(call.process, thread);
  return {0, NextAction::kKeepRegisters};
}

// A call that was interrupted is made again by the monitor; the program can only call this by
// itself.
SyscallResult RestartSyscall(Call&) { return -EINTR; }

}  // namespace km
