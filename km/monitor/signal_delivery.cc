// Signals on their way into the program. Source: signal(7), arch/x86/kernel/signal.c.
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "km/base/log.h"
#include "km/monitor/monitor.h"
#include "km/process/file_signals.h"
#include "km/process/host_signals.h"
#include "km/signals/siginfo.h"

namespace km {
namespace {

siginfo_t SiginfoOf(const signalfd_siginfo& from) {
  siginfo_t info = {};
  info.si_signo = static_cast<int>(from.ssi_signo);
  info.si_errno = from.ssi_errno;
  info.si_code = from.ssi_code;
  switch (from.ssi_code) {
    case SI_TIMER:
      info.si_timerid = static_cast<int>(from.ssi_tid);
      info.si_overrun = static_cast<int>(from.ssi_overrun);
      info.si_ptr = reinterpret_cast<void*>(from.ssi_ptr);
      return info;
    case SI_KERNEL:
      return info;
    default:
      break;
  }
  if (TellsOfFile(info.si_signo, info.si_code)) {
    info.si_band = from.ssi_band;
    info.si_fd = from.ssi_fd;
    return info;
  }
  info.si_pid = static_cast<pid_t>(from.ssi_pid);
  info.si_uid = from.ssi_uid;
  if (from.ssi_signo == SIGCHLD) {
    info.si_status = from.ssi_status;
    info.si_utime = static_cast<clock_t>(from.ssi_utime);
    info.si_stime = static_cast<clock_t>(from.ssi_stime);
  } else if (from.ssi_code < 0) {
    info.si_ptr = reinterpret_cast<void*>(from.ssi_ptr);
  }
  return info;
}

}  // namespace

// What was sent to the monitor was meant for the program.
void Monitor::ForwardSignals() {
  signalfd_siginfo from;
  while (read(signals_.get(), &from, sizeof(from)) == sizeof(from)) {
    siginfo_t info = SiginfoOf(from);
    // What the program caused itself, by a message to a queue (mq_notify).
    if (info.si_code == SI_MESGQ && info.si_pid == getpid()) {
      info.si_pid = static_cast<pid_t>(process_->identity().pid);
    }
    // The monitor's own kick, or its own snapshot that met the limit of file sizes.
    if (IsKick(info) || (info.si_signo == SIGXFSZ && info.si_pid == getpid())) continue;
    if (int timer = 0; Timers::IsHint(info, &timer)) {
      if (uint32_t tid = process_->timers().Expired(timer); tid != 0) process_->Interrupt(tid);
      continue;
    }
    EndWaiting();  // it may be meant to end the program, and is for it to see
    ForwardedSignalRead(info);
    // As a sender to a process group of its own, the program knows itself by its own id.
    if (info.si_code == SI_USER) info.si_pid = process_->ids().GuestProcess(info.si_pid);
    int error = TellsOfFile(info.si_signo, info.si_code) ? SendFileSignal(*process_, info)
                                                         : process_->Signal(info);
    // A full queue is the sender's to know of; it has long returned.
    if (error != 0) Log(LogLevel::kInfo, "the program's signal queue is full");
  }
}

void Monitor::ForceSignal(Thread& thread, const siginfo_t& info) {
  process_->signals().Force(thread.tid, info);
  thread.forced = info.si_signo;
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

// A handler runs in the middle of a blocked call: the call returns what it has done, or EINTR, or
// is made again when the handler returns.
void Monitor::PrepareRestart(Thread& thread, const SignalAction& action) {
  if (!thread.in_call) return;
  Registers& registers = thread.registers;
  bool again = thread.restart == kRestartAlways ||
               (thread.restart == kRestart && (action.flags & SA_RESTART));
  if (thread.done != 0) {
    registers.rax = thread.done;
  } else if (again) {
    registers.rax = registers.orig_rax;
    registers.rip -= kSyscallInstructionSize;
  } else {
    registers.rax = static_cast<uint64_t>(-EINTR);
  }
  registers.orig_rax = ~uint64_t{0};
  thread.in_call = false;
  thread.deadline_ns.reset();
  thread.done = 0;
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
