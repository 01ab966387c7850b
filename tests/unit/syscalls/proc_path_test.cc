#include "km/syscalls/proc_path.h"

#include <gtest/gtest.h>

namespace km {
namespace {

bool May(const std::string& text) {
  HostPath path;
  path.path = text;
  return MayLeadToProc(path);
}

bool MayFrom(const std::string& directory, const std::string& text) {
  auto description = std::make_shared<FileDescription>();
  description->path = directory;
  HostPath path;
  path.path = text;
  path.directory = std::make_shared<OpenFile>(OwnedFd(), std::move(description));
  return MayLeadToProc(path);
}

TEST(MayLeadToProc, LooksAtAbsolutePaths) {
  EXPECT_TRUE(May("/proc/self/maps"));
  EXPECT_TRUE(May("//proc/self"));
  EXPECT_TRUE(May("/proc"));
  EXPECT_TRUE(May("/dev/stdin"));
  EXPECT_TRUE(May("/dev/fd/3"));
  EXPECT_FALSE(May("/device"));
  EXPECT_FALSE(May("/"));
  EXPECT_FALSE(May("///"));
  EXPECT_FALSE(May(""));
  EXPECT_FALSE(May("/etc/proc"));
  EXPECT_FALSE(May("proc/self"));
}

TEST(MayLeadToProc, LooksAtTheDirectoryOfARelativePath) {
  EXPECT_TRUE(MayFrom("/proc", "self/maps"));
  EXPECT_TRUE(MayFrom("/proc/self/fd", "3"));
  EXPECT_FALSE(MayFrom("/tmp", "self/maps"));
  EXPECT_FALSE(MayFrom("/proc", ""));
}

}  // namespace
}  // namespace km
