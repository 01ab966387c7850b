// What waits in sockets and pipes, across a snapshot.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "km/base/passed_descriptor.h"
#include "tests/unit/files/resumed_files.h"

namespace km {
namespace {

using Texts = std::vector<std::string>;

// All that is there, and how it ends.
Texts All(int fd) {
  Texts all;
  for (int i = 0; i < 10; ++i) {
    char bytes[65536];
    const ssize_t length = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    all.push_back(length < 0 ? strerrorname_np(errno)
                             : std::string(bytes, static_cast<size_t>(length)));
    if (length < 0 && errno == EAGAIN) break;
  }
  return all;
}

void Send(int fd, const std::string& text) {
  ASSERT_EQ(send(fd, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
}

void Set(int fd, int name, int value) {
  ASSERT_EQ(setsockopt(fd, SOL_SOCKET, name, &value, sizeof(value)), 0);
}

int OnLoopback(int type, sockaddr_in* name) {
  const int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
  *name = {};
  name->sin_family = AF_INET;
  name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(*name);
  auto* to = reinterpret_cast<sockaddr*>(name);
  EXPECT_EQ(bind(fd, to, size), 0);
  EXPECT_EQ(getsockname(fd, to, &size), 0);
  return fd;
}

int ConnectedTo(int type, const sockaddr_in& name) {
  const int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
  EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)), 0);
  return fd;
}

void ConnectedTcp(int fds[2]) {
  sockaddr_in name;
  const int listener = OnLoopback(SOCK_STREAM, &name);
  ASSERT_EQ(listen(listener, 5), 0);
  fds[0] = ConnectedTo(SOCK_STREAM, name);
  fds[1] = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  ASSERT_GE(fds[1], 0);
  close(listener);
}

TEST(Waiting, EmptyMessages) {
  for (int type : {SOCK_DGRAM, SOCK_SEQPACKET}) {
    for (bool closed : {false, true}) {
      ResumedFiles files;
      int fds[2];
      ASSERT_EQ(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
      for (const char* text : {"a", "", "", "b", ""}) Send(fds[1], text);
      files.Put(100, fds[0]);
      if (closed) close(fds[1]);
      if (!closed) files.Put(101, fds[1]);
      ASSERT_EQ(files.Resume(), absl::OkStatus());
      Texts all = All(files.Host(100));
      if (closed && type == SOCK_SEQPACKET) {
        all.resize(6);
        EXPECT_EQ(all, Texts({"a", "", "", "b", "", ""})) << "and its end";
      } else {
        EXPECT_EQ(all, Texts({"a", "", "", "b", "", "EAGAIN"})) << type;
      }
    }
  }
}

TEST(Waiting, EmptyUdpDatagrams) {
  ResumedFiles files;
  sockaddr_in name;
  const int server = OnLoopback(SOCK_DGRAM, &name);
  const int client = ConnectedTo(SOCK_DGRAM, name);
  for (const char* text : {"", "a", "", "b"}) Send(client, text);
  files.Put(100, server);
  files.Put(101, client);
  ASSERT_EQ(files.Resume(), absl::OkStatus());
  EXPECT_EQ(All(files.Host(100)), Texts({"", "a", "", "b", "EAGAIN"}));
}

TEST(Waiting, OnePacketInAPipe) {
  for (const std::string text : {"one", "1"}) {
    for (int flags : {0, O_DIRECT}) {
      ResumedFiles files;
      int fds[2];
      ASSERT_EQ(pipe2(fds, flags | O_NONBLOCK | O_CLOEXEC), 0);
      ASSERT_EQ(write(fds[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
      files.Put(100, fds[0]);
      files.Put(101, fds[1]);
      for (int round = 0; round < 2; ++round) ASSERT_EQ(files.Resume(), absl::OkStatus());
      ASSERT_EQ(write(files.Host(101), "two", 3), 3);
      char bytes[64];
      const ssize_t length = read(files.Host(100), bytes, sizeof(bytes));
      EXPECT_EQ(std::string(bytes, static_cast<size_t>(length)), flags == 0 ? text + "two" : text);
    }
  }
}

TEST(Waiting, AllThatATcpConnectionBrought) {
  for (const int kilobytes : {0, 64, 400, 1500}) {
    ResumedFiles files;
    int fds[2];
    ConnectedTcp(fds);
    Set(fds[0], SO_RCVBUFFORCE, 4 << 20);
    Set(fds[1], SO_SNDBUFFORCE, 4 << 20);
    const std::string piece(1024, 'x');
    for (int i = 0; i < kilobytes; ++i) Send(fds[1], piece);
    int held = 0;
    for (int i = 0; i < 100 && held < kilobytes << 10; ++i) {
      usleep(10000);
      ASSERT_EQ(ioctl(fds[0], FIONREAD, &held), 0);
    }
    files.Put(100, fds[0]);
    ASSERT_EQ(files.Resume(), absl::OkStatus());
    int received = 0;
    ssize_t length = 0;
    char bytes[65536];
    while ((length = recv(files.Host(100), bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
      received += static_cast<int>(length);
    }
    EXPECT_EQ(length, -1);
    EXPECT_EQ(errno, ECONNRESET);
    EXPECT_EQ(received, held);
    EXPECT_GE(held, kilobytes * 900);
    close(fds[1]);
  }
}

// Closed with something unread in it, the other end leaves an error behind what it sent.
TEST(Waiting, BehindItTheConnectionIsReset) {
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
  Send(fds[0], "unread");
  Send(fds[1], "answer");
  close(fds[1]);
  ResumedFiles files;
  files.Put(100, fds[0]);
  EXPECT_EQ(files.Save(), Texts());
  for (int round = 0; round < 2; ++round) ASSERT_EQ(files.Resume(), absl::OkStatus());
  Texts all = All(files.Host(100));
  all.resize(3);
  EXPECT_EQ(all, Texts({"answer", "ECONNRESET", ""}));
}

// ---- Senders outside the process ----

class OutsideTest : public ::testing::Test {
 protected:
  OutsideTest() {
    char name[] = "/tmp/waiting.XXXXXX";
    folder_ = mkdtemp(name);
    std::filesystem::permissions(folder_, std::filesystem::perms::all);
    to_ = Named(folder_ + "/server", &size_);
    const int server = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(bind(server, reinterpret_cast<sockaddr*>(&to_), size_), 0);
    std::filesystem::permissions(folder_ + "/server", std::filesystem::perms::all);
    files_.Put(100, server);
  }
  ~OutsideTest() override { std::filesystem::remove_all(folder_); }

  static sockaddr_un Named(const std::string& name, socklen_t* size) {
    sockaddr_un to = {};
    to.sun_family = AF_UNIX;
    std::memcpy(to.sun_path, name.data(), name.size());
    *size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() +
                                   (name[0] != 0 ? 1 : 0));
    return to;
  }
  bool SendTo(int fd) const {
    return sendto(fd, "text", 4, 0, reinterpret_cast<const sockaddr*>(&to_), size_) == 4;
  }
  // Who sent what is next. -1: it does not say.
  ucred Sender() {
    char bytes[64];
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred)) + 64];
    iovec part = {bytes, sizeof(bytes)};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    EXPECT_EQ(recvmsg(files_.Host(100), &message, MSG_DONTWAIT), 4);
    ucred sender = {-1, 0, 0};
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (header != nullptr) std::memcpy(&sender, CMSG_DATA(header), sizeof(sender));
    return sender;
  }

  ResumedFiles files_;
  std::string folder_;
  sockaddr_un to_;
  socklen_t size_ = 0;
};

TEST_F(OutsideTest, MayBeAliveOrGone) {
  for (const std::string& name : {folder_ + "/client", std::string("\0waiting client", 15)}) {
    for (bool alive : {true, false}) {
      const int client = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      socklen_t size = 0;
      const sockaddr_un from = Named(name, &size);
      ASSERT_EQ(bind(client, reinterpret_cast<const sockaddr*>(&from), size), 0);
      ASSERT_TRUE(SendTo(client));
      if (!alive) close(client);
      ASSERT_EQ(files_.Resume(), absl::OkStatus());
      EXPECT_EQ(All(files_.Host(100)), Texts({"text", "EAGAIN"}));
      if (alive) close(client);
      std::filesystem::remove(folder_ + "/client");
    }
  }
}

TEST_F(OutsideTest, StaysWhoItWas) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can be another";
  constexpr uid_t kOther = 12345;
  Set(files_.Host(100), SO_PASSCRED, 1);
  for (bool alive : {true, false}) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = fork();
    if (child == 0) {
      char byte;
      close(files_.Host(100));
      const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      const bool sent = setresgid(kOther, kOther, kOther) == 0 &&
                        setresuid(kOther, kOther, kOther) == 0 && SendTo(fd);
      close(ends[1]);
      _exit(sent && read(ends[0], &byte, 1) == 1 ? 0 : 1);
    }
    close(ends[0]);
    for (int held = 0, i = 0; i < 500 && held == 0; ++i) {
      usleep(10000);
      ASSERT_EQ(ioctl(files_.Host(100), FIONREAD, &held), 0);
    }
    int status = 0;
    ASSERT_TRUE(alive || (write(ends[1], "x", 1) == 1 && waitpid(child, &status, 0) == child));
    for (int round = 0; round < 2; ++round) ASSERT_EQ(files_.Resume(), absl::OkStatus());
    const ucred sender = Sender();
    EXPECT_EQ(sender.pid, alive ? child : 0);
    EXPECT_EQ(sender.uid, alive ? kOther : 65534);
    EXPECT_EQ(sender.gid, alive ? kOther : 65534);
    ASSERT_TRUE(!alive || (write(ends[1], "x", 1) == 1 && waitpid(child, &status, 0) == child));
    close(ends[1]);
    EXPECT_EQ(status, 0);
  }
}

TEST_F(OutsideTest, TheProgramIsWhoResumesIt) {
  const int client = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ASSERT_TRUE(SendTo(client));  // nobody has asked yet
  Set(files_.Host(100), SO_PASSCRED, 1);
  ASSERT_TRUE(SendTo(client));
  files_.Put(101, client);
  ASSERT_EQ(files_.Resume(), absl::OkStatus());
  EXPECT_EQ(Sender().pid, 0);
  const ucred sender = Sender();
  EXPECT_EQ(sender.pid, getpid());
  EXPECT_EQ(sender.uid, getuid());
  Set(files_.Host(100), SO_PASSCRED, 0);
  ASSERT_TRUE(SendTo(files_.Host(101)));
  EXPECT_EQ(Sender().pid, -1);
}

// ---- Descriptors in flight ----

TEST(Waiting, AnInheritedPipeInFlightStaysOne) {
  ResumedFiles files;
  int fds[2], pipes[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
  ASSERT_EQ(pipe2(pipes, O_CLOEXEC), 0);
  files.Put(99, pipes[0], /*foreign=*/true);
  ASSERT_EQ(SendWithDescriptor(fds[1], absl::string_view("\0", 1), pipes[0]), 1);
  files.Put(100, fds[0]);
  files.Put(101, fds[1]);
  for (int round = 0; round < 2; ++round) EXPECT_FALSE(files.Save().empty());
  EXPECT_TRUE(files.Description(99).foreign);
  close(pipes[1]);
}

// ---- --tcp=keep ----

class KeptTcpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ConnectedTcp(fds_);
    const int on = 1, off = 0;
    if (setsockopt(fds_[0], IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) != 0) {
      GTEST_SKIP() << "TCP_REPAIR takes CAP_NET_ADMIN";
    }
    setsockopt(fds_[0], IPPROTO_TCP, TCP_REPAIR, &off, sizeof(off));
    files_.Put(100, fds_[0]);
  }
  void TearDown() override { close(fds_[1]); }

  int ours() const { return files_.Host(100); }
  int peer() const { return fds_[1]; }
  static uint32_t StateOf(int fd) {
    tcp_info info = {};
    socklen_t size = sizeof(info);
    EXPECT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
    return info.tcpi_state;
  }
  static bool BecomesState(int fd, uint32_t state) {
    for (int i = 0; i < 300 && StateOf(fd) != state; ++i) usleep(10000);
    return StateOf(fd) == state;
  }
  // So many bytes, within some time.
  static std::string Read(int fd, size_t size) {
    const timeval longest = {5, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &longest, sizeof(longest));
    std::string bytes(size, 0);
    const ssize_t length = recv(fd, bytes.data(), size, MSG_WAITALL);
    if (length < 0) return strerrorname_np(errno);
    bytes.resize(static_cast<size_t>(length));
    return bytes;
  }

  int fds_[2];
  ResumedFiles files_;
};

TEST_F(KeptTcpTest, GoesOn) {
  Send(peer(), "data");
  for (int round = 0; round < 2; ++round) ASSERT_EQ(files_.ResumeWithTcp(), absl::OkStatus());
  EXPECT_EQ(Read(ours(), 4), "data");
  Send(ours(), "reply");
  EXPECT_EQ(Read(peer(), 5), "reply");
}

TEST_F(KeptTcpTest, TheOtherEndSendsNoMore) {
  Send(peer(), "data");
  ASSERT_EQ(shutdown(peer(), SHUT_WR), 0);
  ASSERT_TRUE(BecomesState(ours(), TCP_CLOSE_WAIT));
  for (int round = 0; round < 2; ++round) ASSERT_EQ(files_.ResumeWithTcp(), absl::OkStatus());
  EXPECT_EQ(Read(ours(), 8), "data");
  EXPECT_EQ(Read(ours(), 8), "");
  Send(ours(), "reply");
  EXPECT_EQ(Read(peer(), 5), "reply");
  ASSERT_EQ(shutdown(ours(), SHUT_WR), 0);
  EXPECT_EQ(Read(peer(), 1), "");
}

TEST_F(KeptTcpTest, TheProgramSendsNoMore) {
  Send(peer(), "data");
  ASSERT_EQ(shutdown(ours(), SHUT_WR), 0);
  ASSERT_TRUE(BecomesState(ours(), TCP_FIN_WAIT2));
  for (int round = 0; round < 2; ++round) {
    ASSERT_EQ(files_.ResumeWithTcp(), absl::OkStatus());
    EXPECT_TRUE(BecomesState(ours(), TCP_FIN_WAIT2)) << StateOf(ours());
  }
  EXPECT_EQ(Read(ours(), 4), "data");
  EXPECT_EQ(Read(peer(), 1), "");
  Send(peer(), "late");
  EXPECT_EQ(Read(ours(), 4), "late");
  EXPECT_EQ(send(ours(), "x", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
}

// The end that it sent is on its way yet, behind bytes that are.
TEST_F(KeptTcpTest, ItsEndIsOnItsWay) {
  HeldConnections away;
  ASSERT_EQ(away.Hold(peer()), absl::OkStatus());
  Send(ours(), "last words");
  ASSERT_EQ(shutdown(ours(), SHUT_WR), 0);
  EXPECT_EQ(StateOf(ours()), static_cast<uint32_t>(TCP_FIN_WAIT1));
  for (int round = 0; round < 2; ++round) ASSERT_EQ(files_.ResumeWithTcp(), absl::OkStatus());
  away = HeldConnections();
  EXPECT_EQ(Read(peer(), 20), "last words");
  EXPECT_EQ(Read(peer(), 1), "");
  Send(peer(), "answer");
  EXPECT_EQ(Read(ours(), 6), "answer");
}

TEST_F(KeptTcpTest, TheProgramReadsNoMore) {
  ASSERT_EQ(shutdown(ours(), SHUT_RD), 0);
  for (int round = 0; round < 2; ++round) {
    ASSERT_EQ(files_.ResumeWithTcp(), absl::OkStatus());
    EXPECT_EQ(Read(ours(), 4), "");
  }
  Send(ours(), "reply");
  EXPECT_EQ(Read(peer(), 5), "reply");
}

// What is behind urgent data cannot be had: the connection is reset rather than some of it lost.
TEST_F(KeptTcpTest, NotBehindUrgentData) {
  for (bool in_line : {false, true}) {
    for (bool read : {false, true}) {
      if (in_line && read) continue;
      TearDown();
      files_ = ResumedFiles();
      SetUp();
      Set(ours(), SO_OOBINLINE, in_line ? 1 : 0);
      Send(peer(), "abc");
      ASSERT_EQ(send(peer(), "X", 1, MSG_OOB), 1);
      Send(peer(), "def");
      usleep(50000);
      char byte;
      ASSERT_TRUE(!read || recv(ours(), &byte, 1, MSG_OOB) == 1);
      ASSERT_EQ(files_.ResumeWithTcp(), absl::OkStatus());
      EXPECT_EQ(Read(ours(), 3), "abc");
      EXPECT_EQ(Read(ours(), 3), "ECONNRESET");
      EXPECT_EQ(Read(peer(), 1), "ECONNRESET");
    }
  }
}

}  // namespace
}  // namespace km
