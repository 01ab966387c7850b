#include <gtest/gtest.h>

#include "absl/strings/match.h"
#include "km/syscalls/call.h"
#include "km/syscalls/handlers.h"

namespace km {
namespace {

TEST(Table, HasEveryCallOfLinux612) {
  // Linux left out what is between the two ranges; 463 came with 6.13.
  for (uint64_t number = 0; number <= 462; ++number) {
    bool gap = number > 335 && number < 424;
    EXPECT_EQ(FindSyscall(number) != nullptr, !gap) << number;
  }
  EXPECT_EQ(FindSyscall(463), nullptr);
}

TEST(Table, RefusedCallsSayTheErrnoThatTheyGive) {
  for (size_t i = 0; i < SyscallCount(); ++i) {
    const SyscallRow& row = SyscallAt(i);
    if (row.support != Support::kRefused) continue;
    absl::string_view wanted = row.handler == Unsupported ? "ENOSYS: " : "EPERM: ";
    EXPECT_TRUE(absl::StartsWith(row.caveat, wanted)) << row.name;
  }
}

TEST(Table, LimitsAreStated) {
  for (size_t i = 0; i < SyscallCount(); ++i) {
    const SyscallRow& row = SyscallAt(i);
    bool limited = row.support == Support::kPartial || row.support == Support::kRefused;
    EXPECT_TRUE(!limited || row.caveat[0] != '\0') << row.name;
    EXPECT_TRUE(row.support != Support::kLater || row.handler == Unsupported) << row.name;
  }
}

}  // namespace
}  // namespace km
