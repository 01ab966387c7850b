// What a host thread does with a guest thread: enter, serve the exit, deliver signals, go round.
// The states are drawn in docs/vcpu-states.md.
#include <km/layout.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_format.h"
#include "km/base/log.h"
#include "km/monitor/monitor.h"
#include "km/process/host_signals.h"
#include "km/signals/siginfo.h"
#include "km/syscalls/signal_masks.h"
#include "km/syscalls/thread_exit.h"

namespace km {
namespace {

constexpr uint64_t kTrapFlag = 0x100;
constexpr uint8_t kInterruptOpcode = 0xcd;
constexpr uint64_t kIdtBit = 2;  // of an error code: the selector is an index of the IDT
// Another thread may just be changing the mapping; so often in a row it is not.
constexpr int kMaxHostFaults = 1000;

// Neither a signal frame nor a snapshot may hold an address inside the pages that this km supplies:
// the addresses inside a function are not promised to a later one.
bool InRuntime(const Thread& thread) {
  return thread.registers.rip >= KM_RUNTIME_BASE && thread.registers.rip < KM_RUNTIME_END;
}

// One without a vCPU has none.
void ClearExitRequest(Thread& thread) {
  if (thread.vcpu != nullptr) thread.vcpu->ClearExitRequest();
}

bool IsRestart(int64_t value) {
  return value == kRestart || value == kRestartAlways || value == kRestartNoHandler;
}

}  // namespace

void Monitor::ThreadMain(Thread& thread) {
  if (thread.vcpu != nullptr) {
    if (absl::Status status = process_->LoadState(thread); !status.ok()) FailIn(thread, status);
  }
  while (Step(thread) == Next::kRun) {
  }
}

Monitor::Next Monitor::Step(Thread& thread) {
  if (thread.attention.load() != 0) {
    if (!InRuntime(thread) || thread.in_call || thread.forced != 0) {
      if (Attend(thread) == Next::kLeave) return Next::kLeave;
    } else {
      // A few instructions and it is out. A program that steps itself has set the flag, which
      // stays, and gets its traps: with the next one this thread is attended to.
      ClearExitRequest(thread);
      if ((thread.registers.eflags & kTrapFlag) == 0) thread.stepping = true;
      thread.registers.eflags |= kTrapFlag;
    }
  }
  return thread.in_call ? Dispatch(thread) : EnterGuest(thread);
}

// Somebody wants this thread. The request is forgotten before it is looked for, so that one that
// comes now is seen in the next round.
Monitor::Next Monitor::Attend(Thread& thread) {
  ClearExitRequest(thread);
  thread.attention.store(0);
  const int forced = std::exchange(thread.forced, 0);
  if (thread.stepping) {
    thread.stepping = false;
    thread.registers.eflags &= ~kTrapFlag;
  }
  // The handler of a fault comes first, for what the processor told of it is in its frame and in no
  // snapshot; of a fault in the runtime's pages the default action too, so that rip is outside.
  const bool handled = forced != 0 && !process_->signals().Action(forced, thread.tid).is_default();
  if ((handled || InRuntime(thread)) && !thread.in_call && DeliverSignals(thread) == Next::kLeave) {
    return Next::kLeave;
  }
  process_->ParkWhilePaused(thread);
  Next next = DeliverSignals(thread);
  process_->RedirectSignals();
  return next;
}

Monitor::Next Monitor::EnterGuest(Thread& thread) {
  if (thread.vcpu == nullptr) {
    if (absl::Status status = process_->GiveVcpu(thread); !status.ok()) FailIn(thread, status);
    return Next::kRun;
  }
  int64_t begin = stats_ != nullptr ? HostClock(CLOCK_MONOTONIC) : 0;
  VcpuExit exit = thread.vcpu->Run(thread.registers);
  if (stats_ != nullptr) stats_->CountExit(exit, HostClock(CLOCK_MONOTONIC) - begin);
  if (exit.kind != VcpuExit::Kind::kHostFault) thread.host_faults = 0;
  switch (exit.kind) {
    case VcpuExit::Kind::kSystemCall:
      CountSite(thread);
      return Dispatch(thread);
    case VcpuExit::Kind::kUserOut:
      return UserOut(thread);
    case VcpuExit::Kind::kException:
      if (exit.vector == kVectorPageFault) {
        PageFault(thread, exit);
      } else {
        Exception(thread, exit);
      }
      return Next::kRun;
    case VcpuExit::Kind::kInterrupted:
      // The kick came through without its flag only when it was for the round before.
      thread.vcpu->ClearExitRequest();
      return Next::kRun;
    case VcpuExit::Kind::kHostFault:
      HostFault(thread);
      return Next::kRun;
    case VcpuExit::Kind::kStrayPort:
      ForceSignal(thread, KernelSiginfo(SIGSEGV));
      return Next::kRun;
    case VcpuExit::Kind::kFailed:
      break;
  }
  const bool no_thread = exit.reason == 0 && exit.detail == EAGAIN;
  RequestFailure(
      absl::StrFormat("KVM cannot go on: exit reason %d, detail %d, at address %#x of thread %d%s",
                      exit.reason, exit.detail, thread.registers.rip, thread.tid,
                      no_thread ? " (this user may have no more processes)" : ""));
  Stay(thread);
}

// A `syscall` that is often made becomes an `out` (docs/decisions/0018).
void Monitor::CountSite(Thread& thread) {
  const uint64_t site = thread.registers.rip - kSyscallInstructionSize;
  if (thread.sites.Count(site) == SyscallSites::kHot && process_->space().PatchSyscall(site)) {
    thread.sites.SetPatched(site);
  }
}

// One of those, or an `out` of the program's own, which natively is a protection fault.
Monitor::Next Monitor::UserOut(Thread& thread) {
  Registers& registers = thread.registers;
  const uint64_t site = registers.rip - kSyscallInstructionSize;
  if (!thread.sites.IsPatched(site)) {
    if (!process_->space().IsPatched(site)) {
      registers.rip = site;
      if (process_->space().IsSyscall(site)) return Next::kRun;
      thread.fault = {kVectorProtection, 0, thread.fault.address};
      ForceSignal(thread, KernelSiginfo(SIGSEGV));
      return Next::kRun;
    }
    thread.sites.SetPatched(site);
  }
  registers.orig_rax = registers.rax;
  registers.rcx = registers.rip;
  registers.r11 = registers.eflags;
  return Dispatch(thread);
}

void Monitor::PageFault(Thread& thread, const VcpuExit& exit) {
  FaultOutcome outcome = process_->space().Fault(exit.fault_address, exit.error_code);
  if (outcome.signal == 0) return;
  thread.fault = {exit.vector, exit.error_code, exit.fault_address};
  ForceSignal(thread, FaultSiginfo(outcome.signal, outcome.code, exit.fault_address));
}

// The host refused a page that the guest's tables grant. Mostly it lies behind the end of a file,
// and the fault comes again with its address. Where it does not, the address stays unknown.
void Monitor::HostFault(Thread& thread) {
  process_->space().HostFault();
  if (++thread.host_faults < kMaxHostFaults) return;
  thread.host_faults = 0;
  Log(LogLevel::kInfo, "the host refuses a page of the program for no reason known here");
  ForceSignal(thread, FaultSiginfo(SIGBUS, BUS_ADRERR, thread.registers.rip));
}

void Monitor::Exception(Thread& thread, const VcpuExit& exit) {
  if (exit.vector == kVectorDebug && thread.stepping) return;
  if (exit.vector == kVectorProtection &&
      process_->space().TakeRefusedPatchesBack(thread.registers.rip)) {
    return;
  }
  thread.fault = {exit.vector, exit.error_code, thread.fault.address};
  // Some backends report `int n` as an invalid opcode: natively it is a protection fault.
  std::array<uint8_t, 2> code = {};
  if (exit.vector == kVectorInvalidOpcode &&
      process_->memory().CopyIn(&code, GuestAddr(thread.registers.rip)) == 0 &&
      code[0] == kInterruptOpcode) {
    thread.fault.vector = kVectorProtection;
    thread.fault.error_code = uint64_t{code[1]} << 3 | kIdtBit;
    return ForceSignal(thread, KernelSiginfo(SIGSEGV));
  }
  std::vector<uint8_t> xsave;
  if (exit.vector == kVectorX87 || exit.vector == kVectorSimd) {
    if (absl::StatusOr<std::vector<uint8_t>> area = thread.vcpu->ReadXsave(); area.ok()) {
      xsave = *std::move(area);
    }
  }
  ForceSignal(thread, ExceptionSiginfo(exit.vector, thread.registers, xsave));
}

Monitor::Next Monitor::Dispatch(Thread& thread) {
  Call call = {*process_,
               thread,
               thread.registers.orig_rax,
               {thread.registers.rdi, thread.registers.rsi, thread.registers.rdx,
                thread.registers.r10, thread.registers.r8, thread.registers.r9},
               {},
               {}};
  const SyscallRow* row = FindSyscall(call.number);
  bool traced = tracer_ != nullptr && tracer_->Wants(row);
  std::optional<TraceLine> line;
  if (traced) line = tracer_->Begin(call, row);
  int64_t begin = stats_ != nullptr ? HostClock(CLOCK_MONOTONIC) : 0;
  thread.kicked_before = false;
  SyscallResult result = row != nullptr ? row->handler(call) : SyscallResult(-ENOSYS);
  bool returns = result.action == NextAction::kContinue || result.action == NextAction::kMainThread;
  if (stats_ != nullptr) {
    stats_->CountCall(row, returns ? result.value : 0, HostClock(CLOCK_MONOTONIC) - begin);
  }
  if (traced) {
    tracer_->End(*line, call, returns ? std::optional<int64_t>(result.value) : std::nullopt);
  }
  if (returns && IsRestart(result.value)) {
    // A signal that came before the call did anything comes before the call: had there been no need
    // to wait, it would not have been interrupted.
    bool untouched = thread.kicked_before && result.value == kRestart;
    if (!untouched) thread.restart = result.value;
    if (untouched && !thread.in_call) thread.restart = kRestartAlways;
    thread.in_call = true;
    return Next::kRun;
  }
  Next next = Finish(thread, call, result);
  if (options_.test_snapshot_at != 0 && next == Next::kRun && TestSnapshotIsDue(thread)) {
    AwaitSnapshot(thread, {"test", "", false});
  }
  return next;
}

// At a call from the runtime's pages, where no snapshot may be, the next one has its turn.
bool Monitor::TestSnapshotIsDue(const Thread& thread) {
  if (InRuntime(thread)) return false;
  return finished_calls_.fetch_add(1) + 1 == options_.test_snapshot_at;
}

Monitor::Next Monitor::Finish(Thread& thread, Call& call, const SyscallResult& result) {
  thread.in_call = false;
  thread.deadline_ns.reset();
  thread.done = 0;
  if (process_->signals().EndTemporaryMask(thread.tid)) NoticeSignals(*process_, thread);
  switch (result.action) {
    case NextAction::kContinue:
      thread.registers.rax = static_cast<uint64_t>(result.value);
      thread.registers.orig_rax = ~uint64_t{0};
      return Next::kRun;
    case NextAction::kKeepRegisters:
      return Next::kRun;
    case NextAction::kExitThread:
      return EndOneThread(thread, W_EXITCODE(result.value & 0xff, 0));
    case NextAction::kExitProcess:
      if (thread.companion != nullptr) {
        return EndOneThread(thread, W_EXITCODE(result.value & 0xff, 0));
      }
      RequestEnd({static_cast<int>(result.value), 0, false, thread.tid, {}});
      Stay(thread);
    case NextAction::kSnapshot:
      return TakeSnapshotFor(thread, call.snapshot);
    case NextAction::kMainThread:
      thread.registers.rax = static_cast<uint64_t>(result.value);
      thread.registers.orig_rax = ~uint64_t{0};
      AskMain(thread, std::move(call.on_main));
      return Next::kRun;
  }
  return Next::kRun;
}

// `wait_status`: as wait(2) tells it. Only a process beside the program has one of a signal here.
Monitor::Next Monitor::EndOneThread(Thread& thread, int wait_status) {
  const int status = WEXITSTATUS(wait_status);
  // The program's last one ends the process; its status is the process's, as natively.
  if (thread.companion == nullptr && process_->thread_count() == 1) {
    RequestEnd({status, 0, false, thread.tid, {}});
    Stay(thread);
  }
  if (tracer_ != nullptr && WIFEXITED(wait_status)) tracer_->ThreadExited(thread.tid, status);
  ReleaseThread(*process_, thread);
  if (!process_->EndThread(&thread, wait_status)) {
    RequestEnd({status, 0, false, 0, {}});
  }
  return Next::kLeave;
}

void Monitor::FailIn(Thread& thread, const absl::Status& status) {
  RequestFailure(std::string(status.message()));
  Stay(thread);
}

// The thread of a process that is ending: the main thread takes it from here.
void Monitor::Stay(Thread& thread) {
  process_->BeginParked(thread);
  while (true) pause();
}

Monitor::Next Monitor::TakeSnapshotFor(Thread& thread, const SnapshotRequest& request) {
  // What the resumed process sees.
  thread.registers.rax = 1;
  thread.registers.orig_rax = ~uint64_t{0};
  thread.registers.rax = static_cast<uint64_t>(AwaitSnapshot(thread, request));
  return Next::kRun;
}

// Has the main thread take a snapshot of the process as it is. 0 or a negative errno; does not
// return when the process ends with it.
int64_t Monitor::AwaitSnapshot(Thread& thread, const SnapshotRequest& request) {
  int64_t result = 0;
  AskMain(thread, [&] { result = ServeSnapshot(thread, request); });
  return result;
}

void Monitor::AskMain(Thread& thread, std::function<void()> work) {
  MainRequest request{std::move(work)};
  process_->BeginParked(thread);
  {
    absl::MutexLock lock(&mutex_);
    requests_.push_back(&request);
  }
  WakeMain();
  {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&request.done));
  }
  process_->EndParked();
}

}  // namespace km
