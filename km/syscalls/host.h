// Results of the host's system calls.
#ifndef KM_SYSCALLS_HOST_H_
#define KM_SYSCALLS_HOST_H_

#include <cerrno>
#include <cstdint>

namespace km {

// What syscall(2) of libc returned, as the kernel returned it: a value or a negative errno. Call it
// on the spot: it reads errno.
inline int64_t HostResult(long result) { return result == -1 ? -errno : result; }

}  // namespace km

#endif  // KM_SYSCALLS_HOST_H_
