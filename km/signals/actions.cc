#include "km/signals/actions.h"

#include <cerrno>

namespace km {
namespace {

// <signal.h> makes a negative int of it.
constexpr uint64_t kSaResetHand = 0x80000000;
constexpr uint64_t kSaExposeTagBits = 0x800;
constexpr uint64_t kKnownFlags = SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | kSaExposeTagBits |
                                 kSaRestorer | SA_ONSTACK | SA_RESTART | SA_NODEFER | kSaResetHand;

constexpr SignalSet kCoreByDefault = SignalBit(SIGQUIT) | SignalBit(SIGILL) | SignalBit(SIGTRAP) |
                                     SignalBit(SIGABRT) | SignalBit(SIGFPE) | SignalBit(SIGSEGV) |
                                     SignalBit(SIGBUS) | SignalBit(SIGSYS) | SignalBit(SIGXCPU) |
                                     SignalBit(SIGXFSZ);
constexpr SignalSet kIgnoredByDefault =
    SignalBit(SIGCHLD) | SignalBit(SIGWINCH) | SignalBit(SIGURG);

}  // namespace

DefaultActionKind DefaultAction(int sig) {
  if (sig == SIGCONT) return DefaultActionKind::kContinue;
  if (Contains(kStopping, sig)) return DefaultActionKind::kStop;
  if (Contains(kIgnoredByDefault, sig)) return DefaultActionKind::kIgnore;
  return Contains(kCoreByDefault, sig) ? DefaultActionKind::kCore : DefaultActionKind::kTerminate;
}

SignalSet BlockedByHandler(const SignalAction& action, int sig) {
  return action.mask | ((action.flags & SA_NODEFER) != 0 ? 0 : SignalBit(sig));
}

int SignalActions::Set(int sig, const SignalAction& action) {
  if (!ValidSignal(sig) || Contains(kUnblockable, sig)) return -EINVAL;
  SignalAction& mine = actions_[sig - 1];
  mine = action;
  mine.flags &= kKnownFlags;
  mine.mask &= ~kUnblockable;
  return 0;
}

bool SignalActions::Ignored(int sig) const {
  const SignalAction& action = Get(sig);
  if (action.is_ignore()) return true;
  if (!action.is_default()) return false;
  // Continuing happens when SIGCONT is sent, not when it is delivered.
  DefaultActionKind kind = DefaultAction(sig);
  return kind == DefaultActionKind::kIgnore || kind == DefaultActionKind::kContinue;
}

SignalAction SignalActions::TakeForDelivery(int sig) {
  SignalAction action = Get(sig);
  if ((action.flags & kSaResetHand) != 0) ResetToDefault(sig);
  return action;
}

void SignalActions::ResetForExec() {
  for (SignalAction& action : actions_) {
    action = SignalAction{.handler = action.is_ignore() ? action.handler : 0};
  }
}

}  // namespace km
