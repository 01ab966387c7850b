// What a process that shares the program's memory (companion.h) does and has done to it.
#ifndef KM_SYSCALLS_COMPANION_CALLS_H_
#define KM_SYSCALLS_COMPANION_CALLS_H_

#include "km/syscalls/call.h"

namespace km {

// wait4(2) of a process that is named, by the program for one that shares its memory, and by one
// of these for a thread that it traces. Both have no exit signal: with __WALL or __WCLONE alone.
int64_t WaitForCompanion(Call& call, Companion& companion);
int64_t WaitForTraced(Call& call);

}  // namespace km

#endif  // KM_SYSCALLS_COMPANION_CALLS_H_
