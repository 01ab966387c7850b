#include "km/files/socket_lost.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/types/span.h"
#include "km/base/log.h"
#include "km/base/status.h"

namespace km {
namespace {

constexpr int kSoonMs = 1000;

// A listener on the loopback interface, and its address.
absl::StatusOr<OwnedFd> LoopbackListener(int family, SocketAddress* name) {
  OwnedFd listener(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (family == AF_INET) {
    sockaddr_in in = {};
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    name->assign(reinterpret_cast<uint8_t*>(&in), reinterpret_cast<uint8_t*>(&in + 1));
  } else if (family == AF_INET6) {
    // As IPv4: the host may have no other.
    sockaddr_in6 in = {};
    in.sin6_family = AF_INET6;
    in.sin6_addr = kMappedLoopback;
    const int off = 0;
    setsockopt(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    name->assign(reinterpret_cast<uint8_t*>(&in), reinterpret_cast<uint8_t*>(&in + 1));
  }
  socklen_t size = Length(*name);
  if (!listener.valid() || bind(listener.get(), Sockaddr(*name), size) != 0 ||
      listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(name->data()), &size) != 0) {
    return ErrnoStatus(errno, "cannot make a connection to reset");
  }
  return listener;
}

void Reset(OwnedFd connection) {
  const linger at_once = {1, 0};
  setsockopt(connection.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

// Has the end `to` of a connection receive what is still to be read, as far as the host lets it
// hold so much.
bool Deliver(const SocketState& state, int from, int to) {
  constexpr int kLongest = 200;  // ms
  int all = 0, arrived = 0;
  for (const SocketMessage& message : state.messages) {
    absl::Span<const uint8_t> bytes = message.bytes;
    all += static_cast<int>(bytes.size());
    while (!bytes.empty()) {
      const ssize_t sent = send(from, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      pollfd room = {from, POLLOUT, 0};
      if (sent > 0) {
        bytes.remove_prefix(static_cast<size_t>(sent));
      } else if (errno != EAGAIN || poll(&room, 1, kLongest) != 1) {
        return false;
      }
    }
  }
  for (int ms = 0; ms < kLongest; ++ms) {
    if (ioctl(to, FIONREAD, &arrived) != 0 || arrived >= all) return true;
    usleep(1000);
  }
  return false;
}

}  // namespace

absl::StatusOr<OwnedFd> LostTcp(const SocketState& state) {
  OwnedFd fd(socket(state.family, state.type | SOCK_CLOEXEC, state.protocol));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot make a socket");
  SocketAddress name;
  KM_ASSIGN_OR_RETURN(OwnedFd listener, LoopbackListener(state.family, &name));
  KM_RETURN_IF_ERROR(SetSocketOptions(fd.get(), state, kOptionsForName));
  const int v6only = 0;
  setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
  size_t held = 0;
  for (const SocketMessage& message : state.messages) held += message.bytes.size();
  MakeRoom(fd.get(), SO_RCVBUF, SO_RCVBUFFORCE, held);
  if (connect(fd.get(), Sockaddr(name), Length(name)) != 0) {
    return ErrnoStatus(errno, "cannot make a connection to reset");
  }
  OwnedFd other(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!other.valid()) return ErrnoStatus(errno, "cannot make a connection to reset");
  MakeRoom(other.get(), SO_SNDBUF, SO_SNDBUFFORCE, held);
  if (!Deliver(state, other.get(), fd.get())) {
    Log(LogLevel::kWarning,
        "a part of what came by a connection that is reset is lost: this host has no room for it "
        "(net.core.rmem_max)");
  }
  // Some are only for a socket that is connected.
  KM_RETURN_IF_ERROR(SetSocketOptions(fd.get(), state, kOptionsOther));
  if ((state.shut & 1) != 0) shutdown(other.get(), SHUT_WR);
  if ((state.shut & 2) != 0) shutdown(fd.get(), SHUT_WR);
  // Closed by both it is no connection any more, and cannot be reset.
  if (state.shut != 3) Reset(std::move(other));
  pollfd look = {fd.get(), 0, 0};  // for POLLHUP
  poll(&look, 1, kSoonMs);
  KM_RETURN_IF_ERROR(SetSocketOptions(fd.get(), state, kOptionsBarring));
  return fd;
}

// Its other end was in another process: closed with something unread in it, it leaves a reset.
absl::StatusOr<OwnedFd> LostUnix(const SocketState& state, FileRestorer& restorer) {
  int fds[2];
  if (socketpair(state.family, state.type | SOCK_CLOEXEC, state.protocol, fds) != 0) {
    return ErrnoStatus(errno, "cannot make a pair of sockets");
  }
  OwnedFd fd(fds[0]), other(fds[1]);
  KM_RETURN_IF_ERROR(FillSocketFrom(other.get(), fd.get(), state, restorer));
  send(fd.get(), "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  KM_RETURN_IF_ERROR(
      SetSocketOptions(fd.get(), state, kOptionsForName | kOptionsBarring | kOptionsOther));
  return fd;
}

void ResetWaiting(const SocketState& state) {
  SocketAddress to = state.name;
  auto* in = reinterpret_cast<sockaddr_in*>(to.data());
  auto* in6 = reinterpret_cast<sockaddr_in6*>(to.data());
  if (state.family == AF_INET && in->sin_addr.s_addr == INADDR_ANY) {
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  if (state.family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr)) {
    in6->sin6_addr = in6addr_loopback;
  }
  SocketAddress from = to;  // must be of this host, whatever the listener has (IP_FREEBIND)
  if (IsInet(state)) reinterpret_cast<sockaddr_in*>(from.data())->sin_port = 0;
  const timeval soon = {1, 0};
  for (uint32_t i = 0; i < std::min(state.waiting, 4096u); ++i) {
    OwnedFd client(socket(state.family, state.type | SOCK_CLOEXEC, 0));
    setsockopt(client.get(), SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon));
    if (IsInet(state) && bind(client.get(), Sockaddr(from), Length(from)) != 0) break;
    if (connect(client.get(), Sockaddr(to), Length(to)) != 0) break;
    Reset(std::move(client));
  }
}

}  // namespace km
