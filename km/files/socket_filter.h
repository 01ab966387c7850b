// The classic packet filter of a socket (SO_ATTACH_FILTER of socket(7)).
#ifndef KM_FILES_SOCKET_FILTER_H_
#define KM_FILES_SOCKET_FILTER_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace km {

// The instructions, each a struct sock_filter; empty: it has none.
std::vector<uint8_t> SocketFilter(int fd);
// Whether it has that one now: empty takes any away. The kernel checks the instructions.
bool SetSocketFilter(int fd, absl::Span<const uint8_t> instructions);
// Whether it may be one.
bool IsSocketFilter(absl::Span<const uint8_t> instructions);

}  // namespace km

#endif  // KM_FILES_SOCKET_FILTER_H_
