// Files without a name that are saved, closed and restored.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "tests/unit/files/resumed_files.h"

namespace km {
namespace {

struct stat Status(int fd) {
  struct stat status = {};
  EXPECT_EQ(fstat(fd, &status), 0);
  return status;
}

// Deleted, open as `flags` say.
int Deleted(int flags) {
  std::string path = testing::TempDir() + "unnamed-XXXXXX";
  const int made = mkstemp(path.data());
  EXPECT_EQ(write(made, "bytes", 5), 5);
  const int fd = open(path.c_str(), flags | O_CLOEXEC);
  EXPECT_EQ(unlink(path.c_str()), 0);
  EXPECT_EQ(close(made), 0);
  return fd;
}

TEST(UnnamedFile, KeepsItsModeAndOwner) {
  constexpr mode_t kModes[] = {0640, 04755, 0};
  constexpr uid_t kUser = 12, kGroup = 34;
  const bool root = geteuid() == 0;
  ResumedFiles files;
  const int descriptors[] = {Deleted(O_RDWR), memfd_create("mode", MFD_CLOEXEC), Deleted(O_RDONLY)};
  for (int i = 0; i < 3; ++i) {
    if (root) ASSERT_EQ(fchown(descriptors[i], kUser, kGroup), 0);
    ASSERT_EQ(fchmod(descriptors[i], kModes[i]), 0);
    files.Put(i + 10, descriptors[i]);
  }
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(files.Resume().ok());
    for (int i = 0; i < 3; ++i) {
      const struct stat status = Status(files.Host(i + 10));
      EXPECT_EQ(status.st_mode & 07777, kModes[i]);
      if (root) EXPECT_EQ(status.st_uid, kUser);
      if (root) EXPECT_EQ(status.st_gid, kGroup);
    }
    char bytes[8] = "";
    EXPECT_EQ(pread(files.Host(10), bytes, sizeof(bytes), 0), 5);
    EXPECT_STREQ(bytes, "bytes");
  }
}

}  // namespace
}  // namespace km
