// Reading from a signalfd.
#ifndef KM_SYSCALLS_SIGNAL_READS_H_
#define KM_SYSCALLS_SIGNAL_READS_H_

#include "km/files/fd_table.h"
#include "km/syscalls/call.h"

namespace km {

// read(2) and its kin with a buffer of `size` bytes at `buffer`: what signalfd(2) says.
int64_t ReadSignals(Call& call, const OpenFile& file, GuestAddr buffer, uint64_t size);

}  // namespace km

#endif  // KM_SYSCALLS_SIGNAL_READS_H_
