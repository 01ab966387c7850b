// Signals that the host sends to a thread of the monitor for what that thread did.
#ifndef KM_BASE_PENDING_SIGNAL_H_
#define KM_BASE_PENDING_SIGNAL_H_

#include <signal.h>

namespace km {

enum class PendingSignal { kNone, kOwn, kOthers };

// Takes a signal that is pending for the calling thread, which blocks it. kOwn: the host sent it
// for something that this process did; kOthers: somebody else sent it, whose *info is to go to whom
// it was meant for.
PendingSignal TakePendingSignal(int sig, siginfo_t* info);

}  // namespace km

#endif  // KM_BASE_PENDING_SIGNAL_H_
