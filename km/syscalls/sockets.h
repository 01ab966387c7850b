// What calls on sockets have in common.
#ifndef KM_SYSCALLS_SOCKETS_H_
#define KM_SYSCALLS_SOCKETS_H_

#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <memory>

#include "km/files/fd_table.h"
#include "km/syscalls/call.h"

namespace km {

// Where the host reads a socket address of `length` bytes; it refuses a length that none has.
inline uint64_t SocketAddressArg(const Call& call, size_t i, uint32_t length) {
  return call.HostArg(i, std::min<size_t>(length, sizeof(sockaddr_storage)));
}

// The result of a call that may have waited: like the kernel's, it is not made again behind a
// signal handler where the socket has a timeout (`option`: SO_RCVTIMEO or SO_SNDTIMEO).
int64_t AfterSocketWait(const std::shared_ptr<OpenFile>& file, int option, int64_t result);

}  // namespace km

#endif  // KM_SYSCALLS_SOCKETS_H_
