#include "km/base/owned.h"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace km {
namespace {

bool Open(int fd) { return fcntl(fd, F_GETFD) >= 0; }

TEST(OwnedFd, ClosesOnceAndMoves) {
  int number;
  {
    OwnedFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
    number = fd.get();
    OwnedFd moved(std::move(fd));
    EXPECT_TRUE(moved.valid());
    EXPECT_TRUE(Open(number));
    OwnedFd assigned;
    assigned = std::move(moved);
    EXPECT_EQ(assigned.get(), number);
  }
  EXPECT_FALSE(Open(number));
}

TEST(OwnedFd, ReleaseKeepsItOpen) {
  OwnedFd fd(open("/dev/null", O_RDONLY | O_CLOEXEC));
  int number = fd.Release();
  EXPECT_FALSE(fd.valid());
  EXPECT_TRUE(Open(number));
  close(number);
}

TEST(OwnedMapping, FailedIsNotValid) {
  EXPECT_FALSE(OwnedMapping(MAP_FAILED, 4096).valid());
  EXPECT_FALSE(OwnedMapping().valid());
}

TEST(OwnedMapping, UnmapsAndMoves) {
  std::byte* at;
  {
    OwnedMapping mapping(
        mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
    ASSERT_TRUE(mapping.valid());
    at = mapping.data();
    OwnedMapping assigned;
    assigned = std::move(mapping);
    EXPECT_EQ(assigned.data(), at);
    EXPECT_EQ(assigned.size(), 4096u);
    at[0] = std::byte{1};
  }
  unsigned char resident;
  EXPECT_NE(mincore(at, 4096, &resident), 0);
}

}  // namespace
}  // namespace km
