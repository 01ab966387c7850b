// What the program wants done at each signal. Source: sigaction(2), signal(7).
#ifndef KM_SIGNALS_ACTIONS_H_
#define KM_SIGNALS_ACTIONS_H_

#include <array>
#include <cstdint>

#include "km/signals/signal_set.h"

namespace km {

// <signal.h> does not have it: the kernel's own flag (asm/signal.h).
inline constexpr uint64_t kSaRestorer = 0x04000000;

// The struct that rt_sigaction(2) takes on x86-64.
struct SignalAction {
  uint64_t handler = 0;  // SIG_DFL 0, SIG_IGN 1, or an address
  uint64_t flags = 0;
  uint64_t restorer = 0;
  SignalSet mask = 0;

  bool is_default() const { return handler == 0; }
  bool is_ignore() const { return handler == 1; }
};
static_assert(sizeof(SignalAction) == 32);

enum class DefaultActionKind { kTerminate, kCore, kStop, kContinue, kIgnore };

// What SIG_DFL means for a valid signal.
DefaultActionKind DefaultAction(int sig);

// What is blocked, besides the mask of before, while the handler of `sig` runs.
SignalSet BlockedByHandler(const SignalAction& action, int sig);

// The dispositions of one process. No lock: the process's covers it. Every `sig` given is valid,
// except in Set.
class SignalActions {
 public:
  const SignalAction& Get(int sig) const { return actions_[sig - 1]; }

  // 0, or -EINVAL for an invalid signal and for SIGKILL and SIGSTOP. Flags that the kernel does not
  // know and unblockable signals in the mask are dropped, as rt_sigaction does. A caller then
  // discards pending signals that are Ignored now.
  int Set(int sig, const SignalAction& action);

  // Whether a signal sent now would be thrown away, were it not blocked.
  bool Ignored(int sig) const;

  // The action for a delivery that happens now; SA_RESETHAND takes effect.
  SignalAction TakeForDelivery(int sig);

  // SIG_DFL again: for a fault whose signal is blocked or ignored, or whose frame cannot be
  // written.
  void ResetToDefault(int sig) { actions_[sig - 1].handler = 0; }

  // execve(2): handlers become SIG_DFL, SIG_IGN stays.
  void ResetForExec();

 private:
  std::array<SignalAction, kMaxSignal> actions_;
};

}  // namespace km

#endif  // KM_SIGNALS_ACTIONS_H_
