// What all calls that move bytes have in common.
#ifndef KM_SYSCALLS_TRANSFER_H_
#define KM_SYSCALLS_TRANSFER_H_

#include <sys/uio.h>

#include <cstdint>
#include <vector>

#include "km/syscalls/call.h"

namespace km {

// UIO_MAXIOV of include/uapi/linux/uio.h.
inline constexpr uint64_t kMaxIovecs = 1024;

// The host address of a buffer, of which no call uses more than the kernel's limit.
uint64_t Buffer(const Call& call, uint64_t address, uint64_t size);

// An iovec array with its buffers as the host sees them; `count` <= kMaxIovecs. 0 or -EFAULT.
int CopyIovecs(const Call& call, GuestAddr address, uint64_t count, std::vector<iovec>* out);
// How many bytes they have room for.
uint64_t TotalOf(const std::vector<iovec>& parts);

// `result` of a write of `asked` bytes; SIGPIPE or SIGXFSZ when the program is to get one with it.
int64_t AfterWrite(Call& call, int64_t result, uint64_t asked = 0);
// Passes on to the program's thread a signal that a host call of its has sent to this one. Whether
// there was one.
bool PassHostSignal(Call& call, int sig);

}  // namespace km

#endif  // KM_SYSCALLS_TRANSFER_H_
