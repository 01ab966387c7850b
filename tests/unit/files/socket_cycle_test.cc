// Sockets that are saved, closed and restored.
#include "tests/unit/files/socket_cycle.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <linux/filter.h>
#include <linux/net_tstamp.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "km/files/socket_state.h"
#include "km/files/socket_unshown.h"

namespace km {
namespace {

TEST_F(SocketCycleTest, TheInterfaceThatItIsBoundTo) {
  OwnedFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), 0);
  Put(std::move(fd));
  Cycle();
  char name[16] = "";
  socklen_t size = sizeof(name);
  ASSERT_EQ(getsockopt(Fd(), SOL_SOCKET, SO_BINDTODEVICE, name, &size), 0);
  EXPECT_STREQ(name, "lo");
}

TEST_F(SocketCycleTest, APriorityBesidesATypeOfService) {
  for (int priority : {3, 0}) {
    OwnedFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_TRUE(Set(fd.get(), IPPROTO_IP, IP_TOS, 0x10));
    ASSERT_TRUE(Set(fd.get(), SOL_SOCKET, SO_PRIORITY, priority));
    Put(std::move(fd));
    Cycle();
    EXPECT_EQ(Get(Fd(), IPPROTO_IP, IP_TOS), 0x10);
    EXPECT_EQ(Get(Fd(), SOL_SOCKET, SO_PRIORITY), priority);
  }
}

TEST_F(SocketCycleTest, BuffersThatTheKernelMaySizeAgain) {
  OwnedFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_TRUE(Set(fd.get(), SOL_SOCKET, SO_RCVBUF, 30000));
  ASSERT_TRUE(Set(fd.get(), SOL_SOCKET, SO_BUF_LOCK, 0));
  Put(std::move(fd));
  Cycle();
  EXPECT_EQ(Get(Fd(), SOL_SOCKET, SO_RCVBUF), 60000);
  EXPECT_EQ(Get(Fd(), SOL_SOCKET, SO_BUF_LOCK), 0);
}

struct Option {
  const char* what;
  int family, type, protocol, level, name, value;
};

class SocketOptionCycleTest : public SocketCycleTest,
                              public ::testing::WithParamInterface<Option> {};

TEST_P(SocketOptionCycleTest, ComesBack) {
  const Option& option = GetParam();
  OwnedFd fd(socket(option.family, option.type | SOCK_CLOEXEC, option.protocol));
  if (!fd.valid() || !Set(fd.get(), option.level, option.name, option.value)) {
    GTEST_SKIP() << "not here: " << strerrorname_np(errno);
  }
  const int before = Get(fd.get(), option.level, option.name);
  Put(std::move(fd)).socket_options = SocketOptionBit(option.level, option.name);
  Cycle();
  EXPECT_EQ(Get(Fd(), option.level, option.name), before);
}

// Numbers are of options that the headers lack.
constexpr Option kOptions[] = {
    {"NoCheck", AF_INET, SOCK_DGRAM, 0, SOL_SOCKET, SO_NO_CHECK, 1},
    {"LockFilter", AF_INET, SOCK_DGRAM, 0, SOL_SOCKET, SO_LOCK_FILTER, 1},
    {"IncomingCpu", AF_INET, SOCK_DGRAM, 0, SOL_SOCKET, SO_INCOMING_CPU, 1},
    {"RcvMark", AF_INET, SOCK_DGRAM, 0, SOL_SOCKET, SO_RCVMARK, 1},
    {"RcvPriority", AF_INET, SOCK_DGRAM, 0, SOL_SOCKET, 82, 1},
    {"PassRights", AF_UNIX, SOCK_DGRAM, 0, SOL_SOCKET, 83, 0},
    {"TxRehash", AF_INET, SOCK_STREAM, 0, SOL_SOCKET, SO_TXREHASH, 0},
    {"PreferBusyPoll", AF_INET, SOCK_DGRAM, 0, SOL_SOCKET, SO_PREFER_BUSY_POLL, 1},
    {"TimestampNew", AF_INET, SOCK_DGRAM, 0, SOL_SOCKET, SO_TIMESTAMP_NEW, 1},
    {"TimestampNsNew", AF_INET, SOCK_DGRAM, 0, SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1},
    {"TimestampingNew", AF_INET, SOCK_DGRAM, 0, SOL_SOCKET, SO_TIMESTAMPING_NEW, 0x18},
    {"RecverrRfc4884", AF_INET, SOCK_DGRAM, 0, IPPROTO_IP, 26, 1},
    {"RecvFragSize", AF_INET, SOCK_DGRAM, 0, IPPROTO_IP, IP_RECVFRAGSIZE, 1},
    {"Checksum", AF_INET, SOCK_DGRAM, 0, IPPROTO_IP, IP_CHECKSUM, 1},
    {"LocalPortRange", AF_INET, SOCK_STREAM, 0, IPPROTO_IP, 51, (50100 << 16) | 50000},
    {"NoDefrag", AF_INET, SOCK_RAW, IPPROTO_ICMP, IPPROTO_IP, IP_NODEFRAG, 1},
    {"Ipv6RecvOrigDstAddr", AF_INET6, SOCK_DGRAM, 0, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, 1},
    {"Ipv6MinHopCount", AF_INET6, SOCK_DGRAM, 0, IPPROTO_IPV6, IPV6_MINHOPCOUNT, 255},
    {"Ipv6AddrPreferences", AF_INET6, SOCK_DGRAM, 0, IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, 2},
    {"Ipv6MulticastAll", AF_INET6, SOCK_DGRAM, 0, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0},
    {"Ipv6UnicastIf", AF_INET6, SOCK_DGRAM, 0, IPPROTO_IPV6, IPV6_UNICAST_IF, 1 << 24},
    {"Ipv6FlowinfoSend", AF_INET6, SOCK_DGRAM, 0, IPPROTO_IPV6, 33, 1},
    {"Ipv6RecvFragSize", AF_INET6, SOCK_DGRAM, 0, IPPROTO_IPV6, IPV6_RECVFRAGSIZE, 1},
    {"Ipv6RecverrRfc4884", AF_INET6, SOCK_DGRAM, 0, IPPROTO_IPV6, 31, 1},
    {"Ipv62292PktInfo", AF_INET6, SOCK_DGRAM, 0, IPPROTO_IPV6, IPV6_2292PKTINFO, 1},
    {"Ipv6Checksum", AF_INET6, SOCK_RAW, 89, IPPROTO_IPV6, IPV6_CHECKSUM, 12},
    {"Inq", AF_INET, SOCK_STREAM, 0, IPPROTO_TCP, TCP_INQ, 1},
    {"TxDelay", AF_INET, SOCK_STREAM, 0, IPPROTO_TCP, TCP_TX_DELAY, 1000},
    {"ThinLinear", AF_INET, SOCK_STREAM, 0, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1},
    {"FastOpenNoCookie", AF_INET, SOCK_STREAM, 0, IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1},
    {"RtoMax", AF_INET, SOCK_STREAM, 0, IPPROTO_TCP, 44, 2000},
    {"NoCheck6Tx", AF_INET6, SOCK_DGRAM, 0, IPPROTO_UDP, UDP_NO_CHECK6_TX, 1},
    {"NoCheck6Rx", AF_INET6, SOCK_DGRAM, 0, IPPROTO_UDP, UDP_NO_CHECK6_RX, 1},
    {"UdpEncap", AF_INET, SOCK_DGRAM, 0, IPPROTO_UDP, UDP_ENCAP, 2},
    {"IcmpFilter", AF_INET, SOCK_RAW, IPPROTO_ICMP, SOL_RAW, 1, 0x7ffffffe},
    {"ReuseAddr", AF_INET, SOCK_STREAM, 0, SOL_SOCKET, SO_REUSEADDR, 1},
    {"ReusePort", AF_INET, SOCK_DGRAM, 0, SOL_SOCKET, SO_REUSEPORT, 1},
    {"Broadcast", AF_INET, SOCK_DGRAM, 0, SOL_SOCKET, SO_BROADCAST, 1},
    {"KeepAlive", AF_INET, SOCK_STREAM, 0, SOL_SOCKET, SO_KEEPALIVE, 1},
    {"PassCred", AF_UNIX, SOCK_DGRAM, 0, SOL_SOCKET, SO_PASSCRED, 1},
    {"PktInfo", AF_INET, SOCK_DGRAM, 0, IPPROTO_IP, IP_PKTINFO, 1},
    {"RecvErr", AF_INET, SOCK_DGRAM, 0, IPPROTO_IP, IP_RECVERR, 1},
    {"V6Only", AF_INET6, SOCK_STREAM, 0, IPPROTO_IPV6, IPV6_V6ONLY, 1},
    {"NoDelay", AF_INET, SOCK_STREAM, 0, IPPROTO_TCP, TCP_NODELAY, 1},
    {"Cork", AF_INET6, SOCK_STREAM, 0, IPPROTO_TCP, TCP_CORK, 1},
    {"KeepIdle", AF_INET, SOCK_STREAM, 0, IPPROTO_TCP, TCP_KEEPIDLE, 77},
    {"DeferAccept", AF_INET, SOCK_STREAM, 0, IPPROTO_TCP, TCP_DEFER_ACCEPT, 3},
    {"UserTimeout", AF_INET, SOCK_STREAM, 0, IPPROTO_TCP, TCP_USER_TIMEOUT, 4000},
    {"NotSentLowat", AF_INET, SOCK_STREAM, 0, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 5000},
};

INSTANTIATE_TEST_SUITE_P(, SocketOptionCycleTest, ::testing::ValuesIn(kOptions),
                         [](const auto& tested) { return std::string(tested.param.what); });

TEST_F(SocketCycleTest, OptionsThatNobodySetAreNotAskedFor) {
  OwnedFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_TRUE(Set(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1));
  ASSERT_TRUE(Set(fd.get(), SOL_SOCKET, SO_KEEPALIVE, 1));
  ASSERT_TRUE(Set(fd.get(), IPPROTO_IP, IP_TTL, 7));
  FileDescription& description = Put(std::move(fd));
  const auto saved = [&](uint64_t set) {
    description.socket_options = set;
    EXPECT_EQ(Save(), "");
    return DecodeSocket(files_.at(0))->options.size();
  };
  EXPECT_EQ(saved(0), 0);
  EXPECT_EQ(saved(SocketOptionBit(IPPROTO_TCP, TCP_NODELAY)), 1);
  EXPECT_EQ(
      saved(SocketOptionBit(IPPROTO_TCP, TCP_NODELAY) | SocketOptionBit(SOL_SOCKET, SO_KEEPALIVE)),
      2);
  EXPECT_EQ(saved(SocketOptionBit(IPPROTO_IP, IP_TTL)), 3);  // not told from others
}

TEST_F(SocketCycleTest, ALockedFilter) {
  const sock_filter all = BPF_STMT(BPF_RET | BPF_K, 0xffff);
  const sock_fprog program = {1, const_cast<sock_filter*>(&all)};
  OwnedFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
  ASSERT_TRUE(Set(fd.get(), SOL_SOCKET, SO_LOCK_FILTER, 1));
  Put(std::move(fd));
  Cycle();
  EXPECT_EQ(Get(Fd(), SOL_SOCKET, SO_LOCK_FILTER), 1);
  EXPECT_NE(setsockopt(Fd(), SOL_SOCKET, SO_DETACH_FILTER, &program, sizeof(int)), 0);
}

TEST_F(SocketCycleTest, NetlinkGroupsAbove32) {
  constexpr int kGroup = 36;  // RTNLGRP_BRVLAN: whoever wants may listen
  OwnedFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  ASSERT_TRUE(Set(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, kGroup));
  Put(std::move(fd));
  Cycle();
  uint32_t groups[64] = {};
  socklen_t size = sizeof(groups);
  ASSERT_EQ(getsockopt(Fd(), SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &size), 0);
  EXPECT_EQ(groups[(kGroup - 1) / 32], 1u << (kGroup - 1) % 32);
}

TEST_F(SocketCycleTest, APeerOfARawSocket) {
  OwnedFd fd(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
  if (!fd.valid()) GTEST_SKIP() << "CAP_NET_RAW";
  ASSERT_EQ(Connect(fd.get(), Loopback()), 0);
  // Without a port, which the kernel shows no peer of then.
  const sockaddr_in peer = Loopback();
  const auto* bytes = reinterpret_cast<const uint8_t*>(&peer);
  Put(std::move(fd)).MakeUnshown()->NotePeer({bytes, sizeof(peer)});
  Cycle();
  const char echo[8] = {8};
  EXPECT_EQ(send(Fd(), echo, sizeof(echo), 0), static_cast<ssize_t>(sizeof(echo)));
}

TEST_F(SocketCycleTest, APortThatIsTakenIsAnotherWhereTheKernelChoseIt) {
  for (bool bound : {false, true}) {
    OwnedFd peer(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(Bind(peer.get(), Loopback()), 0);
    OwnedFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(Connect(fd.get(), NameOf(peer.get())), 0);
    const sockaddr_in before = NameOf(fd.get());
    Put(std::move(fd)).bound = bound;
    ASSERT_EQ(Save(), "");
    std::unique_ptr<FdTable> goes_on = std::move(table_);
    EXPECT_EQ(Restore().ok(), !bound);
    if (bound) continue;
    EXPECT_NE(NameOf(Fd()).sin_port, before.sin_port);
    EXPECT_EQ(NameOf(Fd(), getpeername).sin_port, NameOf(peer.get()).sin_port);
    // Still so in the next one; and the port stays where it can.
    goes_on = nullptr;
    EXPECT_FALSE(table_->Get(kNumber)->description->bound);
    const sockaddr_in chosen = NameOf(Fd());
    Cycle();
    EXPECT_EQ(NameOf(Fd()).sin_port, chosen.sin_port);
  }
}

TEST_F(SocketCycleTest, OptionsOfALostConnection) {
  constexpr int kTimestamps =
      SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID;
  OwnedFd fd, other;
  MakeConnection(&fd, &other);
  ASSERT_TRUE(Set(fd.get(), SOL_SOCKET, SO_TIMESTAMPING, kTimestamps));
  ASSERT_EQ(setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), 0);
  ASSERT_EQ(send(other.get(), "unread", 6, 0), 6);
  ASSERT_TRUE(Set(fd.get(), IPPROTO_IP, IP_MINTTL, 255));
  Put(std::move(fd));
  ASSERT_EQ(Save(), "");
  table_ = nullptr;
  absl::Status status = Restore();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(Get(Fd(), SOL_SOCKET, SO_TIMESTAMPING), kTimestamps);
  EXPECT_EQ(Get(Fd(), IPPROTO_IP, IP_MINTTL), 255);
  EXPECT_EQ(Received(Fd()), "unread");
  EXPECT_EQ(Received(Fd()), "-ECONNRESET");
}

// It goes on where it stands still: the process that held it ends.
TEST_F(SocketCycleTest, OptionsOfAKeptConnection) {
  constexpr int kTimestamps =
      SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID;
  OwnedFd fd, other;
  MakeConnection(&fd, &other);
  if (!Set(fd.get(), IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON) ||
      !Set(fd.get(), IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF)) {
    GTEST_SKIP() << "CAP_NET_ADMIN";
  }
  ASSERT_TRUE(Set(fd.get(), SOL_SOCKET, SO_TIMESTAMPING, kTimestamps));
  ASSERT_TRUE(Set(fd.get(), IPPROTO_TCP, TCP_NODELAY, 1));
  ASSERT_EQ(send(other.get(), "unread", 6, 0), 6);
  Put(std::move(fd));
  int out[2];
  ASSERT_EQ(pipe(out), 0);
  const pid_t child = fork();
  if (child == 0) {
    const bool saved = Save(true).empty();
    const std::vector<uint8_t>& state = files_[0].state;
    _exit(saved && write(out[1], state.data(), state.size()) > 0 ? 0 : 1);
  }
  table_ = nullptr;
  close(out[1]);
  FileRecord record;
  record.id = 1;
  record.kind = FileKind::kSocket;
  record.flags = O_RDWR;
  record.state.resize(4096);
  const ssize_t size = read(out[0], record.state.data(), record.state.size());
  close(out[0]);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  record.state.resize(static_cast<size_t>(size));
  files_ = {record};
  descriptors_ = {{kNumber, 1, false}};
  absl::Status restored = Restore(true);
  ASSERT_TRUE(restored.ok()) << restored;
  EXPECT_EQ(Get(Fd(), SOL_SOCKET, SO_TIMESTAMPING), kTimestamps);
  EXPECT_EQ(Get(Fd(), IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(Received(Fd()), "unread");
  EXPECT_EQ(send(Fd(), "more", 4, 0), 4);
  pollfd look = {other.get(), POLLIN, 0};
  EXPECT_EQ(poll(&look, 1, 5000), 1);
  EXPECT_EQ(Received(other.get()), "more");
}

// ---- What the kernel does not show ----

class MembershipCycleTest : public SocketCycleTest {
 protected:
  // As the program's call.
  template <typename T>
  bool Tell(int level, int name, const T& value) {
    if (setsockopt(Fd(), level, name, &value, sizeof(value)) != 0) return false;
    const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
    table_->Get(kNumber)->description->MakeUnshown()->Note(Fd(), level, name,
                                                           {bytes, sizeof(value)});
    return true;
  }
  // "+" or "-" (all but these), and the sources; empty: it is no member.
  std::string Sources(const char* group, uint32_t interface = 1) {
    std::vector<uint8_t> bytes(GROUP_FILTER_SIZE(8));
    auto* filter = reinterpret_cast<group_filter*>(bytes.data());
    filter->gf_interface = interface;
    filter->gf_group = Address(group);
    filter->gf_numsrc = 8;
    auto size = static_cast<socklen_t>(bytes.size());
    const int level = filter->gf_group.ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    if (getsockopt(Fd(), level, MCAST_MSFILTER, filter, &size) != 0) return "";
    std::string text = filter->gf_fmode == MCAST_INCLUDE ? "+" : "-";
    for (uint32_t i = 0; i < filter->gf_numsrc; ++i) {
      char name[INET6_ADDRSTRLEN];
      const sockaddr_storage& source = filter->gf_slist[i];
      const void* at =
          source.ss_family == AF_INET
              ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in&>(source).sin_addr)
              : &reinterpret_cast<const sockaddr_in6&>(source).sin6_addr;
      text += inet_ntop(source.ss_family, at, name, sizeof(name));
    }
    return text;
  }
  static sockaddr_storage Address(const std::string& text) {
    sockaddr_storage storage = {};
    auto& in = reinterpret_cast<sockaddr_in&>(storage);
    auto& in6 = reinterpret_cast<sockaddr_in6&>(storage);
    const bool v6 = text.find(':') != text.npos;
    storage.ss_family = v6 ? AF_INET6 : AF_INET;
    EXPECT_EQ(inet_pton(storage.ss_family, text.c_str(),
                        v6 ? static_cast<void*>(&in6.sin6_addr) : &in.sin_addr),
              1);
    return storage;
  }
  static in_addr Ip4(const char* text) {
    in_addr address;
    EXPECT_EQ(inet_pton(AF_INET, text, &address), 1);
    return address;
  }
  static group_req Group(const char* group) {
    group_req request = {};
    request.gr_interface = 1;  // lo
    request.gr_group = Address(group);
    return request;
  }
  static group_source_req Source(const char* group, const char* source) {
    group_source_req request = {};
    request.gsr_interface = 1;
    request.gsr_group = Address(group);
    request.gsr_source = Address(source);
    return request;
  }
};

TEST_F(MembershipCycleTest, Ip4) {
  Put(OwnedFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
  const in_addr own = Ip4("127.0.0.1");
  ASSERT_TRUE(Tell(IPPROTO_IP, IP_ADD_MEMBERSHIP, ip_mreq{Ip4("239.1.0.1"), own}));
  ASSERT_TRUE(Tell(IPPROTO_IP, IP_ADD_MEMBERSHIP, ip_mreqn{Ip4("239.1.0.2"), {}, 1}));
  ASSERT_TRUE(Tell(IPPROTO_IP, MCAST_JOIN_GROUP, Group("239.1.0.3")));
  ASSERT_TRUE(Tell(IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP,
                   ip_mreq_source{Ip4("239.1.0.4"), own, Ip4("10.0.0.1")}));
  ASSERT_TRUE(Tell(IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, Source("239.1.0.5", "10.0.0.2")));
  // Left in another way than it was joined.
  ASSERT_TRUE(Tell(IPPROTO_IP, IP_ADD_MEMBERSHIP, ip_mreq{Ip4("239.1.0.6"), own}));
  ASSERT_TRUE(Tell(IPPROTO_IP, MCAST_LEAVE_GROUP, Group("239.1.0.6")));
  const group_source_req blocked = Source("239.1.0.3", "10.0.0.3");
  ASSERT_EQ(setsockopt(Fd(), IPPROTO_IP, MCAST_BLOCK_SOURCE, &blocked, sizeof(blocked)), 0);
  const ip_mreq_source other = {Ip4("239.1.0.1"), own, Ip4("10.0.0.4")};
  ASSERT_EQ(setsockopt(Fd(), IPPROTO_IP, IP_BLOCK_SOURCE, &other, sizeof(other)), 0);
  Cycle();
  EXPECT_EQ(Sources("239.1.0.1"), "-10.0.0.4");
  EXPECT_EQ(Sources("239.1.0.2"), "-");
  EXPECT_EQ(Sources("239.1.0.3"), "-10.0.0.3");
  EXPECT_EQ(Sources("239.1.0.4"), "+10.0.0.1");
  EXPECT_EQ(Sources("239.1.0.5"), "+10.0.0.2");
  EXPECT_EQ(Sources("239.1.0.6"), "");
}

TEST_F(MembershipCycleTest, OneGroupOnTwoInterfaces) {
  // One that has an address, beside lo.
  in_addr address = {};
  uint32_t interface = 0;
  ifaddrs* all = nullptr;
  ASSERT_EQ(getifaddrs(&all), 0);
  for (const ifaddrs* at = all; at != nullptr; at = at->ifa_next) {
    const bool fits = at->ifa_addr != nullptr && at->ifa_addr->sa_family == AF_INET &&
                      (at->ifa_flags & IFF_MULTICAST) != 0 && (at->ifa_flags & IFF_LOOPBACK) == 0;
    if (!fits) continue;
    address = reinterpret_cast<const sockaddr_in*>(at->ifa_addr)->sin_addr;
    interface = if_nametoindex(at->ifa_name);
  }
  freeifaddrs(all);
  if (interface == 0) GTEST_SKIP() << "no other interface";
  for (const bool lo_first : {true, false}) {
    Put(OwnedFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
    const in_addr own = Ip4("127.0.0.1");
    for (const in_addr by : {lo_first ? own : address, lo_first ? address : own}) {
      ASSERT_TRUE(Tell(IPPROTO_IP, IP_ADD_MEMBERSHIP, ip_mreq{Ip4("239.1.0.1"), by}));
    }
    for (int round = 0; round < 2; ++round) {
      Cycle();
      EXPECT_EQ(Sources("239.1.0.1"), "-");
      EXPECT_EQ(Sources("239.1.0.1", interface), "-");
    }
    ASSERT_TRUE(Tell(IPPROTO_IP, IP_DROP_MEMBERSHIP, ip_mreq{Ip4("239.1.0.1"), address}));
    Cycle();
    EXPECT_EQ(Sources("239.1.0.1"), "-");
    EXPECT_EQ(Sources("239.1.0.1", interface), "");
  }
}

TEST_F(MembershipCycleTest, TheInterfaceThatItSendsBy) {
  Put(OwnedFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
  ASSERT_TRUE(Tell(IPPROTO_IP, IP_MULTICAST_IF, ip_mreqn{{}, {}, 1}));
  Cycle();
  OwnedFd receiver(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  ASSERT_EQ(Bind(receiver.get(), to), 0);
  ASSERT_TRUE(Set(receiver.get(), IPPROTO_IP, IP_MULTICAST_ALL, 0));
  const ip_mreqn join = {Ip4("239.1.0.1"), {}, 1};
  ASSERT_EQ(setsockopt(receiver.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof(join)), 0);
  to = NameOf(receiver.get());
  to.sin_addr = join.imr_multiaddr;
  ASSERT_EQ(Connect(Fd(), to), 0);
  ASSERT_EQ(send(Fd(), "heard", 5, 0), 5);
  pollfd look = {receiver.get(), POLLIN, 0};
  EXPECT_EQ(poll(&look, 1, 1000), 1);
}

TEST_F(MembershipCycleTest, Ip6) {
  Put(OwnedFd(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
  ipv6_mreq join = {};
  join.ipv6mr_interface = 1;
  inet_pton(AF_INET6, "ff15::1", &join.ipv6mr_multiaddr);
  if (!Tell(IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, join)) GTEST_SKIP() << "no IPv6";
  ASSERT_TRUE(Tell(IPPROTO_IPV6, MCAST_JOIN_GROUP, Group("ff15::2")));
  ASSERT_TRUE(Tell(IPPROTO_IPV6, MCAST_JOIN_SOURCE_GROUP, Source("ff15::3", "fd00::1")));
  Cycle();
  EXPECT_EQ(Sources("ff15::1"), "-");
  EXPECT_EQ(Sources("ff15::2"), "-");
  EXPECT_EQ(Sources("ff15::3"), "+fd00::1");
  ASSERT_TRUE(Tell(IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP, join));
  Cycle();
  EXPECT_EQ(Sources("ff15::1"), "");
}

TEST_F(MembershipCycleTest, WhatCannotBeAskedForIsRefused) {
  OwnedFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_TRUE(Set(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1));
  Put(std::move(fd));
  sock_filter first = BPF_STMT(BPF_RET | BPF_K, 0);
  ASSERT_TRUE(Tell(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, sock_fprog{1, &first}));
  EXPECT_NE(Save().find("SO_ATTACH_REUSEPORT_CBPF"), std::string::npos) << Save();
  ASSERT_TRUE(Tell(SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0));
  EXPECT_EQ(Save(), "");
}

}  // namespace
}  // namespace km
