// Signals on their way into the program. Source: signal(7), arch/x86/kernel/signal.c.
#include <sys/wait.h>

#include <cerrno>

#include "km/base/log.h"
#include "km/monitor/monitor.h"
#include "km/process/host_signals.h"
#include "km/signals/siginfo.h"

namespace km {
namespace {}

void Monitor::ForceSignal(Thread& thread, const siginfo_t& info) {
  process_->signals().Force(thread.tid, info);
  thread.forced = true;
  thread.attention.store(1);
}

Monitor::Next Monitor::DeliverSignals(Thread& thread) {
  while (std::optional<SignalState::Delivery> delivery = process_->signals().Next(thread.tid)) {
    process_->timers().SignalTaken(&delivery->info);
    if (delivery->ignored) continue;
    if (tracer_ != nullptr) tracer_->Signal(*process_, thread, delivery->info);
    if (stats_ != nullptr) stats_->CountSignal();
    if (delivery->action.is_default()) {
      if (DefaultSignal(thread, *delivery) == Next::kLeave) return Next::kLeave;
      continue;
    }
    PrepareRestart(thread, delivery->action);
    if (!PushFrame(thread, *delivery)) {
      // As the kernel does: no room for a frame is a fault, and a fatal one if it was SIGSEGV's
      // own.
      process_->signals().SetMask(thread.tid, delivery->frame_mask);
      if (delivery->info.si_signo == SIGSEGV) {
        process_->signals().ResetAction(SIGSEGV, thread.tid);
      }
      process_->signals().Force(thread.tid, KernelSiginfo(SIGSEGV));
    }
  }
  return Next::kRun;
}

// A handler runs in the middle of a blocked call: the call returns EINTR, or is made again when the
// handler returns.
void Monitor::PrepareRestart(Thread& thread, const SignalAction& action) {
  if (!thread.in_call) return;
  Registers& registers = thread.registers;
  bool again = thread.restart == kRestartAlways ||
               (thread.restart == kRestart && (action.flags & SA_RESTART));
  if (again) {
    registers.rax = registers.orig_rax;
    registers.rip -= kSyscallInstructionSize;
  } else {
    registers.rax = static_cast<uint64_t>(-EINTR);
  }
  registers.orig_rax = ~uint64_t{0};
  thread.in_call = false;
  thread.deadline_ns.reset();
}

bool Monitor::PutFrame(const SignalFrame& frame) {
  auto put = [&] {
    return process_->memory().CopyOut(GuestAddr(frame.address), frame.bytes.data(),
                                      frame.bytes.size()) == 0;
  };
  return put() || (process_->space().Reach(frame.address) && put());
}

bool Monitor::PushFrame(Thread& thread, const SignalState::Delivery& delivery) {
  if (thread.vcpu == nullptr && !process_->GiveVcpu(thread).ok()) return false;
  absl::StatusOr<std::vector<uint8_t>> xsave = thread.vcpu->ReadXsave();
  if (!xsave.ok()) return false;
  SignalDelivery what;
  what.action = delivery.action;
  what.info = delivery.info;
  what.mask = delivery.frame_mask;
  what.fault = thread.fault;
  SignalFrame frame;
  const XsaveFormat& format = process_->xsave_format();
  if (BuildSignalFrame(what, thread.registers, thread.alt_stack, *xsave, format, &frame) != 0 ||
      !PutFrame(frame) || !thread.vcpu->WriteXsave(InitialXsave(format)).ok()) {
    return false;
  }
  uint64_t fs_base = thread.registers.fs_base, gs_base = thread.registers.gs_base;
  thread.registers = frame.registers;
  thread.registers.fs_base = fs_base;
  thread.registers.gs_base = gs_base;
  thread.alt_stack = frame.alt_stack;
  return true;
}

Monitor::Next Monitor::DefaultSignal(Thread& thread, const SignalState::Delivery& delivery) {
  int sig = delivery.info.si_signo;
  switch (DefaultAction(sig)) {
    case DefaultActionKind::kIgnore:
    case DefaultActionKind::kContinue:
      return Next::kRun;
    case DefaultActionKind::kStop:
      StopBySignal(sig);
      return Next::kRun;
    case DefaultActionKind::kTerminate:
    case DefaultActionKind::kCore:
      break;
  }
  if (thread.companion != nullptr) return EndOneThread(thread, W_EXITCODE(0, sig));
  ExitStatus status;
  status.signal = sig;
  status.core = DefaultAction(sig) == DefaultActionKind::kCore;
  status.tid = thread.tid;
  status.info = delivery.info;
  RequestEnd(status);
  Stay(thread);
}

}  // namespace km
