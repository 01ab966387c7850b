// A descriptor that comes with bytes over a UNIX socket (SCM_RIGHTS of unix(7)).
#ifndef KM_BASE_PASSED_DESCRIPTOR_H_
#define KM_BASE_PASSED_DESCRIPTOR_H_

#include <sys/types.h>

#include <cstddef>

#include "absl/strings/string_view.h"
#include "km/base/owned.h"

namespace km {

// As send(2) with MSG_NOSIGNAL; `descriptor` goes with the first byte, -1: none.
ssize_t SendWithDescriptor(int socket, absl::string_view bytes, int descriptor);

// As recv(2), which takes a descriptor too: the only one of the message, or none; it is closed at
// an execve(2).
ssize_t ReceiveWithDescriptor(int socket, char* bytes, size_t size, OwnedFd* descriptor);

}  // namespace km

#endif  // KM_BASE_PASSED_DESCRIPTOR_H_
