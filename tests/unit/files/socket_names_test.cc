// Names of sockets that connect(2), send(2) and bind(2) left to the kernel, across a snapshot.
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include "tests/unit/files/socket_cycle.h"

namespace km {
namespace {

class ChosenNameTest : public SocketCycleTest, public ::testing::WithParamInterface<int> {
 protected:
  // At the loopback interface, or anywhere.
  sockaddr_storage Address(bool any, uint16_t port) {
    sockaddr_storage address = {};
    auto& in = reinterpret_cast<sockaddr_in&>(address);
    auto& in6 = reinterpret_cast<sockaddr_in6&>(address);
    address.ss_family = static_cast<sa_family_t>(GetParam());
    in.sin_port = htons(port);
    if (GetParam() == AF_INET) in.sin_addr.s_addr = htonl(any ? INADDR_ANY : INADDR_LOOPBACK);
    if (GetParam() == AF_INET6) in6.sin6_addr = any ? in6addr_any : in6addr_loopback;
    return address;
  }
  socklen_t Size() { return GetParam() == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6); }
  int Lead(int fd, const sockaddr_storage& to) {
    return connect(fd, reinterpret_cast<const sockaddr*>(&to), Size());
  }
  bool IsAny(int fd) {
    sockaddr_storage name = {};
    socklen_t size = sizeof(name);
    EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size), 0);
    const auto& in = reinterpret_cast<const sockaddr_in&>(name);
    const auto& in6 = reinterpret_cast<const sockaddr_in6&>(name);
    return GetParam() == AF_INET ? in.sin_addr.s_addr == INADDR_ANY
                                 : IN6_IS_ADDR_UNSPECIFIED(&in6.sin6_addr);
  }
  uint16_t Port(int fd) {
    sockaddr_storage name = {};
    socklen_t size = sizeof(name);
    EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size), 0);
    return ntohs(reinterpret_cast<const sockaddr_in&>(name).sin_port);
  }
};

INSTANTIATE_TEST_SUITE_P(, ChosenNameTest, ::testing::Values(AF_INET, AF_INET6),
                         [](const auto& tested) {
                           return tested.param == AF_INET ? "Ip4" : "Ip6";
                         });

TEST_P(ChosenNameTest, CanBeConnectedElsewhere) {
  OwnedFd fd = Datagrams(GetParam());
  if (Lead(fd.get(), Address(false, 9)) != 0) GTEST_SKIP() << "no such addresses";
  const uint16_t port = Port(fd.get());
  Put(std::move(fd));
  Cycle();
  EXPECT_FALSE(IsAny(Fd()));
  EXPECT_EQ(Port(Fd()), port);
  const sockaddr nowhere = {};
  ASSERT_EQ(connect(Fd(), &nowhere, sizeof(nowhere)), 0);
  EXPECT_TRUE(IsAny(Fd()));
  if (GetParam() != AF_INET6) return;
  EXPECT_EQ(Get(Fd(), IPPROTO_IPV6, IPV6_V6ONLY), 0);
  sockaddr_storage mapped = Address(false, 9);
  auto& in6 = reinterpret_cast<sockaddr_in6&>(mapped);
  in6.sin6_addr = {};
  in6.sin6_addr.s6_addr[10] = in6.sin6_addr.s6_addr[11] = 0xff;
  in6.sin6_addr.s6_addr[12] = 127;
  in6.sin6_addr.s6_addr[15] = 1;
  EXPECT_EQ(Lead(Fd(), mapped), 0);
}

// Connected, they need one address of the port each, which others may have at other addresses.
TEST_P(ChosenNameTest, GivesWayToOneThatWasGiven) {
  OwnedFd fd = Datagrams(GetParam()), given = Datagrams(GetParam());
  if (Lead(fd.get(), Address(false, 9)) != 0) GTEST_SKIP() << "no such addresses";
  sockaddr_storage other = Address(false, Port(fd.get()));
  if (GetParam() == AF_INET) {
    reinterpret_cast<sockaddr_in&>(other).sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
  } else {
    // The only one that all hosts have is taken.
    ASSERT_TRUE(Set(given.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0));
    auto& in6 = reinterpret_cast<sockaddr_in6&>(other);
    in6.sin6_addr = {};
    in6.sin6_addr.s6_addr[10] = in6.sin6_addr.s6_addr[11] = 0xff;
    in6.sin6_addr.s6_addr[12] = 127;
    in6.sin6_addr.s6_addr[15] = 1;
  }
  ASSERT_EQ(bind(given.get(), reinterpret_cast<sockaddr*>(&other), Size()), 0);
  const uint16_t port = Port(given.get());
  Put(std::move(fd));
  Put(std::move(given), kOther).bound = true;
  Cycle();
  EXPECT_EQ(Port(Fd(kOther)), port);
  EXPECT_NE(Port(Fd()), port);
}

TEST_P(ChosenNameTest, WhatConnectedSocketsSentEachOther) {
  OwnedFd one = Datagrams(GetParam()), two = Datagrams(GetParam());
  if (Lead(one.get(), Address(false, 9)) != 0) GTEST_SKIP() << "no such addresses";
  ASSERT_EQ(Lead(two.get(), Address(false, Port(one.get()))), 0);
  ASSERT_EQ(Lead(one.get(), Address(false, Port(two.get()))), 0);
  ASSERT_EQ(send(one.get(), "from one", 8, 0), 8);
  ASSERT_EQ(send(two.get(), "from two", 8, 0), 8);
  Put(std::move(one));
  Put(std::move(two), kOther);
  ASSERT_EQ(Save(), "");
  // Beside the process that goes on they have other ports, and each other.
  const uint16_t port = Port(Fd());
  Clone();
  EXPECT_NE(Port(Fd()), port);
  EXPECT_EQ(Received(Fd()), "from two");
  EXPECT_EQ(Received(Fd(kOther)), "from one");
  ASSERT_EQ(send(Fd(), "more", 4, 0), 4);
  EXPECT_EQ(Received(Fd(kOther)), "more");
}

TEST_F(SocketCycleTest, AUnixNameThatTheKernelChose) {
  const UnixName name(OwnName("server"));
  OwnedFd server = Datagrams(AF_UNIX), client = Datagrams(AF_UNIX), follower = Datagrams(AF_UNIX);
  ASSERT_EQ(bind(server.get(), name.get(), name.size), 0);
  ASSERT_TRUE(Set(client.get(), SOL_SOCKET, SO_PASSCRED, 1));
  ASSERT_EQ(connect(client.get(), name.get(), name.size), 0);
  const std::string chosen = UnixNameOf(client.get());
  ASSERT_NE(chosen, "");
  // bind(2) with the family alone.
  OwnedFd named = Datagrams(AF_UNIX);
  ASSERT_EQ(bind(named.get(), name.get(), sizeof(sa_family_t)), 0);
  const UnixName to(UnixNameOf(named.get()));
  ASSERT_EQ(connect(follower.get(), to.get(), to.size), 0);
  ASSERT_EQ(send(follower.get(), "to it", 5, 0), 5);
  Put(std::move(client));
  Put(std::move(named), kOther + 1);
  Put(std::move(follower), kOther);
  Clone();
  EXPECT_NE(UnixNameOf(Fd()), "");
  EXPECT_NE(UnixNameOf(Fd()), chosen);
  EXPECT_EQ(UnixNameOf(Fd(), getpeername), OwnName("server"));
  EXPECT_EQ(UnixNameOf(Fd(kOther), getpeername), UnixNameOf(Fd(kOther + 1)));
  EXPECT_NE(UnixNameOf(Fd(kOther + 1)), UnixNameOf(goes_on_->Get(kOther + 1)->host.get()));
  EXPECT_EQ(Received(Fd(kOther + 1)), "to it");
  // It stays where it can, in the next one too.
  goes_on_ = nullptr;
  const std::string second = UnixNameOf(Fd());
  Cycle();
  EXPECT_EQ(UnixNameOf(Fd()), second);
  // One that the program gave is refused.
  table_->Get(kNumber)->description->bound = true;
  ASSERT_EQ(Save(), "");
  goes_on_ = std::move(table_);
  EXPECT_FALSE(Restore().ok());
}

}  // namespace
}  // namespace km
