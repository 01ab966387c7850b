#include "km/files/socket_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace km {
namespace {

constexpr size_t kPathStart = offsetof(sockaddr_un, sun_path);

absl::Status BadPlace(absl::string_view text) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", text, "' is no address of a socket (1.2.3.4:80, [::1]:80, :80 or a path)"));
}

sa_family_t FamilyOf(const SocketAddress& address) {
  sa_family_t family = AF_UNSPEC;
  if (address.size() >= sizeof(family)) memcpy(&family, address.data(), sizeof(family));
  return family;
}

// As much as `address` has of it; the rest is 0.
template <typename T>
T As(const SocketAddress& address) {
  T result = {};
  memcpy(&result, address.data(), std::min(address.size(), sizeof(result)));
  return result;
}

template <typename T>
SocketAddress BytesOf(const T& from) {
  auto* bytes = reinterpret_cast<const uint8_t*>(&from);
  return SocketAddress(bytes, bytes + sizeof(from));
}

// The path without the NUL that may end it; a name without a file as it is.
std::string PathOf(const SocketAddress& address) {
  if (address.size() <= kPathStart) return "";
  std::string path(address.begin() + kPathStart, address.end());
  if (path[0] != '\0') path.resize(strlen(path.c_str()));
  return path;
}

bool SetHost(absl::string_view host, int family, SocketPlace* place) {
  place->family = family;
  place->host.resize(family == AF_INET ? sizeof(in_addr) : sizeof(in6_addr));
  return inet_pton(family, std::string(host).c_str(), place->host.data()) == 1;
}

absl::StatusOr<SocketAddress> MovedPath(const SocketPlace& place) {
  sockaddr_un un = {};
  un.sun_family = AF_UNIX;
  const bool file = place.path[0] != '\0';
  if (place.path.size() + (file ? 1 : 0) > sizeof(un.sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", place.path, "' is too long for a socket's path"));
  }
  memcpy(un.sun_path, place.path.data(), place.path.size());
  SocketAddress moved = BytesOf(un);
  moved.resize(kPathStart + place.path.size() + (file ? 1 : 0));
  return moved;
}

}  // namespace

SocketAddress AddressOf(int fd, int (*get)(int, sockaddr*, socklen_t*)) {
  SocketAddress address(sizeof(sockaddr_storage));
  auto size = static_cast<socklen_t>(address.size());
  if (get(fd, reinterpret_cast<sockaddr*>(address.data()), &size) != 0) size = 0;
  address.resize(std::min<size_t>(size, address.size()));
  return address;
}

void ToAnyAddress(SocketAddress* address) {
  if (address->size() == sizeof(sockaddr_in)) {
    reinterpret_cast<sockaddr_in*>(address->data())->sin_addr.s_addr = INADDR_ANY;
  } else if (address->size() == sizeof(sockaddr_in6)) {
    auto* in6 = reinterpret_cast<sockaddr_in6*>(address->data());
    in6->sin6_addr = in6addr_any;
    in6->sin6_scope_id = 0;
  }
}

absl::StatusOr<SocketPlace> ParseSocketPlace(absl::string_view text) {
  SocketPlace place;
  const size_t colon = text.rfind(':');
  if (absl::StartsWith(text, "@") || text.find('/') != text.npos || colon == text.npos) {
    if (text.empty() || text == "@" || text.find('\0') != text.npos) return BadPlace(text);
    place.family = AF_UNIX;
    place.path = std::string(text);
    if (place.path[0] == '@') place.path[0] = '\0';
    return place;
  }
  absl::string_view host = text.substr(0, colon);
  uint32_t port = 0;
  if (!absl::SimpleAtoi(text.substr(colon + 1), &port) || port == 0 || port > UINT16_MAX) {
    return BadPlace(text);
  }
  place.port = static_cast<uint16_t>(port);
  if (host.empty()) return place;
  const bool v6 = absl::ConsumePrefix(&host, "[") && absl::ConsumeSuffix(&host, "]");
  if (!SetHost(host, v6 ? AF_INET6 : AF_INET, &place)) return BadPlace(text);
  return place;
}

std::string SocketPath(const SocketAddress& address) {
  const std::string path = FamilyOf(address) == AF_UNIX ? PathOf(address) : "";
  return path.empty() || path[0] == '\0' ? "" : path;
}

std::string SocketAddressText(const SocketAddress& address) {
  char host[INET6_ADDRSTRLEN];
  switch (FamilyOf(address)) {
    case AF_INET: {
      auto in = As<sockaddr_in>(address);
      inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host));
      return absl::StrCat(host, ":", ntohs(in.sin_port));
    }
    case AF_INET6: {
      auto in6 = As<sockaddr_in6>(address);
      inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof(host));
      return absl::StrCat("[", host, "]:", ntohs(in6.sin6_port));
    }
    case AF_UNIX: {
      std::string path = PathOf(address);
      std::replace(path.begin(), path.end(), '\0', '@');
      return path;
    }
    default:
      return "";
  }
}

bool IsAtPlace(const SocketAddress& address, const SocketPlace& place) {
  const sa_family_t family = FamilyOf(address);
  if (family == AF_UNIX) return place.family == AF_UNIX && PathOf(address) == place.path;
  if (place.family != AF_UNSPEC && family != place.family) return false;
  if (family == AF_INET) {
    auto in = As<sockaddr_in>(address);
    return ntohs(in.sin_port) == place.port &&
           (place.host.empty() || memcmp(&in.sin_addr, place.host.data(), sizeof(in_addr)) == 0);
  }
  if (family != AF_INET6) return false;
  auto in6 = As<sockaddr_in6>(address);
  return ntohs(in6.sin6_port) == place.port &&
         (place.host.empty() || memcmp(&in6.sin6_addr, place.host.data(), sizeof(in6_addr)) == 0);
}

absl::StatusOr<SocketAddress> AtPlace(const SocketAddress& address, const SocketPlace& place) {
  const sa_family_t family = FamilyOf(address);
  if (family == AF_UNIX && place.family == AF_UNIX) return MovedPath(place);
  if (family == AF_INET &&
      (place.host.empty() ? place.family == AF_UNSPEC : place.family == AF_INET)) {
    auto in = As<sockaddr_in>(address);
    in.sin_port = htons(place.port);
    if (!place.host.empty()) memcpy(&in.sin_addr, place.host.data(), sizeof(in_addr));
    return BytesOf(in);
  }
  if (family == AF_INET6 && place.family != AF_UNIX) {
    auto in6 = As<sockaddr_in6>(address);
    in6.sin6_port = htons(place.port);
    if (place.family == AF_INET6) {
      memcpy(&in6.sin6_addr, place.host.data(), sizeof(in6_addr));
    } else if (place.family == AF_INET) {
      const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
      memcpy(&in6.sin6_addr, prefix, sizeof(prefix));
      memcpy(&in6.sin6_addr.s6_addr[12], place.host.data(), sizeof(in_addr));
    }
    return BytesOf(in6);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("a socket of the family ", SocketFamilyName(family), " cannot be bound there"));
}

const char* SocketFamilyName(int family) {
  switch (family) {
    case AF_UNIX:
      return "UNIX";
    case AF_INET:
      return "IPv4";
    case AF_INET6:
      return "IPv6";
    case AF_NETLINK:
      return "netlink";
    default:
      return "unknown";
  }
}

const char* SocketTypeName(int type) {
  switch (type) {
    case SOCK_STREAM:
      return "stream";
    case SOCK_DGRAM:
      return "datagram";
    case SOCK_SEQPACKET:
      return "seqpacket";
    default:
      return "raw";
  }
}

}  // namespace km
