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
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "km/base/passed_descriptor.h"
#include "tests/unit/files/socket_cycle.h"

namespace km {
namespace {

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

// A UNIX stream whose other end another process has, which did `send` with it and waits.
class OtherProcess {
 public:
  explicit OtherProcess(absl::FunctionRef<bool(int)> send) : name_(OwnName("listener")) {
    OwnedFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(bind(listener.get(), name_.get(), name_.size), 0);
    EXPECT_EQ(listen(listener.get(), 1), 0);
    child_ = fork();
    if (child_ == 0) {
      const int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (connect(client, name_.get(), name_.size) == 0 && send(client)) pause();
      _exit(1);
    }
    end_ = OwnedFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  ~OtherProcess() { End(); }
  OtherProcess(const OtherProcess&) = delete;
  OtherProcess& operator=(const OtherProcess&) = delete;

  OwnedFd TakeEnd() { return std::move(end_); }
  void End() {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);
    waitpid(std::exchange(child_, 0), nullptr, 0);
  }

 private:
  const UnixName name_;
  pid_t child_ = 0;
  OwnedFd end_;
};

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
  OtherProcess other([](int client) {
    return SendWithDescriptor(client, "d", client) == 1 && send(client, "more", 4, 0) == 4;
  });
  OwnedFd fd = other.TakeEnd();
  int held = 0;
  for (int ms = 0; ms < 5000 && held < 5; ++ms) {
    usleep(1000);
    ASSERT_EQ(ioctl(fd.get(), FIONREAD, &held), 0);
  }
  Put(std::move(fd));
  EXPECT_EQ(Save(), "");
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
  char bytes[64];
  if (recv(Fd(), bytes, sizeof(bytes), MSG_PEEK) != 6) GTEST_SKIP() << "this kernel keeps no mark";
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
  ASSERT_EQ(SendWithDescriptor(other.get(), "d", in.get()), 1);
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
  OtherProcess other([](int client) { return send(client, "unread", 6, 0) == 6; });
  OwnedFd fd = other.TakeEnd();
  pollfd look = {fd.get(), POLLIN, 0};
  ASSERT_EQ(poll(&look, 1, 5000), 1);
  const timeval timeout = {7, 0};
  ASSERT_TRUE(Set(fd.get(), SOL_SOCKET, SO_PASSCRED, 1));
  ASSERT_EQ(setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
  Put(std::move(fd));
  Cycle();
  other.End();
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
