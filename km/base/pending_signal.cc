#include "km/base/pending_signal.h"

#include <time.h>
#include <unistd.h>

namespace km {

PendingSignal TakePendingSignal(int sig, siginfo_t* info) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, sig);
  const timespec none = {};
  if (sigtimedwait(&set, info, &none) != sig) return PendingSignal::kNone;
  return info->si_pid == getpid() ? PendingSignal::kOwn : PendingSignal::kOthers;
}

}  // namespace km
