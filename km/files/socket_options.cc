// The options of sockets that a snapshot keeps.
#include <linux/in6.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "km/base/log.h"
#include "km/base/status.h"
#include "km/files/socket_state.h"
#include "km/files/socket_unshown.h"

namespace km {
namespace {

constexpr uint64_t kEveryOption = ~uint64_t{0};
constexpr size_t kInt = sizeof(int);
constexpr size_t kNameSize = 16;  // of interfaces and of congestion control
// Of Linux newer than the headers that this is built with, or in none that go with the others'.
constexpr int kRcvPriority = 82;         // SO_RCVPRIORITY, 6.14
constexpr int kPassRights = 83;          // SO_PASSRIGHTS, 6.16
constexpr int kIpRecverrRfc4884 = 26;    // IP_RECVERR_RFC4884, 5.9
constexpr int kLocalPortRange = 51;      // IP_LOCAL_PORT_RANGE, 6.3
constexpr int kIpv6RecverrRfc4884 = 31;  // IPV6_RECVERR_RFC4884, 5.9
constexpr int kTcpRtoMaxMs = 44;         // TCP_RTO_MAX_MS, 6.15
constexpr int kIcmpFilter = 1;           // ICMP_FILTER of level SOL_RAW

struct SavedOption {
  int level, name;
  size_t size;  // at most
  // Much used, changed by nothing but itself, and changing no other: it has a bit of its own.
  bool alone = false;
};

// In an order that they can be set in: see SetsToo.
constexpr SavedOption kSaved[] = {
    {SOL_SOCKET, SO_REUSEADDR, kInt, true},
    {SOL_SOCKET, SO_REUSEPORT, kInt, true},
    {SOL_SOCKET, SO_DONTROUTE, kInt},
    {SOL_SOCKET, SO_BROADCAST, kInt, true},
    {SOL_SOCKET, SO_SNDBUF, kInt},
    {SOL_SOCKET, SO_RCVBUF, kInt},
    {SOL_SOCKET, SO_BUF_LOCK, kInt},
    {SOL_SOCKET, SO_KEEPALIVE, kInt, true},
    {SOL_SOCKET, SO_OOBINLINE, kInt, true},
    {SOL_SOCKET, SO_LINGER, sizeof(linger), true},
    {SOL_SOCKET, SO_PASSCRED, kInt, true},
    {SOL_SOCKET, SO_RCVLOWAT, kInt},
    {SOL_SOCKET, SO_RCVTIMEO, sizeof(timeval), true},
    {SOL_SOCKET, SO_SNDTIMEO, sizeof(timeval), true},
    {SOL_SOCKET, SO_BINDTODEVICE, kNameSize},
    {SOL_SOCKET, SO_TIMESTAMP, kInt},
    {SOL_SOCKET, SO_TIMESTAMPNS, kInt},
    {SOL_SOCKET, SO_TIMESTAMPING, kInt},
    // Whichever is set last says of all three how they are shown.
    {SOL_SOCKET, SO_TIMESTAMP_NEW, kInt},
    {SOL_SOCKET, SO_TIMESTAMPNS_NEW, kInt},
    {SOL_SOCKET, SO_TIMESTAMPING_NEW, kInt},
    {SOL_SOCKET, SO_MARK, kInt},
    {SOL_SOCKET, SO_RXQ_OVFL, kInt},
    {SOL_SOCKET, SO_PEEK_OFF, kInt},
    {SOL_SOCKET, SO_SELECT_ERR_QUEUE, kInt},
    {SOL_SOCKET, SO_BUSY_POLL, kInt},
    {SOL_SOCKET, SO_MAX_PACING_RATE, sizeof(uint64_t)},
    {SOL_SOCKET, SO_ZEROCOPY, kInt, true},
    {SOL_SOCKET, SO_NO_CHECK, kInt},
    {SOL_SOCKET, SO_INCOMING_CPU, kInt},
    {SOL_SOCKET, SO_RCVMARK, kInt},
    {SOL_SOCKET, kRcvPriority, kInt},
    {SOL_SOCKET, SO_TXREHASH, kInt},
    {SOL_SOCKET, SO_PREFER_BUSY_POLL, kInt},
    {SOL_SOCKET, SO_TXTIME, sizeof(uint64_t)},
    {IPPROTO_IP, IP_TOS, kInt},
    {SOL_SOCKET, SO_PRIORITY, kInt},
    {IPPROTO_IP, IP_TTL, kInt},
    {IPPROTO_IP, IP_HDRINCL, kInt},
    {IPPROTO_IP, IP_RECVOPTS, kInt},
    {IPPROTO_IP, IP_RETOPTS, kInt},
    {IPPROTO_IP, IP_PKTINFO, kInt, true},
    {IPPROTO_IP, IP_MTU_DISCOVER, kInt},
    {IPPROTO_IP, IP_RECVERR, kInt, true},
    {IPPROTO_IP, IP_RECVTTL, kInt},
    {IPPROTO_IP, IP_RECVTOS, kInt},
    {IPPROTO_IP, IP_FREEBIND, kInt},
    {IPPROTO_IP, IP_TRANSPARENT, kInt},
    {IPPROTO_IP, IP_ORIGDSTADDR, kInt},
    {IPPROTO_IP, IP_MINTTL, kInt},
    {IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, kInt, true},
    {IPPROTO_IP, IP_MULTICAST_IF, kInt},
    {IPPROTO_IP, IP_MULTICAST_TTL, kInt},
    {IPPROTO_IP, IP_MULTICAST_LOOP, kInt},
    {IPPROTO_IP, IP_MULTICAST_ALL, kInt},
    {IPPROTO_IP, IP_UNICAST_IF, kInt},
    {IPPROTO_IP, kIpRecverrRfc4884, kInt},
    {IPPROTO_IP, IP_RECVFRAGSIZE, kInt},
    {IPPROTO_IP, IP_CHECKSUM, kInt},
    {IPPROTO_IP, kLocalPortRange, kInt},
    {IPPROTO_IP, IP_NODEFRAG, kInt},
    {IPPROTO_IPV6, IPV6_V6ONLY, kInt, true},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, kInt},
    {IPPROTO_IPV6, IPV6_MULTICAST_IF, kInt},
    {IPPROTO_IPV6, IPV6_MULTICAST_HOPS, kInt},
    {IPPROTO_IPV6, IPV6_MULTICAST_LOOP, kInt},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER, kInt},
    {IPPROTO_IPV6, IPV6_RECVERR, kInt, true},
    {IPPROTO_IPV6, IPV6_RECVPKTINFO, kInt, true},
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
    {IPPROTO_IPV6, IPV6_TRANSPARENT, kInt},
    {IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, kInt},
    {IPPROTO_IPV6, IPV6_MINHOPCOUNT, kInt},
    {IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, kInt},
    {IPPROTO_IPV6, IPV6_MULTICAST_ALL, kInt},
    {IPPROTO_IPV6, IPV6_UNICAST_IF, kInt},
    {IPPROTO_IPV6, IPV6_FLOWINFO_SEND, kInt},
    {IPPROTO_IPV6, IPV6_RECVFRAGSIZE, kInt},
    {IPPROTO_IPV6, kIpv6RecverrRfc4884, kInt},
    {IPPROTO_IPV6, IPV6_2292PKTINFO, kInt},
    {IPPROTO_IPV6, IPV6_CHECKSUM, kInt},
    {IPPROTO_TCP, TCP_NODELAY, kInt, true},
    {IPPROTO_TCP, TCP_MAXSEG, kInt},
    {IPPROTO_TCP, TCP_CORK, kInt, true},
    {IPPROTO_TCP, TCP_KEEPIDLE, kInt, true},
    {IPPROTO_TCP, TCP_KEEPINTVL, kInt, true},
    {IPPROTO_TCP, TCP_KEEPCNT, kInt, true},
    {IPPROTO_TCP, TCP_SYNCNT, kInt, true},
    {IPPROTO_TCP, TCP_LINGER2, kInt, true},
    {IPPROTO_TCP, TCP_DEFER_ACCEPT, kInt, true},
    {IPPROTO_TCP, TCP_WINDOW_CLAMP, kInt},
    {IPPROTO_TCP, TCP_CONGESTION, kNameSize},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, kInt, true},
    {IPPROTO_TCP, TCP_FASTOPEN, kInt, true},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, kInt, true},
    {IPPROTO_TCP, TCP_SAVE_SYN, kInt},
    {IPPROTO_TCP, TCP_FASTOPEN_CONNECT, kInt},
    {IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, kInt},
    {IPPROTO_TCP, TCP_INQ, kInt},
    {IPPROTO_TCP, TCP_TX_DELAY, kInt},
    {IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, kInt},
    {IPPROTO_TCP, kTcpRtoMaxMs, kInt},
    {IPPROTO_UDP, UDP_CORK, kInt},
    {IPPROTO_UDP, UDP_SEGMENT, kInt},
    {IPPROTO_UDP, UDP_GRO, kInt},
    {IPPROTO_UDP, UDP_NO_CHECK6_TX, kInt},
    {IPPROTO_UDP, UDP_NO_CHECK6_RX, kInt},
    {IPPROTO_UDP, UDP_ENCAP, kInt},
    {SOL_RAW, kIcmpFilter, kInt},
    {SOL_NETLINK, NETLINK_PKTINFO, kInt},
    {SOL_NETLINK, NETLINK_BROADCAST_ERROR, kInt},
    {SOL_NETLINK, NETLINK_NO_ENOBUFS, kInt},
    {SOL_NETLINK, NETLINK_CAP_ACK, kInt},
    {SOL_NETLINK, NETLINK_EXT_ACK, kInt},
    {SOL_NETLINK, NETLINK_GET_STRICT_CHK, kInt},
    {SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, kInt},  // not to be got: see SaveNetlinkGroups
    {SOL_SOCKET, kPassRights, kInt},
    {SOL_SOCKET, SO_LOCK_FILTER, kInt},
};

// By row: see SocketOptionBit.
constexpr auto kBits = [] {
  std::array<uint64_t, std::size(kSaved)> bits = {};
  uint64_t next = 1;
  for (size_t i = 0; i < bits.size(); ++i) {
    bits[i] = kSaved[i].alone ? next : kEveryOption;
    if (kSaved[i].alone) next <<= 1;
  }
  return bits;
}();

// Levels that a socket has no options of are answered with an error; asking costs nothing much.
bool Applies(const SavedOption& option, const SocketState& state) {
  // Shown by streams too, which cannot set them.
  constexpr int kMulticast4[] = {IP_MULTICAST_IF, IP_MULTICAST_TTL, IP_MULTICAST_LOOP,
                                 IP_MULTICAST_ALL};
  constexpr int kMulticast6[] = {IPV6_MULTICAST_IF, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP};
  // Of packets, which UNIX sockets have none of; asking all of them would take its time.
  constexpr int kOfPackets[] = {SO_NO_CHECK, SO_INCOMING_CPU,     SO_RCVMARK, kRcvPriority,
                                SO_TXREHASH, SO_PREFER_BUSY_POLL, SO_TXTIME};
  auto is_one_of = [&](const auto& names) {
    return std::find(std::begin(names), std::end(names), option.name) != std::end(names);
  };
  if (state.type == SOCK_STREAM && ((option.level == IPPROTO_IP && is_one_of(kMulticast4)) ||
                                    (option.level == IPPROTO_IPV6 && is_one_of(kMulticast6)))) {
    return false;
  }
  switch (option.level) {
    case SOL_SOCKET:
      return state.family != AF_UNIX || !is_one_of(kOfPackets);
    case IPPROTO_IP:
      return state.family == AF_INET || state.family == AF_INET6;
    case IPPROTO_IPV6:
      return state.family == AF_INET6;
    case IPPROTO_TCP:
    case IPPROTO_UDP:
      return state.protocol == option.level;
    case SOL_RAW:
      return state.type == SOCK_RAW;
    case SOL_NETLINK:
      return state.family == AF_NETLINK;
    default:
      return true;
  }
}

// The kernel doubles what is asked for, and shows that.
bool IsBufferSize(const SocketOption& option) {
  return option.level == SOL_SOCKET && (option.name == SO_SNDBUF || option.name == SO_RCVBUF);
}

// None: it has no such option. An empty value is one: of SO_BINDTODEVICE.
std::optional<std::vector<uint8_t>> OptionOf(int fd, const SavedOption& option) {
  std::vector<uint8_t> value(option.size);
  auto size = static_cast<socklen_t>(value.size());
  if (getsockopt(fd, option.level, option.name, value.data(), &size) != 0) return std::nullopt;
  value.resize(option.size == kInt ? kInt : std::min<size_t>(size, value.size()));
  return value;
}

// Whether setting the one sets the other too, which has to be saved then, whatever it is.
bool SetsToo(const SocketOption& option, const SavedOption& other) {
  if (other.level != SOL_SOCKET) return false;
  return (other.name == SO_PRIORITY && option.level == IPPROTO_IP && option.name == IP_TOS) ||
         (other.name == SO_BUF_LOCK && IsBufferSize(option));
}

// Those above 32, for which an address has no room.
void SaveNetlinkGroups(int fd, SocketState* state) {
  std::array<uint32_t, 64> groups = {};
  socklen_t size = sizeof(groups);
  if (getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups.data(), &size) != 0) return;
  for (uint32_t group = 33; group <= groups.size() * 32; ++group) {
    if ((groups[(group - 1) / 32] >> (group - 1) % 32 & 1) == 0) continue;
    const auto* bytes = reinterpret_cast<const uint8_t*>(&group);
    state->options.push_back({SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, {bytes, bytes + sizeof(group)}});
  }
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

SocketOptionTime TimeOf(const SocketOption& option) {
  auto is = [&](int level, std::initializer_list<int> names) {
    return option.level == level &&
           std::find(names.begin(), names.end(), option.name) != names.end();
  };
  if (is(SOL_SOCKET, {SO_REUSEADDR, SO_REUSEPORT, SO_MARK}) ||
      is(IPPROTO_IP, {IP_FREEBIND, IP_TRANSPARENT}) ||
      is(IPPROTO_IPV6, {IPV6_V6ONLY, IPV6_FREEBIND, IPV6_TRANSPARENT})) {
    return kOptionsForName;
  }
  if (is(SOL_SOCKET, {SO_BINDTODEVICE}) || is(IPPROTO_IP, {IP_MINTTL}) ||
      is(IPPROTO_IPV6, {IPV6_MINHOPCOUNT})) {
    return kOptionsBarring;
  }
  // What is noted of one is seen only directly behind it.
  const bool noted = IsMembership(option.level, option.name, option.value.size());
  return noted || is(SOL_SOCKET, {kPassRights, SO_LOCK_FILTER}) ? kOptionsAtLast : kOptionsOther;
}

absl::Status SetOption(int fd, const SocketOption& option) {
  if (IsBufferSize(option)) return SetBufferSize(fd, option);
  if (setsockopt(fd, option.level, option.name, option.value.data(),
                 static_cast<socklen_t>(option.value.size())) == 0) {
    return absl::OkStatus();
  }
  if (IsMembership(option.level, option.name, option.value.size())) {
    // As when an interface goes away: the program goes on, and hears nothing of it.
    Log(LogLevel::kWarning, absl::StrCat("a socket has a multicast group or interface no more: ",
                                         ErrnoStatus(errno, "setsockopt").message()));
    return absl::OkStatus();
  }
  if (option.level == SOL_SOCKET && option.name == SO_BINDTODEVICE) {
    const std::string name(option.value.begin(), option.value.end());
    return ErrnoStatus(
        errno, absl::StrCat("cannot bind a socket to interface ", name.c_str(), ", where it was"));
  }
  return ErrnoStatus(errno, absl::StrCat("cannot set option ", option.name, " of level ",
                                         option.level, " of a socket"));
}

// Those of `set`, as SocketOptionBit tells them. Each question costs a system call, and a program
// may have many thousands of sockets.
absl::Status SaveOptionsSet(int fd, uint64_t set, FileSaver& saver, SocketState* state) {
  auto [it, first] = saver.new_sockets.try_emplace({state->family, state->type, state->protocol});
  std::vector<std::optional<std::vector<uint8_t>>>& defaults = it->second;
  if (first) {
    OwnedFd fresh(socket(state->family, state->type | SOCK_CLOEXEC, state->protocol));
    if (!fresh.valid()) {
      saver.new_sockets.erase(it);
      return ErrnoStatus(errno, "cannot be compared with a new one");
    }
    for (const SavedOption& option : kSaved) {
      defaults.push_back(Applies(option, *state) ? OptionOf(fresh.get(), option) : std::nullopt);
    }
  }
  for (size_t i = 0; i < std::size(kSaved); ++i) {
    const SavedOption& option = kSaved[i];
    if ((set & kBits[i]) != kBits[i]) continue;
    // What a new one does not have, this one has not either.
    if (!defaults[i].has_value()) continue;
    std::optional<std::vector<uint8_t>> value = OptionOf(fd, option);
    const bool is_set_too =
        std::any_of(state->options.begin(), state->options.end(),
                    [&](const SocketOption& saved) { return SetsToo(saved, option); });
    if (!value.has_value() || (value == defaults[i] && !is_set_too)) continue;
    state->options.push_back({option.level, option.name, *std::move(value)});
  }
  return absl::OkStatus();
}

}  // namespace

bool IsSavedOption(int level, int name, size_t size) {
  return IsMembership(level, name, size) ||
         std::any_of(std::begin(kSaved), std::end(kSaved), [&](const SavedOption& o) {
           return o.level == level && o.name == name && size <= o.size &&
                  (o.size != kInt || size == kInt);
         });
}

uint64_t SocketOptionBit(int level, int name) {
  const auto* row = std::find_if(std::begin(kSaved), std::end(kSaved), [&](const SavedOption& one) {
    return one.level == level && one.name == name;
  });
  return row != std::end(kSaved) ? kBits[static_cast<size_t>(row - kSaved)] : kEveryOption;
}

absl::Status SaveSocketOptions(const OpenFile& file, FileSaver& saver, SocketState* state) {
  const uint64_t set = file.description->socket_options;
  if (set != 0) KM_RETURN_IF_ERROR(SaveOptionsSet(file.host.get(), set, saver, state));
  if (state->family == AF_NETLINK) SaveNetlinkGroups(file.host.get(), state);
  std::shared_ptr<const SocketUnshown> unshown = file.description->unshown();
  if (unshown == nullptr) return absl::OkStatus();
  KM_RETURN_IF_ERROR(unshown->Carried());
  for (SocketOption& option : unshown->Memberships(file.host.get())) {
    state->options.push_back(std::move(option));
  }
  return absl::OkStatus();
}

absl::Status SetSocketOptions(int host_fd, const SocketState& state, unsigned times) {
  for (const SocketOption& option : state.options) {
    if ((TimeOf(option) & times) != 0) KM_RETURN_IF_ERROR(SetOption(host_fd, option));
  }
  return absl::OkStatus();
}

absl::Status FinishSocketOptions(const OpenFile& file, const SocketState& state) {
  file.description->socket_options = 0;
  for (const SocketOption& option : state.options) {
    file.description->socket_options |= SocketOptionBit(option.level, option.name);
    if (TimeOf(option) != kOptionsAtLast) continue;
    KM_RETURN_IF_ERROR(SetOption(file.host.get(), option));
    if (!IsMembership(option.level, option.name, option.value.size())) continue;
    file.description->MakeUnshown()->Note(file.host.get(), option.level, option.name, option.value);
  }
  // What getpeername(2) does not show: see SocketUnshown.
  const bool leads = state.type != SOCK_STREAM && !state.peer.empty() && IsInet(state);
  if (leads) file.description->MakeUnshown()->NotePeer(state.peer);
  return absl::OkStatus();
}

}  // namespace km
