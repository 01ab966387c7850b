#include "km/memory/guarded_copy.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "km/base/owned.h"
#include "km/memory/guest_addr.h"
#include "tests/unit/memory/machine.h"

namespace km {
namespace {

class GuardedCopyTest : public testing::Test {
 protected:
  // One page that can be used, and one behind it that cannot.
  GuardedCopyTest()
      : pages_(mmap(nullptr, 2 * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                    0),
               2 * kPageSize) {
    mprotect(end(), kPageSize, PROT_NONE);
  }
  std::byte* page() { return pages_.data(); }
  std::byte* end() { return pages_.data() + kPageSize; }

  FaultRepair repair_;
  OwnedMapping pages_;
};

TEST_F(GuardedCopyTest, CopiesWhatIsThere) {
  memset(page(), 0x5a, kPageSize);
  std::byte buffer[100] = {};
  EXPECT_TRUE(GuardedCopy(buffer, end() - 100, 100));
  EXPECT_EQ(buffer[99], std::byte{0x5a});
  EXPECT_TRUE(GuardedCopy(end(), page(), 0));
}

TEST_F(GuardedCopyTest, FaultsOnEitherSide) {
  std::byte buffer[100] = {};
  EXPECT_FALSE(GuardedCopy(buffer, end() - 99, 100));
  EXPECT_FALSE(GuardedCopy(end() - 99, buffer, 100));
  EXPECT_FALSE(GuardedCopy(buffer, nullptr, 1));
  // Addresses that are not canonical fault as well.
  EXPECT_FALSE(GuardedCopy(buffer, reinterpret_cast<void*>(uint64_t{1} << 63), 1));
}

TEST_F(GuardedCopyTest, FileThatShrinks) {
  char name[] = "/tmp/km-test-XXXXXX";
  OwnedFd fd(mkstemp(name));
  ASSERT_TRUE(fd.valid());
  unlink(name);
  ASSERT_EQ(ftruncate(fd.get(), kPageSize), 0);
  OwnedMapping file(mmap(nullptr, kPageSize, PROT_READ, MAP_SHARED, fd.get(), 0), kPageSize);
  ASSERT_TRUE(file.valid());
  char byte;
  EXPECT_TRUE(GuardedCopy(&byte, file.data(), 1));
  ASSERT_EQ(ftruncate(fd.get(), 0), 0);
  EXPECT_FALSE(GuardedCopy(&byte, file.data(), 1));
}

TEST_F(GuardedCopyTest, Load) {
  uint32_t value = 0x12345678, loaded = 0;
  EXPECT_TRUE(GuardedLoad32(&value, &loaded));
  EXPECT_EQ(loaded, value);
  EXPECT_FALSE(GuardedLoad32(end(), &loaded));
  EXPECT_EQ(loaded, value);
}

TEST_F(GuardedCopyTest, CompareExchange) {
  uint32_t value = 5, expected = 5;
  EXPECT_TRUE(GuardedCompareExchange32(&value, &expected, 6));
  EXPECT_EQ(value, 6u);
  EXPECT_EQ(expected, 5u);
  EXPECT_TRUE(GuardedCompareExchange32(&value, &expected, 7));
  EXPECT_EQ(value, 6u);
  EXPECT_EQ(expected, 6u);
  EXPECT_FALSE(GuardedCompareExchange32(end(), &expected, 7));
  ASSERT_EQ(mprotect(page(), kPageSize, PROT_READ), 0);
  EXPECT_FALSE(GuardedCompareExchange32(page(), &expected, 7));
}

TEST_F(GuardedCopyTest, OtherFaultsAreNotRepaired) {
  ucontext_t context = {};
  EXPECT_FALSE(FixGuardedFault(&context));
  context.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(&FixGuardedFault);
  EXPECT_FALSE(FixGuardedFault(&context));
}

}  // namespace
}  // namespace km
