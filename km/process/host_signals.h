// The monitor's own use of host signals. Every number belongs to the program; a kick is told from a
// signal that somebody sent by its sender and si_code.
#ifndef KM_PROCESS_HOST_SIGNALS_H_
#define KM_PROCESS_HOST_SIGNALS_H_

#include <signal.h>
#include <sys/types.h>

#include "km/process/thread.h"
#include "km/signals/signal_set.h"

namespace km {

// Blocks every signal in the calling (main) thread, and in those it makes, and installs the
// handlers of the kick and of guarded accesses. Main then reads signals from a signalfd.
void InstallHostSignals();

// The mask that the monitor was started with, which is the program's; after InstallHostSignals.
SignalSet InheritedMask();
// Whether the monitor was started with `sig` ignored: then the program is too.
bool InheritedIgnore(int sig);

// For a host thread that runs guest threads: lets kicks and faults through. `thread` is what a kick
// is for; null between two.
void UnblockHostSignals();
void SetCurrentThread(Thread* thread);

// Makes the host thread leave its vCPU or its blocking call, after thread->attention was set.
void Kick(pid_t host_tid);

// Whether the main thread shall ignore a signal it has read: its own kick.
bool IsKick(const siginfo_t& info);
// After the main thread has read a signal from its signalfd: the siginfo as its sender meant it.
void ForwardedSignalRead(siginfo_t& info);

// Ends the monitor by `sig`, with its default action and without a core dump of the monitor.
[[noreturn]] void DieOfSignal(int sig);
// Stops the monitor as the program would have been stopped, until SIGCONT. Returns at once where
// the process group is orphaned and `sig` is not SIGSTOP, as natively. For a host thread that runs
// guest threads.
void StopBySignal(int sig);

// While it lives the host's job control sees the calling thread's `open` signals (SIGTTIN, SIGTTOU)
// as neither blocked nor ignored. One that it sends ends a blocking call, and is in
// Thread::terminal_signal afterwards.
class TerminalSignals {
 public:
  explicit TerminalSignals(SignalSet open);
  ~TerminalSignals();
  TerminalSignals(const TerminalSignals&) = delete;
  TerminalSignals& operator=(const TerminalSignals&) = delete;

 private:
  const SignalSet open_;
};

}  // namespace km

#endif  // KM_PROCESS_HOST_SIGNALS_H_
