// What a process that shares the program's memory (companion.h) does and has done to it.
#ifndef KM_SYSCALLS_COMPANION_CALLS_H_
#define KM_SYSCALLS_COMPANION_CALLS_H_

#include "km/syscalls/call.h"

namespace km {

// wait4(2) of a process that is named, by the program for one that shares its memory, and by one
// of these for a thread that it traces. Both have no exit signal: with __WALL or __WCLONE alone.
int64_t WaitForCompanion(Call& call);
int64_t WaitForTraced(Call& call);

// Whether a signal to that thread or process is the monitor's to send, and which process it is of.
bool IsOwnTask(const Call& call, uint32_t tid);
uint32_t ProcessOf(const Call& call, uint32_t tid);

}  // namespace km

#endif  // KM_SYSCALLS_COMPANION_CALLS_H_
