// The addresses of sockets as people write them.
#ifndef KM_FILES_SOCKET_ADDRESS_H_
#define KM_FILES_SOCKET_ADDRESS_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace km {

using SocketAddress = std::vector<uint8_t>;  // a struct sockaddr_*; empty: none

inline const sockaddr* Sockaddr(const SocketAddress& address) {
  return reinterpret_cast<const sockaddr*>(address.data());
}
inline socklen_t Length(const SocketAddress& address) {
  return static_cast<socklen_t>(address.size());
}

// What getsockname(2) or getpeername(2) says of `fd`; empty where that fails.
SocketAddress AddressOf(int fd, int (*get)(int, sockaddr*, socklen_t*));

// All addresses of the port, in place of the one that an IPv4 or IPv6 address has.
void ToAnyAddress(SocketAddress* address);

// 127.0.0.1 of IPv6 sockets.
inline constexpr in6_addr kMappedLoopback = {
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1}}};

// A place that a socket can be bound to.
struct SocketPlace {
  int family = 0;             // AF_UNIX, AF_INET, AF_INET6; 0: a port alone
  std::vector<uint8_t> host;  // 4 or 16 bytes, as the network has them
  uint16_t port = 0;
  std::string path;  // of a UNIX socket; a name without a file starts with '\0'
};

// "1.2.3.4:PORT", "[::1]:PORT", ":PORT", "@NAME" (a name without a file), or a path, which has a
// '/' in it or no ':'. Errors are messages for people.
absl::StatusOr<SocketPlace> ParseSocketPlace(absl::string_view text);

// "1.2.3.4:80", "[::1]:80", a path, "@NAME"; empty for what has no name, or is of another family.
std::string SocketAddressText(const SocketAddress& address);

// The path of a UNIX socket's address; empty for other families, and names without a file.
std::string SocketPath(const SocketAddress& address);

// Whether a socket at `address` is what `place` names.
bool IsAtPlace(const SocketAddress& address, const SocketPlace& place);

// `address`, moved to `place`: a port alone keeps the host, and an IPv4 host becomes an IPv6
// socket's mapped one. Fails where the families do not fit, or a path is too long.
absl::StatusOr<SocketAddress> AtPlace(const SocketAddress& address, const SocketPlace& place);

// "UNIX", "IPv4", "stream", ...: for messages.
const char* SocketFamilyName(int family);
const char* SocketTypeName(int type);

}  // namespace km

#endif  // KM_FILES_SOCKET_ADDRESS_H_
