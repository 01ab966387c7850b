// Calls on files that may be terminals, where the host's job control has a say.
#ifndef KM_SYSCALLS_TERMINAL_H_
#define KM_SYSCALLS_TERMINAL_H_

#include <array>
#include <cstdint>

#include "km/files/fd_table.h"
#include "km/syscalls/call.h"

namespace km {

// Thread::Block of a host call whose first argument is `file`. Where that is a terminal and the
// program in the background, the host sends SIGTTIN or SIGTTOU as to a native one, which is in the
// program's queue when this returns (kRestart), or says EIO: also of a group that is orphaned.
int64_t BlockOn(Call& call, const OpenFile& file, long number, const std::array<uint64_t, 5>& rest);

}  // namespace km

#endif  // KM_SYSCALLS_TERMINAL_H_
