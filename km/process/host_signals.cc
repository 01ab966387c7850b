#include "km/process/host_signals.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstring>
#include <string_view>
#include <utility>

#include "km/base/host_call.h"
#include "km/memory/guarded_copy.h"
#include "km/signals/actions.h"

namespace km {
namespace {

// Sent by the monitor to one of its threads. A standard signal, so that it is never refused for
// want of room in a queue; two kicks that merge are one kick.
constexpr int kKickSignal = SIGSTKFLT;
// What a host thread that runs guest threads cannot block.
constexpr int kOpenSignals[] = {kKickSignal, SIGSEGV, SIGBUS};
// What the host's job control sends to a thread that touches a terminal from the background.
constexpr int kTerminalSignals[] = {SIGTTIN, SIGTTOU};
// si_code of an SI_USER signal that was forwarded: the kernel lets a thread send only negative
// codes.
constexpr int kForwardedUser = -60;

thread_local Thread* current_thread = nullptr;

// Written once by the main thread, before there are others.
SignalSet inherited_mask = 0, inherited_ignored = 0;

sigset_t HostSet(SignalSet signals) {
  sigset_t set;
  sigemptyset(&set);
  for (int sig = 1; sig <= kMaxSignal; ++sig) {
    if (Contains(signals, sig)) sigaddset(&set, sig);
  }
  return set;
}

[[noreturn]] void ReportOwnFault(int sig) {
  constexpr std::string_view kMessage =
      "km: internal error: the monitor itself touched bad memory; please report this\n";
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, kMessage.data(), kMessage.size());
  (void)sig;
  _exit(125);
}

// Somebody outside sent one of the open signals, and the kernel chose this thread. The main thread
// blocks it from here on, so that it stays for the signalfd; see ForwardedSignalRead.
void Forward(int sig, const siginfo_t& info, ucontext_t* context) {
  if (gettid() == getpid()) sigaddset(&context->uc_sigmask, sig);
  siginfo_t copy = info;
  if (copy.si_code == SI_USER) copy.si_code = kForwardedUser;
  if (copy.si_code > 0) {
    copy.si_errno = copy.si_code;
    copy.si_code = SI_SIGIO;
  }
  syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), sig, &copy);
}

void OnSignal(int sig, siginfo_t* info, void* context) {
  auto* ucontext = static_cast<ucontext_t*>(context);
  if (IsKick(*info)) {
    if (current_thread == nullptr) return;
    if (current_thread->vcpu != nullptr) current_thread->vcpu->RequestExit();
    AbortHostCall(ucontext);
    return;
  }
  if (info->si_code == SI_KERNEL && (sig == SIGTTIN || sig == SIGTTOU)) {
    if (current_thread == nullptr) return;
    current_thread->terminal_signal = sig;
    AbortHostCall(ucontext);
    return;
  }
  // A positive one of these tells of a file that the program asked to be told of by it.
  bool fault = sig == SIGSEGV || sig == SIGBUS;
  if (info->si_code <= 0 || !fault) return Forward(sig, *info, ucontext);
  if (!FixGuardedFault(ucontext)) ReportOwnFault(sig);
}

}  // namespace

void InstallHostSignals() {
  sigset_t all;
  sigfillset(&all);
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, &all, &before);
  static_assert(sizeof(inherited_mask) <= sizeof(before));
  memcpy(&inherited_mask, &before, sizeof(inherited_mask));
  struct sigaction action = {};
  action.sa_sigaction = OnSignal;
  action.sa_flags = SA_SIGINFO;  // no SA_RESTART: a kick ends a blocking call
  sigfillset(&action.sa_mask);
  for (int sig = 1; sig <= kMaxSignal; ++sig) {
    // By the call itself: libc does not tell of the signals that it uses, and posix_spawn(3) hands
    // them on ignored.
    SignalAction inherited;
    if (syscall(SYS_rt_sigaction, sig, nullptr, &inherited, sizeof(SignalSet)) == 0 &&
        inherited.is_ignore()) {
      inherited_ignored |= SignalBit(sig);
    }
  }
  for (int sig : kOpenSignals) sigaction(sig, &action, nullptr);
  for (int sig : kTerminalSignals) sigaction(sig, &action, nullptr);
  // Main touches the program's memory too.
  sigset_t open;
  sigemptyset(&open);
  sigaddset(&open, SIGSEGV);
  sigaddset(&open, SIGBUS);
  pthread_sigmask(SIG_UNBLOCK, &open, nullptr);
}

SignalSet InheritedMask() { return inherited_mask; }

bool InheritedIgnore(int sig) { return Contains(inherited_ignored, sig); }

void UnblockHostSignals() {
  sigset_t open;
  sigemptyset(&open);
  for (int sig : kOpenSignals) sigaddset(&open, sig);
  pthread_sigmask(SIG_UNBLOCK, &open, nullptr);
}

void SetCurrentThread(Thread* thread) {
  current_thread = thread;
  // The handler runs on this thread: the order of the compiler is the order it sees.
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void Kick(pid_t host_tid) { syscall(SYS_tgkill, getpid(), host_tid, kKickSignal); }

bool IsKick(const siginfo_t& info) {
  return info.si_signo == kKickSignal && info.si_code == SI_TKILL && info.si_pid == getpid();
}

void ForwardedSignalRead(siginfo_t& info) {
  if (info.si_signo == SIGSEGV || info.si_signo == SIGBUS) {
    sigset_t open;
    sigemptyset(&open);
    sigaddset(&open, info.si_signo);
    pthread_sigmask(SIG_UNBLOCK, &open, nullptr);
  }
  if (info.si_code == kForwardedUser) info.si_code = SI_USER;
  if (info.si_code == SI_SIGIO && info.si_errno != 0) {
    info.si_code = std::exchange(info.si_errno, 0);
  }
}

void DieOfSignal(int sig) {
  rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  prctl(PR_SET_DUMPABLE, 0);
  signal(sig, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, sig);
  syscall(SYS_tgkill, getpid(), gettid(), sig);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  // A signal whose default is not to end a process does not come here.
  _exit(125);
}

void StopBySignal(int sig) {
  struct sigaction stop = {}, before = {};
  stop.sa_handler = SIG_DFL;
  sigaction(sig, &stop, &before);
  // Sent to the thread, for the main thread would read it; it stops the whole process all the same.
  syscall(SYS_tgkill, getpid(), gettid(), sig);
  TerminalSignals open(SignalBit(sig));
  sigaction(sig, &before, nullptr);
}

TerminalSignals::TerminalSignals(SignalSet open) : open_(open) {
  sigset_t set = HostSet(open_);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

TerminalSignals::~TerminalSignals() {
  sigset_t set = HostSet(open_);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

}  // namespace km
