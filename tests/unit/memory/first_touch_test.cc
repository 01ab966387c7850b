// What of new memory the host has before anybody touches it (docs/decisions/0028-first-touches.md).
#include <sys/mman.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "tests/unit/memory/space.h"

namespace km {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

class FirstTouch : public SpaceTest {
 protected:
  // The address of new memory.
  uint64_t New(uint64_t length, int protection, int flags) {
    EXPECT_EQ(Map(kFixed, length / kPageSize, protection, flags), static_cast<int64_t>(kFixed));
    return kFixed;
  }

  uint64_t PagesThere(uint64_t address, uint64_t length) {
    std::vector<unsigned char> there(length / kPageSize);
    EXPECT_EQ(mincore(memory_->window() + address, length, there.data()), 0);
    uint64_t count = 0;
    for (const unsigned char page : there) count += page & 1;
    return count;
  }

  // Of the host's mapping that begins at `address`: whether it was asked to be in large pages.
  bool LargePagesAreAskedFor(uint64_t address) {
    const std::string begin =
        absl::StrFormat("%x-", reinterpret_cast<uint64_t>(memory_->window()) + address);
    std::ifstream smaps("/proc/self/smaps");
    bool here = false;
    for (std::string line; std::getline(smaps, line);) {
      if (absl::StartsWith(line, begin)) here = true;
      if (here && absl::StartsWith(line, "VmFlags:")) return absl::StrContains(line, " hg");
    }
    ADD_FAILURE() << "there is no mapping at " << begin;
    return false;
  }
};

TEST_F(FirstTouch, LittleMemoryIsThereAtOnce) {
  EXPECT_EQ(PagesThere(New(kMiB, kRw, 0), kMiB), kMiB / kPageSize);
  EXPECT_EQ(PagesThere(New(kPageSize, kRw, MAP_NORESERVE), kPageSize), 1U);
}

TEST_F(FirstTouch, NotOfEverLittleMemory) {
  for (int i = 0; i < 128; ++i) EXPECT_EQ(PagesThere(New(kMiB, kRw, 0), kMiB), kMiB / kPageSize);
  EXPECT_EQ(PagesThere(New(kPageSize, kRw, 0), kPageSize), 0U);
  EXPECT_EQ(PagesThere(New(kMiB, kRw, 0), kMiB), 0U);
}

TEST_F(FirstTouch, MuchMemoryIsAskedForInLargePages) {
  const uint64_t address = New(8 * kMiB, kRw, 0);
  EXPECT_EQ(PagesThere(address, 8 * kMiB), 0U);
  EXPECT_TRUE(LargePagesAreAskedFor(address));
}

TEST_F(FirstTouch, TheProgramsAdviceIsTheLastWord) {
  const uint64_t address = New(8 * kMiB, kRw, 0);
  EXPECT_EQ(space_.Mappings().front().advice, 0U);  // nothing that a snapshot would keep
  ASSERT_EQ(space_.Advise(address, 8 * kMiB, MADV_NOHUGEPAGE), 0);
  EXPECT_FALSE(LargePagesAreAskedFor(address));
}

TEST_F(FirstTouch, WhatMayStayUntouchedIsLeftAlone) {
  for (const int flags : {MAP_STACK, MAP_GROWSDOWN | MAP_STACK, MAP_SHARED}) {
    EXPECT_EQ(PagesThere(New(kMiB, kRw, flags), kMiB), 0U) << flags;
  }
  EXPECT_EQ(PagesThere(New(kMiB, PROT_READ, 0), kMiB), 0U);
  EXPECT_EQ(PagesThere(New(kMiB, PROT_NONE, 0), kMiB), 0U);
  for (const int flags : {MAP_STACK, MAP_NORESERVE}) {
    EXPECT_FALSE(LargePagesAreAskedFor(New(8 * kMiB, kRw, flags))) << flags;
  }
  EXPECT_FALSE(LargePagesAreAskedFor(New(8 * kMiB, PROT_READ, 0)));
}

TEST_F(FirstTouch, AHeapThatGrows) {
  constexpr uint64_t kPage = PageUp(kBrk);
  ASSERT_EQ(space_.Brk(kBrk + kMiB / 2), static_cast<int64_t>(kBrk + kMiB / 2));
  EXPECT_EQ(PagesThere(kPage, kMiB / 2), kMiB / 2 / kPageSize);
  ASSERT_EQ(space_.Brk(kBrk + 4 * kMiB), static_cast<int64_t>(kBrk + 4 * kMiB));
  EXPECT_EQ(PagesThere(kPage + kMiB / 2, 7 * kMiB / 2), 0U);
  // What is refused makes nothing.
  ASSERT_EQ(space_.Brk(~uint64_t{0}), static_cast<int64_t>(kBrk + 4 * kMiB));
}

}  // namespace
}  // namespace km
