// What a change of a signal mask asks for.
#ifndef KM_SYSCALLS_SIGNAL_MASKS_H_
#define KM_SYSCALLS_SIGNAL_MASKS_H_

#include "km/process/process.h"
#include "km/syscalls/call.h"

namespace km {

// After `thread`, the calling one, changed its mask: what has become deliverable is delivered
// before the program goes on, and keeps a call from blocking.
void NoticeSignals(Process& process, Thread& thread);

// The mask at `address`, of `size` bytes, holds during the call; null: none does. 0 or a negative
// errno.
int UseMask(Call& call, GuestAddr address, uint64_t size);

}  // namespace km

#endif  // KM_SYSCALLS_SIGNAL_MASKS_H_
