#include "km/syscalls/companion_calls.h"

#include <elf.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>

#include "km/signals/siginfo.h"
#include "km/syscalls/handlers.h"

namespace km {
namespace {

static_assert(sizeof(user_regs_struct) == sizeof(Registers));

// Waits for a futex word of the monitor's to leave `value`. False: interrupted.
bool AwaitChange(Thread& thread, std::atomic<uint32_t>& word, uint32_t value) {
  while (word.load() == value) {
    int64_t result =
        thread.Block(SYS_futex, reinterpret_cast<uint64_t>(&word), FUTEX_WAIT_PRIVATE, value, 0);
    if (result == kRestart) return word.load() != value;
  }
  return true;
}

int64_t Waited(Call& call, int status, const rusage& usage) {
  if (!call.Addr(3).null()) {
    if (int error = call.memory().CopyOut(call.Addr(3), usage); error != 0) return error;
  }
  if (!call.Addr(1).null()) {
    if (int error = call.memory().CopyOut(call.Addr(1), status); error != 0) return error;
  }
  return call.Int(0);
}

constexpr uint64_t kWaitsForClones = uint64_t{__WALL} | __WCLONE;

}  // namespace

int64_t WaitForCompanion(Call& call, Companion& companion) {
  if ((call.arguments[2] & kWaitsForClones) == 0) return -ECHILD;
  if ((call.arguments[2] & WNOHANG) && companion.ended.load() == 0) return 0;
  if (!AwaitChange(call.thread, companion.ended, 0)) return kRestart;
  if (!call.process.ForgetCompanion(call.Uint(0))) return -ECHILD;
  return Waited(call, companion.status, companion.usage);
}

// For a thread that the caller, a process beside the program, traces.
int64_t WaitForTraced(Call& call) {
  const std::shared_ptr<Trace> trace = call.process.FindTrace(call.thread, call.Uint(0));
  if (trace == nullptr || (call.arguments[2] & kWaitsForClones) == 0) return -ECHILD;
  const uint32_t before = trace->told ? Trace::kStopped : Trace::kAsked;
  if ((call.arguments[2] & WNOHANG) && trace->state.load() == before) return 0;
  if (!AwaitChange(call.thread, trace->state, before)) return kRestart;
  trace->told = true;
  if (trace->state.load() == Trace::kStopped) return Waited(call, W_STOPCODE(SIGSTOP), {});
  call.process.Detach(call.Uint(0));
  return Waited(call, trace->exit_status, {});
}

namespace {

// PTRACE_GETREGSET: as much of it as the caller has room for.
int64_t GetRegisterSet(Call& call, const StoppedState& thread) {
  iovec wanted;
  if (int error = call.memory().CopyIn(&wanted, call.Addr(3)); error != 0) return error;
  const void* set = nullptr;
  size_t size = 0;
  if (call.arguments[2] == NT_PRSTATUS) {
    set = &thread.registers;
    size = sizeof(user_regs_struct);
  } else if (call.arguments[2] == NT_X86_XSTATE) {
    set = thread.xsave.data();
    size = thread.xsave.size();
  }
  if (set == nullptr || wanted.iov_len % sizeof(uint64_t) != 0) return -EINVAL;
  wanted.iov_len = std::min(wanted.iov_len, size);
  const GuestAddr to(reinterpret_cast<uint64_t>(wanted.iov_base));
  if (int error = call.memory().CopyOut(to, set, wanted.iov_len); error != 0) return error;
  return call.memory().CopyOut(call.Addr(3), wanted);
}

// The memory is the caller's own: gperftools' heap checker makes sure of that.
int64_t Peek(Call& call) {
  uint64_t word = 0;
  if (call.memory().CopyIn(&word, call.Addr(2)) != 0) return -EIO;
  return call.memory().CopyOut(call.Addr(3), word);
}

int64_t Detach(Call& call, uint32_t tid, int sig) {
  if (sig != 0 && !ValidSignal(sig)) return -EIO;
  if (sig != 0) {
    (void)call.process.SignalThread(
        tid, SenderSiginfo(sig, SI_USER, static_cast<int32_t>(call.pid()), getuid()));
  }
  call.process.Detach(tid);
  return 0;
}

}  // namespace

// Nobody but a process beside the program may look into it, and nobody into anything else.
SyscallResult Ptrace(Call& call) {
  if (call.thread.companion == nullptr) return -EPERM;
  const uint32_t tid = call.Uint(1);
  const auto request = call.arguments[0];
  if (request == PTRACE_ATTACH) return call.process.Attach(call.thread, tid);
  if (request == PTRACE_TRACEME || request == PTRACE_SEIZE) return -EPERM;
  const std::optional<StoppedState> thread = call.process.Stopped(call.thread, tid);
  if (!thread.has_value()) return -ESRCH;
  switch (request) {
    case PTRACE_DETACH:
      return Detach(call, tid, static_cast<int>(call.arguments[3]));
    case PTRACE_KILL:
      return Detach(call, tid, SIGKILL);
    case PTRACE_PEEKTEXT:
    case PTRACE_PEEKDATA:
      return Peek(call);
    case PTRACE_GETREGS:
      return call.memory().CopyOut(call.Addr(3), &thread->registers, sizeof(user_regs_struct));
    case PTRACE_GETREGSET:
      return GetRegisterSet(call, *thread);
    default:
      return -EIO;
  }
}

}  // namespace km
