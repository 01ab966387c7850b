#include "km/files/socket_path.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "km/base/owned.h"
#include "km/files/socket_state.h"

namespace km {
namespace {

SocketAddress Named(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto* bytes = reinterpret_cast<const uint8_t*>(&address);
  return {bytes, bytes + offsetof(sockaddr_un, sun_path) + path.size() + 1};
}

class SocketPathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/socket_path.XXXXXX";
    folder_ = mkdtemp(name);
    path_ = folder_ + "/socket";
    name_ = Named(path_);
    ASSERT_EQ(bind(socket_.get(), reinterpret_cast<const sockaddr*>(name_.data()),
                   static_cast<socklen_t>(name_.size())),
              0);
    struct stat status;
    ASSERT_EQ(fstat(socket_.get(), &status), 0);
    absl::StatusOr<UnixSocketInfo> info = QueryUnixSocket(status.st_ino, &diag_);
    if (!info.ok()) GTEST_SKIP() << info.status();
    inode_ = info->file_inode;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  OwnedFd socket_{socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)}, diag_;
  std::string folder_, path_;
  SocketAddress name_;
  uint32_t inode_ = 0;
  int left_ = 1000;
};

TEST_F(SocketPathTest, ModeAndOwnerOfTheFile) {
  ASSERT_EQ(chmod(path_.c_str(), 0612), 0);
  absl::StatusOr<std::optional<SocketFile>> file =
      SocketFileAt(socket_.get(), name_, inode_, &left_);
  ASSERT_TRUE(file.ok() && file->has_value());
  EXPECT_EQ((*file)->mode, 0612u);
  EXPECT_EQ((*file)->owner, (Owner{geteuid(), getegid()}));
  EXPECT_FALSE((*file)->removed);
}

TEST_F(SocketPathTest, AFileThatIsNotTheSocketsAnyMore) {
  ASSERT_EQ(unlink(path_.c_str()), 0);
  EXPECT_TRUE((*SocketFileAt(socket_.get(), name_, inode_, &left_))->removed);
  std::ofstream(path_) << "another";
  EXPECT_TRUE((*SocketFileAt(socket_.get(), name_, inode_, &left_))->removed);
  // From here no relative path leads there, and whether one does from elsewhere is not to be known.
  EXPECT_FALSE(SocketFileAt(socket_.get(), Named("socket"), inode_, &left_).ok());
}

TEST_F(SocketPathTest, AFileThatWasRenamed) {
  const std::string other = folder_ + "/other";
  ASSERT_EQ(rename(path_.c_str(), other.c_str()), 0);
  std::ofstream(path_) << "not it";
  absl::StatusOr<std::optional<SocketFile>> file =
      SocketFileAt(socket_.get(), name_, inode_, &left_);
  ASSERT_TRUE(file.ok() && file->has_value());
  EXPECT_FALSE((*file)->removed);
  EXPECT_EQ((*file)->path, other);
}

TEST_F(SocketPathTest, NamesWithoutAFile) {
  SocketAddress name = Named("x");
  name[offsetof(sockaddr_un, sun_path)] = 0;
  EXPECT_EQ(SocketPath(name), "");
  EXPECT_EQ(*SocketFileAt(socket_.get(), name, inode_, &left_), std::nullopt);
  EXPECT_EQ(SocketPath({}), "");
  EXPECT_EQ(SocketPath({1}), "");
  EXPECT_EQ(SocketPath({2, 0, 0, 80, 127, 0, 0, 1}), "");
  EXPECT_EQ(SocketPath(name_), path_);
}

TEST_F(SocketPathTest, WhatNobodyHasOpenIsRemoved) {
  socket_ = OwnedFd();
  RemoveDeadSocket(path_, SOCK_STREAM);
  EXPECT_NE(access(path_.c_str(), F_OK), 0);
  std::ofstream(path_) << "no socket";
  RemoveDeadSocket(path_, SOCK_STREAM);
  EXPECT_EQ(access(path_.c_str(), F_OK), 0);
  ASSERT_EQ(unlink(path_.c_str()), 0);
  OwnedFd other(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(other.get(), reinterpret_cast<const sockaddr*>(name_.data()),
                 static_cast<socklen_t>(name_.size())),
            0);
  ASSERT_EQ(listen(other.get(), 1), 0);
  RemoveDeadSocket(path_, SOCK_STREAM);
  EXPECT_EQ(access(path_.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace km
