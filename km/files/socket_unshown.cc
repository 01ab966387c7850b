#include "km/files/socket_unshown.h"

#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>

#include "km/files/socket_state.h"

namespace km {
namespace {

constexpr int kTcpAoAddKey = 38;  // TCP_AO_ADD_KEY of Linux 6.7

template <typename T>
bool Read(absl::Span<const uint8_t> bytes, T* value) {
  if (bytes.size() < sizeof(T)) return false;
  std::memcpy(value, bytes.data(), sizeof(T));
  return true;
}

template <typename T>
std::vector<uint8_t> BytesOf(const T& value) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
  return {bytes, bytes + sizeof(T)};
}

std::vector<uint8_t> Address4(in_addr_t address) {
  sockaddr_in in = {};
  in.sin_family = AF_INET;
  in.sin_addr.s_addr = address;
  return BytesOf(in);
}

// Port and the rest say nothing of a group.
std::vector<uint8_t> AddressOf(const sockaddr_storage& from) {
  if (from.ss_family == AF_INET) {
    return Address4(reinterpret_cast<const sockaddr_in&>(from).sin_addr.s_addr);
  }
  sockaddr_in6 in6 = {};
  in6.sin6_family = AF_INET6;
  in6.sin6_addr = reinterpret_cast<const sockaddr_in6&>(from).sin6_addr;
  return BytesOf(in6);
}

sockaddr_storage Storage(absl::Span<const uint8_t> address) {
  sockaddr_storage storage = {};
  std::memcpy(&storage, address.data(), std::min(address.size(), sizeof(storage)));
  return storage;
}

in_addr_t Ip4(const sockaddr_storage& address) {
  return reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr;
}

struct Membership {
  bool all_but = false;  // the sources: MCAST_EXCLUDE
  std::vector<sockaddr_storage> sources;
};

// None: the socket is not a member there.
std::optional<Membership> MembershipOf(int fd, int level, absl::Span<const uint8_t> address,
                                       uint32_t interface) {
  constexpr size_t kHead = offsetof(group_filter, gf_slist);
  for (uint32_t room = 64; room <= 1 << 16; room *= 4) {
    std::vector<uint8_t> bytes(kHead + room * sizeof(sockaddr_storage));
    auto* filter = reinterpret_cast<group_filter*>(bytes.data());
    filter->gf_interface = interface;
    filter->gf_group = Storage(address);
    filter->gf_numsrc = room;
    auto size = static_cast<socklen_t>(bytes.size());
    if (getsockopt(fd, level, MCAST_MSFILTER, filter, &size) != 0) return std::nullopt;
    if (filter->gf_numsrc > room) continue;
    const sockaddr_storage* sources = filter->gf_slist;
    return Membership{filter->gf_fmode == MCAST_EXCLUDE, {sources, sources + filter->gf_numsrc}};
  }
  return std::nullopt;
}

bool IsLevel(int level) { return level == IPPROTO_IP || level == IPPROTO_IPV6; }

bool IsJoin(int level, int name) {
  if (name == MCAST_JOIN_GROUP || name == MCAST_JOIN_SOURCE_GROUP) return IsLevel(level);
  return level == IPPROTO_IP ? name == IP_ADD_MEMBERSHIP || name == IP_ADD_SOURCE_MEMBERSHIP
                             : level == IPPROTO_IPV6 && name == IPV6_ADD_MEMBERSHIP;
}

bool IsLeave(int level, int name) {
  if (name == MCAST_LEAVE_GROUP || name == MCAST_LEAVE_SOURCE_GROUP) return IsLevel(level);
  return level == IPPROTO_IP ? name == IP_DROP_MEMBERSHIP || name == IP_DROP_SOURCE_MEMBERSHIP
                             : level == IPPROTO_IPV6 && name == IPV6_DROP_MEMBERSHIP;
}

// Sets all sources of a group, and leaves it where there are none.
bool IsWholeFilter(int level, int name) {
  return (IsLevel(level) && name == MCAST_MSFILTER) || (level == IPPROTO_IP && name == IP_MSFILTER);
}

// What cannot be asked for, nor taken back so that nothing is left of it. Null: it is nothing such.
const char* ObstacleOf(int level, int name) {
  if (level == IPPROTO_TCP &&
      (name == TCP_MD5SIG || name == TCP_MD5SIG_EXT || name == kTcpAoAddKey)) {
    return "signs its packets (TCP_MD5SIG, TCP_AO) with keys that the kernel does not show: close "
           "it before";
  }
  if (level == IPPROTO_IPV6 && name == IPV6_JOIN_ANYCAST) {
    return "joined an anycast group, which the kernel does not show: close it before";
  }
  if ((level == IPPROTO_IP && (name == IP_IPSEC_POLICY || name == IP_XFRM_POLICY)) ||
      (level == IPPROTO_IPV6 && (name == IPV6_IPSEC_POLICY || name == IPV6_XFRM_POLICY))) {
    return "has an IPsec policy of its own, which the kernel does not show: close it before";
  }
  return nullptr;
}

bool IsSelector(int level, int name) {
  return level == SOL_SOCKET &&
         (name == SO_ATTACH_REUSEPORT_CBPF || name == SO_DETACH_REUSEPORT_BPF);
}

}  // namespace

bool IsGroupOption(int level, int name) {
  return IsJoin(level, name) || IsLeave(level, name) ||
         (level == IPPROTO_IP && name == IP_MULTICAST_IF);
}

bool IsMembership(int level, int name, size_t size) {
  switch (IsLevel(level) ? name : -1) {
    case MCAST_JOIN_GROUP:
      return size == sizeof(group_req);
    case MCAST_JOIN_SOURCE_GROUP:
    case MCAST_BLOCK_SOURCE:
      return size == sizeof(group_source_req);
    case IP_MULTICAST_IF:
    case IP_ADD_MEMBERSHIP:
      return level == IPPROTO_IP && size == sizeof(ip_mreqn);
    case IP_ADD_SOURCE_MEMBERSHIP:
    case IP_BLOCK_SOURCE:
      return level == IPPROTO_IP && size == sizeof(ip_mreq_source);
    default:
      return false;
  }
}

bool SocketUnshown::Notes(int level, int name) {
  return IsGroupOption(level, name) || IsWholeFilter(level, name) || IsSelector(level, name) ||
         ObstacleOf(level, name) != nullptr;
}

bool SocketUnshown::Parse(int level, int name, absl::Span<const uint8_t> value, Group* group) {
  group->level = level;
  if (level == IPPROTO_IPV6 && (name == IPV6_ADD_MEMBERSHIP || name == IPV6_DROP_MEMBERSHIP)) {
    ipv6_mreq request;
    if (!Read(value, &request)) return false;
    sockaddr_in6 in6 = {};
    in6.sin6_family = AF_INET6;
    in6.sin6_addr = request.ipv6mr_multiaddr;
    group->address = BytesOf(in6);
    group->given_index = request.ipv6mr_interface;
    return true;
  }
  if (level == IPPROTO_IP && (name == IP_ADD_MEMBERSHIP || name == IP_DROP_MEMBERSHIP)) {
    ip_mreqn request = {};
    if (value.size() < sizeof(ip_mreq)) return false;
    std::memcpy(&request, value.data(),
                value.size() < sizeof(request) ? sizeof(ip_mreq) : sizeof(request));
    group->address = Address4(request.imr_multiaddr.s_addr);
    group->given_index = static_cast<uint32_t>(request.imr_ifindex);
    group->given_address = request.imr_address.s_addr;
    return true;
  }
  if (level == IPPROTO_IP &&
      (name == IP_ADD_SOURCE_MEMBERSHIP || name == IP_DROP_SOURCE_MEMBERSHIP)) {
    ip_mreq_source request;
    if (!Read(value, &request)) return false;
    group->address = Address4(request.imr_multiaddr.s_addr);
    group->given_address = request.imr_interface.s_addr;
    return true;
  }
  group_req request;  // what struct group_source_req begins with
  if (!Read(value, &request)) return false;
  group->address = AddressOf(request.gr_group);
  group->given_index = request.gr_interface;
  return true;
}

bool SocketUnshown::Has(const Group& group) const {
  return std::any_of(groups_.begin(), groups_.end(), [&](const Group& other) {
    return other.level == group.level && other.interface == group.interface &&
           other.address == group.address;
  });
}

void SocketUnshown::Join(int host_fd, Group group) {
  auto add = [&](uint32_t interface) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    group.interface = interface;
    const bool is_new =
        !Has(group) && MembershipOf(host_fd, group.level, group.address, interface).has_value();
    if (is_new) groups_.push_back(group);
  };
  if (group.given_index != 0) return add(group.given_index);
  // The kernel has chosen one: that where the socket was no member before.
  struct if_nameindex* all = if_nameindex();
  if (all == nullptr) return;
  for (struct if_nameindex* at = all; at->if_index != 0; ++at) add(at->if_index);
  if_freenameindex(all);
}

void SocketUnshown::Note(int host_fd, int level, int name, absl::Span<const uint8_t> value) {
  absl::MutexLock lock(&mutex_);
  Group named;
  if (level == IPPROTO_IP && name == IP_MULTICAST_IF) {
    // getsockopt(2) shows the address alone.
    ip_mreqn request;
    const bool by_index = Read(value, &request) && request.imr_ifindex != 0;
    sends_by_ = by_index ? BytesOf(request) : std::vector<uint8_t>();
    return;
  }
  const bool is_group = IsGroupOption(level, name) && Parse(level, name, value, &named);
  if (is_group && IsJoin(level, name)) {
    Join(host_fd, std::move(named));
  } else if (is_group || IsWholeFilter(level, name)) {
    groups_.erase(std::remove_if(groups_.begin(), groups_.end(),
                                 [&](const Group& group) {
                                   return (!is_group || group.address == named.address) &&
                                          !MembershipOf(host_fd, group.level, group.address,
                                                        group.interface)
                                               .has_value();
                                 }),
                  groups_.end());
  }
  if (IsSelector(level, name)) selector_ = name == SO_ATTACH_REUSEPORT_CBPF;
  if (const char* obstacle = ObstacleOf(level, name); obstacle != nullptr) obstacle_ = obstacle;
}

void SocketUnshown::NotePeer(absl::Span<const uint8_t> peer) {
  absl::MutexLock lock(&mutex_);
  peer_.assign(peer.begin(), peer.end());
}

std::vector<uint8_t> SocketUnshown::peer() const {
  absl::MutexLock lock(&mutex_);
  return peer_;
}

void SocketUnshown::set_hides_empty(bool hides) {
  absl::MutexLock lock(&mutex_);
  hides_empty_ = hides;
}

bool SocketUnshown::hides_empty() const {
  absl::MutexLock lock(&mutex_);
  return hides_empty_;
}

std::vector<SocketOption> SocketUnshown::Memberships(int host_fd) const {
  absl::MutexLock lock(&mutex_);
  std::vector<SocketOption> options;
  if (!sends_by_.empty()) options.push_back({IPPROTO_IP, IP_MULTICAST_IF, sends_by_});
  for (const Group& group : groups_) {
    std::optional<Membership> is =
        MembershipOf(host_fd, group.level, group.address, group.interface);
    if (!is.has_value()) continue;
    const bool by_address = group.given_index == 0 && group.given_address != 0;
    const sockaddr_storage address = Storage(group.address);
    if (is->all_but && by_address) {
      ip_mreqn join = {{Ip4(address)}, {group.given_address}, 0};
      options.push_back({group.level, IP_ADD_MEMBERSHIP, BytesOf(join)});
    } else if (is->all_but) {
      group_req join = {};
      join.gr_interface = group.given_index;
      join.gr_group = address;
      options.push_back({group.level, MCAST_JOIN_GROUP, BytesOf(join)});
    }
    for (const sockaddr_storage& source : is->sources) {
      if (by_address) {
        ip_mreq_source request = {};
        request.imr_multiaddr.s_addr = Ip4(address);
        request.imr_interface.s_addr = group.given_address;
        request.imr_sourceaddr.s_addr = Ip4(source);
        options.push_back({group.level, is->all_but ? IP_BLOCK_SOURCE : IP_ADD_SOURCE_MEMBERSHIP,
                           BytesOf(request)});
        continue;
      }
      group_source_req request = {};
      request.gsr_interface = group.given_index;
      request.gsr_group = address;
      request.gsr_source = Storage(AddressOf(source));
      options.push_back({group.level, is->all_but ? MCAST_BLOCK_SOURCE : MCAST_JOIN_SOURCE_GROUP,
                         BytesOf(request)});
    }
  }
  return options;
}

absl::Status SocketUnshown::Carried() const {
  absl::MutexLock lock(&mutex_);
  if (obstacle_ != nullptr) return absl::FailedPreconditionError(obstacle_);
  if (!selector_) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "has a program that chooses among the sockets of its port (SO_ATTACH_REUSEPORT_CBPF), and "
      "the kernel does not show it: detach it before (SO_DETACH_REUSEPORT_BPF)");
}

}  // namespace km
