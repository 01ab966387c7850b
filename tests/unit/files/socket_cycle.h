// A process's sockets that are saved, closed and restored.
#ifndef TESTS_UNIT_FILES_SOCKET_CYCLE_H_
#define TESTS_UNIT_FILES_SOCKET_CYCLE_H_

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "km/files/fd_table.h"
#include "km/files/file_restorer.h"
#include "km/files/file_saver.h"

namespace km {

inline constexpr int kNumber = 100;
inline constexpr int kNone = -1000;  // no such option

inline int Get(int fd, int level, int name) {
  int value = 0;
  socklen_t size = sizeof(value);
  return getsockopt(fd, level, name, &value, &size) == 0 ? value : kNone;
}

inline bool Set(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

inline sockaddr_in Loopback(uint16_t port = 0) {
  sockaddr_in in = {};
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return in;
}

inline sockaddr_in NameOf(int fd, int (*get)(int, sockaddr*, socklen_t*) = getsockname) {
  sockaddr_in in = {};
  socklen_t size = sizeof(in);
  EXPECT_EQ(get(fd, reinterpret_cast<sockaddr*>(&in), &size), 0);
  return in;
}

inline int Bind(int fd, const sockaddr_in& name) {
  return bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name));
}

inline int Connect(int fd, const sockaddr_in& name) {
  return connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name));
}

inline constexpr int kOther = 101;

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

inline std::string OwnName(const char* name) {
  return std::string("km-sockets-") + std::to_string(getpid()) + name;
}

inline std::string UnixNameOf(int fd, int (*get)(int, sockaddr*, socklen_t*) = getsockname) {
  sockaddr_un name = {};
  socklen_t size = sizeof(name);
  EXPECT_EQ(get(fd, reinterpret_cast<sockaddr*>(&name), &size), 0);
  return size > sizeof(sa_family_t)
             ? std::string(name.sun_path + 1, size - offsetof(sockaddr_un, sun_path) - 1)
             : "";
}

inline OwnedFd Datagrams(int family = AF_INET) {
  return OwnedFd(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

inline OwnedFd BoundDatagrams(const sockaddr_in& name = Loopback()) {
  OwnedFd fd = Datagrams();
  EXPECT_EQ(Bind(fd.get(), name), 0);
  return fd;
}

inline bool SendTo(int fd, const std::string& bytes, const sockaddr_in& to) {
  return sendto(fd, bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&to),
                sizeof(to)) == static_cast<ssize_t>(bytes.size());
}

// The other end is accepted.
inline void MakeConnection(OwnedFd* own, OwnedFd* other) {
  OwnedFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(Bind(listener.get(), Loopback()), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  *own = OwnedFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(Connect(own->get(), NameOf(listener.get())), 0);
  *other = OwnedFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(other->valid());
}

inline std::string Received(int fd) {
  char bytes[64];
  const ssize_t length = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
  return length < 0 ? std::string("-") + strerrorname_np(errno)
                    : std::string(bytes, static_cast<size_t>(length));
}

class SocketCycleTest : public ::testing::Test {
 protected:
  FileDescription& Put(OwnedFd fd, uint64_t number = kNumber) {
    auto description = std::make_shared<FileDescription>();
    description->kind = FileKind::kSocket;
    FileDescription& it = *description;
    table_->InstallAt(number, std::make_shared<OpenFile>(std::move(fd), std::move(description)),
                      false);
    return it;
  }
  int Fd(uint64_t number = kNumber) { return table_->Get(number)->host.get(); }
  // What does not let the socket be saved; empty: it is.
  std::string Save(bool keep_tcp = false) {
    std::vector<std::string> obstacles;
    auto saver = std::make_unique<FileSaver>(*table_, 1 << 20, keep_tcp);
    saver->SaveAll(&obstacles);
    files_ = saver->descriptions;
    descriptors_ = saver->descriptors;
    if (keep_tcp) saver.release();  // what stands still does so until the process ends
    return obstacles.empty() ? "" : obstacles[0];
  }
  absl::Status Restore(bool keep_tcp = false) {
    table_ = std::make_unique<FdTable>(4096);
    FileOptions options;
    options.keep_tcp = keep_tcp;
    FileRestorer restorer(*table_, options, files_, memory_);
    absl::Status status = restorer.Supply(descriptors_, 0);
    if (status.ok()) status = restorer.RestoreAll(descriptors_, 0);
    if (!status.ok()) return status;
    for (const auto& work : restorer.TakeLast()) status.Update(work());
    return status;
  }
  // Saved, and restored beside what goes on.
  void Clone() {
    ASSERT_EQ(Save(), "");
    goes_on_ = std::move(table_);
    absl::Status status = Restore();
    ASSERT_TRUE(status.ok()) << status;
  }
  // Saved, closed and restored; twice, as what was restored has to be saved as well.
  void Cycle() {
    for (int i = 0; i < 2; ++i) {
      ASSERT_EQ(Save(), "");
      table_ = nullptr;
      absl::Status status = Restore();
      ASSERT_TRUE(status.ok()) << status;
    }
  }

  std::unique_ptr<FdTable> table_ = std::make_unique<FdTable>(4096);
  std::unique_ptr<FdTable> goes_on_;
  std::vector<FileRecord> files_;
  std::vector<DescriptorRecord> descriptors_;
  absl::flat_hash_map<uint64_t, OwnedFd> memory_;
};

}  // namespace km

#endif  // TESTS_UNIT_FILES_SOCKET_CYCLE_H_
