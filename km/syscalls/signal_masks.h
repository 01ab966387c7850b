// What a change of a signal mask asks for.
#ifndef KM_SYSCALLS_SIGNAL_MASKS_H_
#define KM_SYSCALLS_SIGNAL_MASKS_H_

#include "km/process/process.h"

namespace km {

// After `thread`, the calling one, changed its mask: what has become deliverable is delivered
// before the program goes on, and keeps a call from blocking.
void NoticeSignals(Process& process, Thread& thread);

}  // namespace km

#endif  // KM_SYSCALLS_SIGNAL_MASKS_H_
