#include "km/files/connections.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

namespace km {
namespace {

class ConnectionsTest : public testing::Test {
 protected:
  void Add(OwnedFd fd) { table_.Add(fd.Release(), FileKind::kSocket, "", false); }

  static OwnedFd New(int family, int type = SOCK_STREAM) {
    return OwnedFd(socket(family, type | SOCK_CLOEXEC, 0));
  }
  // A listener at `name`, which becomes where it is.
  static OwnedFd Listener(sockaddr_storage* name, socklen_t* size) {
    OwnedFd fd = New(name->ss_family);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(name), *size), 0);
    EXPECT_EQ(listen(fd.get(), 5), 0);
    *size = sizeof(*name);
    EXPECT_EQ(getsockname(fd.get(), reinterpret_cast<sockaddr*>(name), size), 0);
    return fd;
  }
  // A client's end, and the program's one in *accepted, or the client waits.
  static OwnedFd Client(const sockaddr_storage& name, socklen_t size, int listener,
                        OwnedFd* accepted) {
    OwnedFd fd = New(name.ss_family);
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), size), 0);
    if (accepted != nullptr) {
      *accepted = OwnedFd(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    }
    return fd;
  }
  // Accepts, looks, closes; has a client wait, looks.
  void TryListener(sockaddr_storage name, socklen_t size) {
    OwnedFd listener = Listener(&name, &size);
    const int host = listener.get();
    Add(std::move(listener));
    EXPECT_TRUE(Now().listens);
    EXPECT_FALSE(Now().open);
    OwnedFd accepted;
    OwnedFd client = Client(name, size, host, &accepted);
    EXPECT_FALSE(Now().open) << "one that the program does not have";
    const int number = table_.Add(accepted.Release(), FileKind::kSocket, "", false);
    EXPECT_TRUE(Now().open);
    client = OwnedFd();
    EXPECT_TRUE(Now().open) << "the program has not closed it";
    table_.Close(static_cast<uint64_t>(number));
    EXPECT_FALSE(Now().open);
    client = Client(name, size, host, nullptr);
    EXPECT_TRUE(Now().open) << "one waits";
  }
  static sockaddr_storage Inet(int family, bool any, socklen_t* size) {
    sockaddr_storage name = {};
    name.ss_family = static_cast<sa_family_t>(family);
    if (family == AF_INET) {
      auto* in = reinterpret_cast<sockaddr_in*>(&name);
      in->sin_addr.s_addr = htonl(any ? INADDR_ANY : INADDR_LOOPBACK);
      *size = sizeof(*in);
    } else {
      reinterpret_cast<sockaddr_in6*>(&name)->sin6_addr = any ? in6addr_any : in6addr_loopback;
      *size = sizeof(sockaddr_in6);
    }
    return name;
  }
  Connections Now() { return LookForConnections(table_); }

  FdTable table_{1024};
};

TEST_F(ConnectionsTest, AnEmptyTableHasNone) {
  EXPECT_FALSE(Now().listens);
  EXPECT_FALSE(Now().open);
}

TEST_F(ConnectionsTest, OfTcp) {
  for (int family : {AF_INET, AF_INET6}) {
    for (bool any : {false, true}) {
      SCOPED_TRACE(testing::Message() << family << " " << any);
      socklen_t size = 0;
      const sockaddr_storage name = Inet(family, any, &size);
      TryListener(name, size);
      for (const FdTable::Entry& entry : table_.Entries()) {
        table_.Close(static_cast<uint64_t>(entry.number));
      }
    }
  }
}

TEST_F(ConnectionsTest, OfUnixSockets) {
  sockaddr_storage name = {};
  name.ss_family = AF_UNIX;
  const std::string text = "km-connections-" + std::to_string(getpid());
  memcpy(reinterpret_cast<sockaddr_un*>(&name)->sun_path + 1, text.data(), text.size());
  TryListener(name, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size()));
}

TEST_F(ConnectionsTest, WhatTheProgramConnectedItselfIsNone) {
  socklen_t size = 0;
  sockaddr_storage name = Inet(AF_INET, false, &size);
  Add(Listener(&name, &size));
  socklen_t other_size = 0;
  sockaddr_storage other = Inet(AF_INET, false, &other_size);
  OwnedFd elsewhere = Listener(&other, &other_size);
  Add(Client(other, other_size, elsewhere.get(), nullptr));
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  Add(OwnedFd(pair[0]));
  Add(OwnedFd(pair[1]));
  Add(New(AF_INET));
  Add(New(AF_INET, SOCK_DGRAM));
  EXPECT_TRUE(Now().listens);
  EXPECT_FALSE(Now().open);
}

TEST_F(ConnectionsTest, OneThatWasResetIsNone) {
  socklen_t size = 0;
  sockaddr_storage name = Inet(AF_INET, false, &size);
  OwnedFd listener = Listener(&name, &size), accepted;
  OwnedFd client = Client(name, size, listener.get(), &accepted);
  Add(std::move(listener));
  Add(std::move(accepted));
  EXPECT_TRUE(Now().open);
  const linger at_once = {1, 0};
  setsockopt(client.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  client = OwnedFd();
  EXPECT_FALSE(Now().open);
}

}  // namespace
}  // namespace km
