// What waits in sockets across a snapshot, and who it comes from.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "tests/unit/files/socket_cycle.h"

namespace km {
namespace {

constexpr int kOther = 101;

// A name without a file.
struct UnixName {
  explicit UnixName(const std::string& name) {
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
  sockaddr_un address = {};
  socklen_t size;
};

std::string OwnName(const char* name) {
  return std::string("km-socket-queue-") + std::to_string(getpid()) + name;
}

std::string UnixNameOf(int fd, int (*get)(int, sockaddr*, socklen_t*) = getsockname) {
  sockaddr_un name = {};
  socklen_t size = sizeof(name);
  EXPECT_EQ(get(fd, reinterpret_cast<sockaddr*>(&name), &size), 0);
  return size > sizeof(sa_family_t)
             ? std::string(name.sun_path + 1, size - offsetof(sockaddr_un, sun_path) - 1)
             : "";
}

OwnedFd Datagrams(int family = AF_INET) {
  return OwnedFd(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

OwnedFd BoundDatagrams(const sockaddr_in& name = Loopback()) {
  OwnedFd fd = Datagrams();
  EXPECT_EQ(Bind(fd.get(), name), 0);
  return fd;
}

bool SendTo(int fd, const std::string& bytes, const sockaddr_in& to) {
  return sendto(fd, bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&to),
                sizeof(to)) == static_cast<ssize_t>(bytes.size());
}

// The bytes, "<" and the port that they came from.
std::string ReceivedFrom(int fd) {
  char bytes[64];
  sockaddr_in from = {};
  socklen_t size = sizeof(from);
  const ssize_t length =
      recvfrom(fd, bytes, sizeof(bytes), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&from), &size);
  if (length < 0) return std::string("-") + strerrorname_np(errno);
  return std::string(bytes, static_cast<size_t>(length)) + "<" +
         std::to_string(ntohl(from.sin_addr.s_addr)) + ":" + std::to_string(ntohs(from.sin_port));
}

std::string Place(const sockaddr_in& name) {
  return std::to_string(ntohl(name.sin_addr.s_addr)) + ":" + std::to_string(ntohs(name.sin_port));
}

// With one byte.
ssize_t SendDescriptor(int fd, int passed) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  char byte = 'd';
  iovec part = {&byte, 1};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_len = CMSG_LEN(sizeof(int));
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  std::memcpy(CMSG_DATA(header), &passed, sizeof(int));
  return sendmsg(fd, &message, 0);
}

class SocketQueueTest : public SocketCycleTest {};

// ---- Who a message comes from ----

TEST_F(SocketQueueTest, AListenerOfTheSendersName) {
  OwnedFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(Bind(listener.get(), Loopback()), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  OwnedFd sender = BoundDatagrams(NameOf(listener.get())), receiver = BoundDatagrams();
  ASSERT_TRUE(SendTo(sender.get(), "datagram", NameOf(receiver.get())));
  const std::string from = Place(NameOf(sender.get()));
  Put(std::move(listener), kOther).bound = true;
  Put(std::move(sender), kOther + 1).bound = true;
  Put(std::move(receiver)).bound = true;
  Cycle();
  EXPECT_EQ(ReceivedFrom(Fd()), "datagram<" + from);
}

TEST_F(SocketQueueTest, AUnixListenerOfTheSendersName) {
  const UnixName name(OwnName("sender")), to(OwnName("receiver"));
  OwnedFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(listener.get(), name.get(), name.size), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  OwnedFd sender = Datagrams(AF_UNIX), receiver = Datagrams(AF_UNIX);
  ASSERT_EQ(bind(sender.get(), name.get(), name.size), 0);
  ASSERT_EQ(bind(receiver.get(), to.get(), to.size), 0);
  ASSERT_EQ(sendto(sender.get(), "datagram", 8, 0, to.get(), to.size), 8);
  Put(std::move(listener), kOther).bound = true;
  Put(std::move(sender), kOther + 1).bound = true;
  Put(std::move(receiver)).bound = true;
  Cycle();
  sockaddr_un from = {};
  socklen_t size = sizeof(from);
  char bytes[16];
  EXPECT_EQ(
      recvfrom(Fd(), bytes, sizeof(bytes), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&from), &size),
      8);
  EXPECT_EQ(std::string(from.sun_path + 1), OwnName("sender"));
}

TEST_F(SocketQueueTest, ASenderThatIsBoundToAnyAddress) {
  sockaddr_in any = {};
  any.sin_family = AF_INET;
  OwnedFd sender = BoundDatagrams(any), receiver = BoundDatagrams();
  ASSERT_TRUE(SendTo(sender.get(), "datagram", NameOf(receiver.get())));
  const std::string from = Place(Loopback(ntohs(NameOf(sender.get()).sin_port)));
  Put(std::move(sender), kOther).bound = true;
  Put(std::move(receiver)).bound = true;
  Cycle();
  EXPECT_EQ(ReceivedFrom(Fd()), "datagram<" + from);
}

TEST_F(SocketQueueTest, ASenderThatGathersWhatItSends) {
  // Restored before the one that it has sent to, and behind it.
  for (const int number : {kNumber - 1, kNumber + 1}) {
    OwnedFd sender = BoundDatagrams(), receiver = BoundDatagrams();
    ASSERT_TRUE(SendTo(sender.get(), "datagram", NameOf(receiver.get())));
    ASSERT_TRUE(Set(sender.get(), IPPROTO_UDP, UDP_CORK, 1));
    ASSERT_TRUE(Set(sender.get(), IPPROTO_UDP, UDP_SEGMENT, 5));
    table_ = std::make_unique<FdTable>(4096);
    Put(std::move(sender), static_cast<uint64_t>(number)).bound = true;
    Put(std::move(receiver)).bound = true;
    Cycle();
    EXPECT_EQ(Get(Fd(static_cast<uint64_t>(number)), IPPROTO_UDP, UDP_CORK), 1);
    EXPECT_EQ(Get(Fd(static_cast<uint64_t>(number)), IPPROTO_UDP, UDP_SEGMENT), 5);
    EXPECT_EQ(Received(Fd()), "datagram");
    EXPECT_EQ(Received(Fd()), "-EAGAIN");
  }
}

// ---- What connect(2) and send(2) bind ----

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

TEST_F(SocketQueueTest, AUnixNameThatTheKernelChose) {
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

// ---- What cannot be carried ----

TEST_F(SocketQueueTest, HalfADatagram) {
  for (int family : {AF_INET, AF_INET6}) {
    OwnedFd receiver = BoundDatagrams();
    OwnedFd fd = Datagrams(family);
    sockaddr_in to = NameOf(receiver.get());
    sockaddr_in6 to6 = {};
    to6.sin6_family = AF_INET6;
    to6.sin6_port = to.sin_port;
    to6.sin6_addr.s6_addr[10] = to6.sin6_addr.s6_addr[11] = 0xff;
    std::memcpy(&to6.sin6_addr.s6_addr[12], &to.sin_addr, sizeof(to.sin_addr));
    const auto* at =
        family == AF_INET ? reinterpret_cast<sockaddr*>(&to) : reinterpret_cast<sockaddr*>(&to6);
    ASSERT_EQ(connect(fd.get(), at, family == AF_INET ? sizeof(to) : sizeof(to6)), 0);
    ASSERT_EQ(send(fd.get(), "half", 4, MSG_MORE), 4);
    Put(std::move(fd));
    EXPECT_NE(Save().find("MSG_MORE"), std::string::npos) << Save();
    // It goes on with it.
    ASSERT_EQ(send(Fd(), " a datagram", 11, 0), 11);
    EXPECT_EQ(Received(receiver.get()), "half a datagram");
    EXPECT_EQ(Save(), "");
  }
}

TEST_F(SocketQueueTest, HalfAnIp6Datagram) {
  OwnedFd receiver = Datagrams(AF_INET6), fd = Datagrams(AF_INET6);
  sockaddr_in6 name = {};
  name.sin6_family = AF_INET6;
  name.sin6_addr = in6addr_loopback;
  socklen_t size = sizeof(name);
  auto* at = reinterpret_cast<sockaddr*>(&name);
  if (bind(receiver.get(), at, size) != 0) GTEST_SKIP() << "no IPv6";
  ASSERT_EQ(getsockname(receiver.get(), at, &size), 0);
  ASSERT_EQ(connect(fd.get(), at, size), 0);
  ASSERT_TRUE(Set(fd.get(), IPPROTO_UDP, UDP_CORK, 1));
  Put(std::move(fd));
  EXPECT_EQ(Save(), "");
  ASSERT_EQ(send(Fd(), "half", 4, 0), 4);
  EXPECT_NE(Save().find("UDP_CORK"), std::string::npos) << Save();
  ASSERT_EQ(send(Fd(), " a datagram", 11, 0), 11);
  EXPECT_NE(Save(), "");
  ASSERT_TRUE(Set(Fd(), IPPROTO_UDP, UDP_CORK, 0));
  EXPECT_EQ(Received(receiver.get()), "half a datagram");
  EXPECT_EQ(Save(), "");
}

TEST_F(SocketQueueTest, HalfARawPacket) {
  OwnedFd fd(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
  if (!fd.valid()) GTEST_SKIP() << "CAP_NET_RAW";
  ASSERT_EQ(Connect(fd.get(), Loopback()), 0);
  ASSERT_EQ(send(fd.get(), "12345678", 8, MSG_MORE), 8);
  Put(std::move(fd));
  EXPECT_NE(Save().find("MSG_MORE"), std::string::npos) << Save();
}

TEST_F(SocketQueueTest, AnUrgentByteOfAUnixStream) {
  for (bool before : {true, false}) {
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    OwnedFd own(fds[0]), other(fds[1]);
    if (before) {
      ASSERT_EQ(send(other.get(), "before", 6, 0), 6);
    }
    if (send(other.get(), "!", 1, MSG_OOB) != 1) GTEST_SKIP() << "Linux before 5.15";
    Put(std::move(own));
    Put(std::move(other), kOther);
    EXPECT_NE(Save().find("MSG_OOB"), std::string::npos) << Save();
    char byte = 0;
    ASSERT_EQ(recv(Fd(), &byte, 1, MSG_OOB), 1);
    EXPECT_EQ(byte, '!');
    EXPECT_EQ(Save(), "");
    EXPECT_EQ(Received(Fd()), before ? "before" : "-EAGAIN");
  }
}

TEST_F(SocketQueueTest, APieceOfAStreamThatEndsWithADescriptor) {
  // Of a connection with another process it does not come along.
  const UnixName name(OwnName("listener"));
  OwnedFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(listener.get(), name.get(), name.size), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  const pid_t child = fork();
  if (child == 0) {
    const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool sent = connect(client, name.get(), name.size) == 0 &&
                      SendDescriptor(client, client) == 1 && send(client, "more", 4, 0) == 4;
    if (sent) pause();
    _exit(1);
  }
  OwnedFd fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  int held = 0;
  for (int ms = 0; ms < 5000 && held < 5; ++ms) {
    usleep(1000);
    ASSERT_EQ(ioctl(fd.get(), FIONREAD, &held), 0);
  }
  Put(std::move(fd));
  EXPECT_EQ(Save(), "");
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

// Reading stops there still.
TEST_F(SocketQueueTest, TheMarkThatAnUrgentByteLeft) {
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  OwnedFd own(fds[0]), other(fds[1]);
  ASSERT_EQ(send(other.get(), "before", 6, 0), 6);
  if (send(other.get(), "!", 1, MSG_OOB) != 1) GTEST_SKIP() << "Linux before 5.15";
  ASSERT_EQ(send(other.get(), "behind", 6, 0), 6);
  Put(std::move(own));
  Put(std::move(other), kOther);
  char byte = 0;
  ASSERT_EQ(recv(Fd(), &byte, 1, MSG_OOB), 1);
  EXPECT_NE(Save().find("MSG_OOB"), std::string::npos) << Save();
  EXPECT_EQ(Received(Fd()), "before");
  EXPECT_EQ(Save(), "");
  EXPECT_EQ(Received(Fd()), "behind");
}

// ---- Empty messages ----

TEST_F(SocketQueueTest, AnEmptyDatagramThatWasLookedAt) {
  OwnedFd sender = BoundDatagrams(), receiver = BoundDatagrams();
  const std::string from = "<" + Place(NameOf(sender.get()));
  const sockaddr_in to = NameOf(receiver.get());
  ASSERT_TRUE(SendTo(sender.get(), "", to));
  ASSERT_TRUE(SendTo(sender.get(), "one", to));
  char byte;
  ASSERT_EQ(recv(receiver.get(), &byte, 1, MSG_PEEK), 0);
  Put(std::move(sender), kOther).bound = true;
  Put(std::move(receiver)).bound = true;
  EXPECT_EQ(Save(), "");
  Cycle();
  EXPECT_EQ(ReceivedFrom(Fd()), from);
  EXPECT_EQ(ReceivedFrom(Fd()), "one" + from);
  EXPECT_EQ(ReceivedFrom(Fd()), "-EAGAIN");
}

TEST_F(SocketQueueTest, AnEmptyDatagramBehindAnother) {
  OwnedFd sender = BoundDatagrams(), receiver = BoundDatagrams();
  const sockaddr_in to = NameOf(receiver.get());
  ASSERT_TRUE(SendTo(sender.get(), "one", to));
  ASSERT_TRUE(SendTo(sender.get(), "", to));
  Put(std::move(sender), kOther).bound = true;
  Put(std::move(receiver)).bound = true;
  EXPECT_EQ(Save(), "");
  const std::vector<FileRecord> whole = files_;
  // The process goes on, and the next one would not see it.
  EXPECT_NE(Save().find("empty message"), std::string::npos) << Save();
  EXPECT_EQ(Received(Fd()), "one");
  EXPECT_NE(Save().find("empty message"), std::string::npos) << Save();
  EXPECT_EQ(Received(Fd()), "");
  EXPECT_EQ(Save(), "");
  ASSERT_TRUE(SendTo(Fd(kOther), "more", to));
  EXPECT_EQ(Save(), "");
  table_ = nullptr;
  files_ = whole;
  ASSERT_TRUE(Restore().ok());
  EXPECT_EQ(Received(Fd()), "one");
  EXPECT_EQ(Received(Fd()), "");
  EXPECT_EQ(Received(Fd()), "-EAGAIN");
}

TEST_F(SocketQueueTest, EmptyOnesAmongOthersInTwoSnapshots) {
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
  OwnedFd own(fds[0]), other(fds[1]);
  for (const char* text : {"", "one", "", "", "two", ""}) {
    ASSERT_EQ(send(other.get(), text, strlen(text), 0), static_cast<ssize_t>(strlen(text)));
  }
  Put(std::move(own));
  Put(std::move(other), kOther);
  EXPECT_EQ(Save(), "");
  EXPECT_EQ(Save(), "");
  table_ = nullptr;
  ASSERT_TRUE(Restore().ok());
  for (const char* text : {"", "one", "", "", "two", "", "-EAGAIN"}) {
    EXPECT_EQ(Received(Fd()), text);
  }
}

// ---- What a snapshot leaves as it was ----

TEST_F(SocketQueueTest, TheSenderHasItsBufferBack) {
  int fds[2], passed[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  ASSERT_EQ(pipe2(passed, O_CLOEXEC), 0);
  OwnedFd own(fds[0]), other(fds[1]), in(passed[0]), out(passed[1]);
  // More than the host gives to whoever asks.
  if (!Set(other.get(), SOL_SOCKET, SO_SNDBUFFORCE, 48 << 20)) GTEST_SKIP() << "CAP_NET_ADMIN";
  const int size = Get(other.get(), SOL_SOCKET, SO_SNDBUF);
  // Descriptors are sent anew.
  ASSERT_EQ(SendDescriptor(other.get(), in.get()), 1);
  Put(std::move(own));
  Put(std::move(other), kOther);
  EXPECT_EQ(Save(), "");
  EXPECT_EQ(Get(Fd(kOther), SOL_SOCKET, SO_SNDBUF), size);
}

TEST_F(SocketQueueTest, WhereAKeptConnectionLooks) {
  OwnedFd fd, other;
  MakeConnection(&fd, &other);
  if (!Set(fd.get(), IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON) ||
      !Set(fd.get(), IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF)) {
    GTEST_SKIP() << "CAP_NET_ADMIN";
  }
  ASSERT_EQ(send(other.get(), "0123456789", 10, 0), 10);
  pollfd look = {fd.get(), POLLIN, 0};
  ASSERT_EQ(poll(&look, 1, 1000), 1);
  if (!Set(fd.get(), SOL_SOCKET, SO_PEEK_OFF, 4)) GTEST_SKIP() << "Linux before 6.9";
  Put(std::move(fd));
  for (bool keep : {true, false}) {
    std::vector<std::string> obstacles;
    FileSaver saver(*table_, 1 << 20, keep);
    saver.SaveAll(&obstacles);
    EXPECT_TRUE(obstacles.empty()) << obstacles[0];
    EXPECT_EQ(Get(Fd(), SOL_SOCKET, SO_PEEK_OFF), 4);
  }
}

// ---- Lost connections ----

TEST_F(SocketQueueTest, OptionsOfALostUnixConnection) {
  const UnixName name(OwnName("listener"));
  OwnedFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(listener.get(), name.get(), name.size), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  const pid_t child = fork();
  if (child == 0) {
    const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool sent =
        connect(client, name.get(), name.size) == 0 && send(client, "unread", 6, 0) == 6;
    if (sent) pause();
    _exit(1);
  }
  OwnedFd fd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  pollfd look = {fd.get(), POLLIN, 0};
  ASSERT_EQ(poll(&look, 1, 5000), 1);
  const timeval timeout = {7, 0};
  ASSERT_TRUE(Set(fd.get(), SOL_SOCKET, SO_PASSCRED, 1));
  ASSERT_EQ(setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
  Put(std::move(fd));
  Cycle();
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  timeval now = {};
  socklen_t size = sizeof(now);
  ASSERT_EQ(getsockopt(Fd(), SOL_SOCKET, SO_RCVTIMEO, &now, &size), 0);
  EXPECT_EQ(now.tv_sec, 7);
  EXPECT_EQ(Get(Fd(), SOL_SOCKET, SO_PASSCRED), 1);
  EXPECT_EQ(Received(Fd()), "unread");
  EXPECT_EQ(Received(Fd()), "-ECONNRESET");
}

}  // namespace
}  // namespace km
