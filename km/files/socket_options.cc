// The options of sockets that a snapshot keeps.
#include <linux/in6.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "km/base/status.h"
#include "km/files/socket_state.h"

namespace km {
namespace {

constexpr size_t kInt = sizeof(int);
constexpr size_t kNameSize = 16;  // of interfaces and of congestion control

struct SavedOption {
  int level, name;
  size_t size;  // at most
};

// In an order that they can be set in. Those without a constant are of newer headers.
constexpr SavedOption kSaved[] = {
    {SOL_SOCKET, SO_REUSEADDR, kInt},
    {SOL_SOCKET, SO_REUSEPORT, kInt},
    {SOL_SOCKET, SO_DONTROUTE, kInt},
    {SOL_SOCKET, SO_BROADCAST, kInt},
    {SOL_SOCKET, SO_SNDBUF, kInt},
    {SOL_SOCKET, SO_RCVBUF, kInt},
    {SOL_SOCKET, SO_KEEPALIVE, kInt},
    {SOL_SOCKET, SO_OOBINLINE, kInt},
    {SOL_SOCKET, SO_PRIORITY, kInt},
    {SOL_SOCKET, SO_LINGER, sizeof(linger)},
    {SOL_SOCKET, SO_PASSCRED, kInt},
    {SOL_SOCKET, SO_RCVLOWAT, kInt},
    {SOL_SOCKET, SO_RCVTIMEO, sizeof(timeval)},
    {SOL_SOCKET, SO_SNDTIMEO, sizeof(timeval)},
    {SOL_SOCKET, SO_BINDTODEVICE, kNameSize},
    {SOL_SOCKET, SO_TIMESTAMP, kInt},
    {SOL_SOCKET, SO_TIMESTAMPNS, kInt},
    {SOL_SOCKET, SO_TIMESTAMPING, kInt},
    {SOL_SOCKET, SO_MARK, kInt},
    {SOL_SOCKET, SO_RXQ_OVFL, kInt},
    {SOL_SOCKET, SO_PEEK_OFF, kInt},
    {SOL_SOCKET, SO_SELECT_ERR_QUEUE, kInt},
    {SOL_SOCKET, SO_BUSY_POLL, kInt},
    {SOL_SOCKET, SO_MAX_PACING_RATE, sizeof(uint64_t)},
    {SOL_SOCKET, SO_ZEROCOPY, kInt},
    {IPPROTO_IP, IP_TOS, kInt},
    {IPPROTO_IP, IP_TTL, kInt},
    {IPPROTO_IP, IP_HDRINCL, kInt},
    {IPPROTO_IP, IP_RECVOPTS, kInt},
    {IPPROTO_IP, IP_RETOPTS, kInt},
    {IPPROTO_IP, IP_PKTINFO, kInt},
    {IPPROTO_IP, IP_MTU_DISCOVER, kInt},
    {IPPROTO_IP, IP_RECVERR, kInt},
    {IPPROTO_IP, IP_RECVTTL, kInt},
    {IPPROTO_IP, IP_RECVTOS, kInt},
    {IPPROTO_IP, IP_FREEBIND, kInt},
    {IPPROTO_IP, IP_TRANSPARENT, kInt},
    {IPPROTO_IP, IP_ORIGDSTADDR, kInt},
    {IPPROTO_IP, IP_MINTTL, kInt},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, kInt},
    {IPPROTO_IP, IP_MULTICAST_IF, kInt},
    {IPPROTO_IP, IP_MULTICAST_TTL, kInt},
    {IPPROTO_IP, IP_MULTICAST_LOOP, kInt},
    {IPPROTO_IP, IP_MULTICAST_ALL, kInt},
    {IPPROTO_IP, IP_UNICAST_IF, kInt},
    {IPPROTO_IPV6, IPV6_V6ONLY, kInt},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, kInt},
    {IPPROTO_IPV6, IPV6_MULTICAST_IF, kInt},
    {IPPROTO_IPV6, IPV6_MULTICAST_HOPS, kInt},
    {IPPROTO_IPV6, IPV6_MULTICAST_LOOP, kInt},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER, kInt},
    {IPPROTO_IPV6, IPV6_RECVERR, kInt},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, kInt},
    {IPPROTO_IPV6, IPV6_RECVHOPLIMIT, kInt},
    {IPPROTO_IPV6, IPV6_RECVHOPOPTS, kInt},
    {IPPROTO_IPV6, IPV6_RECVRTHDR, kInt},
    {IPPROTO_IPV6, IPV6_RECVDSTOPTS, kInt},
    {IPPROTO_IPV6, IPV6_RECVPATHMTU, kInt},
    {IPPROTO_IPV6, IPV6_DONTFRAG, kInt},
    {IPPROTO_IPV6, IPV6_RECVTCLASS, kInt},
    {IPPROTO_IPV6, IPV6_TCLASS, kInt},
    {IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, kInt},
    {IPPROTO_IPV6, IPV6_FREEBIND, kInt},
    {IPPROTO_TCP, TCP_NODELAY, kInt},
    {IPPROTO_TCP, TCP_MAXSEG, kInt},
    {IPPROTO_TCP, TCP_CORK, kInt},
    {IPPROTO_TCP, TCP_KEEPIDLE, kInt},
    {IPPROTO_TCP, TCP_KEEPINTVL, kInt},
    {IPPROTO_TCP, TCP_KEEPCNT, kInt},
    {IPPROTO_TCP, TCP_SYNCNT, kInt},
    {IPPROTO_TCP, TCP_LINGER2, kInt},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT, kInt},
    {IPPROTO_TCP, TCP_WINDOW_CLAMP, kInt},
    {IPPROTO_TCP, TCP_CONGESTION, kNameSize},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, kInt},
    {IPPROTO_TCP, TCP_FASTOPEN, kInt},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, kInt},
    {IPPROTO_TCP, TCP_SAVE_SYN, kInt},
    {IPPROTO_TCP, TCP_FASTOPEN_CONNECT, kInt},
    {IPPROTO_UDP, UDP_CORK, kInt},
    {IPPROTO_UDP, UDP_SEGMENT, kInt},
    {IPPROTO_UDP, UDP_GRO, kInt},
    {SOL_NETLINK, NETLINK_PKTINFO, kInt},
    {SOL_NETLINK, NETLINK_BROADCAST_ERROR, kInt},
    {SOL_NETLINK, NETLINK_NO_ENOBUFS, kInt},
    {SOL_NETLINK, NETLINK_CAP_ACK, kInt},
    {SOL_NETLINK, NETLINK_EXT_ACK, kInt},
    {SOL_NETLINK, NETLINK_GET_STRICT_CHK, kInt},
};

// Levels that a socket has no options of are answered with an error; asking costs nothing much.
bool Applies(const SavedOption& option, const SocketState& state) {
  // Shown by streams too, which cannot set them.
  constexpr int kMulticast4[] = {IP_MULTICAST_IF, IP_MULTICAST_TTL, IP_MULTICAST_LOOP,
                                 IP_MULTICAST_ALL};
  constexpr int kMulticast6[] = {IPV6_MULTICAST_IF, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP};
  auto is_one_of = [&](const auto& names) {
    return std::find(std::begin(names), std::end(names), option.name) != std::end(names);
  };
  if (state.type == SOCK_STREAM && ((option.level == IPPROTO_IP && is_one_of(kMulticast4)) ||
                                    (option.level == IPPROTO_IPV6 && is_one_of(kMulticast6)))) {
    return false;
  }
  switch (option.level) {
    case IPPROTO_IP:
      return state.family == AF_INET || state.family == AF_INET6;
    case IPPROTO_IPV6:
      return state.family == AF_INET6;
    case IPPROTO_TCP:
    case IPPROTO_UDP:
      return state.protocol == option.level;
    case SOL_NETLINK:
      return state.family == AF_NETLINK;
    default:
      return true;
  }
}

// Empty: it has none.
std::vector<uint8_t> OptionOf(int fd, const SavedOption& option) {
  std::vector<uint8_t> value(option.size);
  auto size = static_cast<socklen_t>(value.size());
  if (getsockopt(fd, option.level, option.name, value.data(), &size) != 0) size = 0;
  value.resize(std::min<size_t>(size, value.size()));
  return value;
}

// The kernel doubles what is asked for, and shows that.
bool IsBufferSize(const SocketOption& option) {
  return option.level == SOL_SOCKET && (option.name == SO_SNDBUF || option.name == SO_RCVBUF);
}

absl::Status SetBufferSize(int fd, const SocketOption& option) {
  int size = 0;
  std::copy_n(option.value.begin(), sizeof(size), reinterpret_cast<uint8_t*>(&size));
  size /= 2;
  const int force = option.name == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE;
  if (setsockopt(fd, SOL_SOCKET, option.name, &size, sizeof(size)) != 0) {
    return ErrnoStatus(errno, "cannot give a socket its buffers");
  }
  // Beyond the limits of this host it takes privileges; without, it is a little smaller.
  setsockopt(fd, SOL_SOCKET, force, &size, sizeof(size));
  return absl::OkStatus();
}

}  // namespace

bool IsSavedOption(int level, int name, size_t size) {
  return std::any_of(std::begin(kSaved), std::end(kSaved), [&](const SavedOption& o) {
    return o.level == level && o.name == name && size <= o.size && (o.size != kInt || size == kInt);
  });
}

absl::Status SaveSocketOptions(int host_fd, FileSaver& saver, SocketState* state) {
  auto [it, first] = saver.new_sockets.try_emplace({state->family, state->type, state->protocol});
  std::vector<std::vector<uint8_t>>& defaults = it->second;
  if (first) {
    OwnedFd fresh(socket(state->family, state->type | SOCK_CLOEXEC, state->protocol));
    if (!fresh.valid()) {
      saver.new_sockets.erase(it);
      return ErrnoStatus(errno, "cannot be compared with a new one");
    }
    for (const SavedOption& option : kSaved) {
      defaults.push_back(Applies(option, *state) ? OptionOf(fresh.get(), option)
                                                 : std::vector<uint8_t>());
    }
  }
  for (size_t i = 0; i < std::size(kSaved); ++i) {
    const SavedOption& option = kSaved[i];
    // What a new one does not have, this one has not either.
    if (defaults[i].empty()) continue;
    std::vector<uint8_t> value = OptionOf(host_fd, option);
    if (value.empty() || value == defaults[i]) continue;
    if (option.size == kInt && value.size() != kInt) value.resize(kInt);
    state->options.push_back({option.level, option.name, std::move(value)});
  }
  return absl::OkStatus();
}

absl::Status SetSocketOptions(int host_fd, const SocketState& state) {
  for (const SocketOption& option : state.options) {
    if (IsBufferSize(option)) {
      KM_RETURN_IF_ERROR(SetBufferSize(host_fd, option));
    } else if (setsockopt(host_fd, option.level, option.name, option.value.data(),
                          static_cast<socklen_t>(option.value.size())) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot set option ", option.name, " of level ",
                                             option.level, " of a socket"));
    }
  }
  return absl::OkStatus();
}

}  // namespace km
