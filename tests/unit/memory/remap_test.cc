#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "km/memory/address_space.h"
#include "tests/unit/memory/space.h"

namespace km {
namespace {

using RemapTest = SpaceTest;

TEST_F(RemapTest, InPlace) {
  ASSERT_GT(Map(kFixed, 2), 0);
  *Host(kFixed) = 5;
  EXPECT_EQ(space_.Remap(kFixed, 2 * kPageSize, 4 * kPageSize, 0, 0), int64_t{kFixed});
  EXPECT_EQ(Shape(), "0-4:3 ");
  EXPECT_EQ(space_.Remap(kFixed, 4 * kPageSize, kPageSize, 0, 0), int64_t{kFixed});
  EXPECT_EQ(Shape(), "0-1:3 ");
  EXPECT_EQ(*Host(kFixed), 5);
  EXPECT_FALSE(Present(kFixed + kPageSize));
}

TEST_F(RemapTest, Moves) {
  ASSERT_GT(Map(kFixed, 2), 0);
  ASSERT_GT(Map(kFixed + 2 * kPageSize, 1, PROT_READ), 0);
  *Host(kFixed + kPageSize) = 5;
  EXPECT_EQ(space_.Remap(kFixed, 2 * kPageSize, 3 * kPageSize, 0, 0), -ENOMEM);
  int64_t moved = space_.Remap(kFixed, 2 * kPageSize, 3 * kPageSize, MREMAP_MAYMOVE, 0);
  ASSERT_GT(moved, 0);
  EXPECT_EQ(*Host(static_cast<uint64_t>(moved) + kPageSize), 5);
  EXPECT_EQ(*Host(static_cast<uint64_t>(moved) + 2 * kPageSize), 0);
  ExpectFault(Fault(static_cast<uint64_t>(moved) + 2 * kPageSize, kWrite), 0, 0);
  EXPECT_FALSE(Present(kFixed));
  ExpectFault(Fault(kFixed, kRead), SIGSEGV, SEGV_MAPERR);
}

// What realloc does with a large block, over and over; what stands above it makes it move.
TEST_F(RemapTest, MovesAndGrowsAgainAndAgain) {
  uint64_t address = static_cast<uint64_t>(Map(0, 1));
  uint64_t pages = 1;
  for (int i = 0; i < 10; ++i) {
    ASSERT_GT(Map(address + pages * kPageSize, 1, PROT_READ), 0);
    for (uint64_t page = 0; page < pages; ++page) *Host(address + page * kPageSize) = 0x33;
    int64_t moved =
        space_.Remap(address, pages * kPageSize, 2 * pages * kPageSize, MREMAP_MAYMOVE, 0);
    ASSERT_GT(moved, 0) << "round " << i;
    ASSERT_NE(moved, static_cast<int64_t>(address));
    address = static_cast<uint64_t>(moved);
    for (uint64_t page = 0; page < pages; ++page) {
      ASSERT_EQ(*Host(address + page * kPageSize), 0x33);
      ASSERT_EQ(*Host(address + (pages + page) * kPageSize), 0);
    }
    pages *= 2;
    ASSERT_EQ(HostMappings(address, pages * kPageSize), 1);
  }
}

// Memory that grew where it was moved to: two mappings of the host's, which Linux before 6.17 does
// not move in one call.
TEST_F(RemapTest, MovesWhatTheHostHasInPieces) {
  constexpr uint64_t kOld = 5, kNew = 11;
  ASSERT_GT(Map(kFixed, kOld), 0);
  for (uint64_t page = 0; page < kOld; ++page) *Host(kFixed + page * kPageSize) = 0x44;
  int64_t moved = space_.Remap(kFixed, kOld * kPageSize, kOld * kPageSize,
                               MREMAP_MAYMOVE | MREMAP_FIXED, kFixed + 100 * kPageSize);
  ASSERT_GT(moved, 0);
  auto address = static_cast<uint64_t>(moved);
  ASSERT_EQ(space_.Remap(address, kOld * kPageSize, kNew * kPageSize, 0, 0), moved);
  *Host(address + kOld * kPageSize) = 0x55;
  ASSERT_EQ(HostMappings(address, kNew * kPageSize), 2);
  moved = space_.Remap(address, kNew * kPageSize, kNew * kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED,
                       kFixed + 200 * kPageSize);
  ASSERT_GT(moved, 0);
  address = static_cast<uint64_t>(moved);
  EXPECT_EQ(Shape(), "200-211:3 ");
  for (uint64_t page = 0; page < kNew; ++page) {
    EXPECT_EQ(*Host(address + page * kPageSize), page < kOld ? 0x44 : page == kOld ? 0x55 : 0);
  }
}

// Once from a snapshot: what the program mapped of a file ends where that did.
TEST_F(RemapTest, OfASnapshotsFileMappingKeepsItsEnd) {
  auto file = MakeFile(3);
  ASSERT_NE(mmap(Host(kFixed), 3 * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
                 file->fd.get(), 0),
            MAP_FAILED);
  Mapping mapping;
  mapping.start = kFixed;
  mapping.end = kFixed + 3 * kPageSize;
  mapping.protection = kRw;
  mapping.flags = MAP_PRIVATE;
  mapping.name = "/km-test";
  mapping.from_snapshot = true;
  mapping.snapshot_file_end = kFixed + 2 * kPageSize;
  mapping.source = 0;
  space_.Adopt(mapping, mapping.start, mapping.end);
  const uint64_t target = kFixed + 100 * kPageSize;
  ASSERT_EQ(
      space_.Remap(kFixed, 3 * kPageSize, 3 * kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED, target),
      static_cast<int64_t>(target));
  EXPECT_EQ(AddressSpace::ReadableEnd(space_.Mappings()[0]), target + 2 * kPageSize);
  ExpectFault(Fault(target + kPageSize, kRead), 0, 0);
  ExpectFault(Fault(target + 2 * kPageSize, kRead), SIGBUS, BUS_ADRERR);
}

// The window is never without a mapping: one of the monitor's could come there.
TEST_F(RemapTest, WhatTheHostRefusesLeavesNoHole) {
  auto file = std::make_shared<MappedFile>();
  file->fd = OwnedFd(memfd_create("km-test", MFD_CLOEXEC | MFD_HUGETLB));
  constexpr uint64_t kBytes = 8 * kLargePageSize;
  if (!file->fd.valid() || ftruncate(file->fd.get(), 2 * kBytes) != 0) GTEST_SKIP();
  MapRequest request;
  request.address = kFixed & ~(kLargePageSize - 1);
  request.length = kBytes;
  request.protection = kRw;
  request.flags = MAP_SHARED | MAP_NORESERVE | MAP_FIXED;
  request.host_fd = file->fd.get();
  request.file = file;
  if (space_.Map(request) < 0) GTEST_SKIP() << "no huge pages";
  EXPECT_EQ(space_.RemapFilePages(request.address, kBytes, 1, 0), -EINVAL);
  EXPECT_EQ(msync(Host(request.address), kBytes, MS_ASYNC), 0) << strerror(errno);
}

TEST_F(RemapTest, LockedMemoryCountsOnceHoweverOftenItMoves) {
  auto locked = [] {
    std::ifstream status("/proc/self/status");
    unsigned long kilobytes = 0;
    for (std::string line; std::getline(status, line);) {
      (void)sscanf(line.c_str(), "VmLck: %lu", &kilobytes);
    }
    return kilobytes;
  };
  const unsigned long before = locked();
  uint64_t address = kFixed;
  ASSERT_GT(Map(address, 8), 0);
  ASSERT_EQ(space_.Lock(address, 8 * kPageSize, false), 0);
  ASSERT_EQ(locked() - before, 32);
  for (int i = 0; i < 3; ++i) {
    const uint64_t target = address + 100 * kPageSize;
    ASSERT_GT(
        space_.Remap(address, 8 * kPageSize, 8 * kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED, target),
        0);
    address = target;
    EXPECT_EQ(locked() - before, 32) << "after move " << i;
  }
  // What stays behind of a part that moves, and what grows after a move.
  const uint64_t target = address + 100 * kPageSize;
  ASSERT_GT(space_.Remap(address, kPageSize, 4 * kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED, target),
            0);
  EXPECT_EQ(locked() - before, 44);
  ASSERT_EQ(space_.Unlock(target, 4 * kPageSize), 0);
  EXPECT_EQ(locked() - before, 28);
}

TEST_F(RemapTest, FixedAndDontUnmap) {
  ASSERT_GT(Map(kFixed, 2), 0);
  *Host(kFixed) = 5;
  uint64_t target = kFixed + 100 * kPageSize;
  ASSERT_GT(Map(target, 2, PROT_READ), 0);
  EXPECT_EQ(
      space_.Remap(kFixed, 2 * kPageSize, 2 * kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED, target),
      static_cast<int64_t>(target));
  EXPECT_EQ(Shape(), "100-102:3 ");
  EXPECT_EQ(*Host(target), 5);
  constexpr int kDontUnmap = 4;
  int64_t copy = space_.Remap(target, 2 * kPageSize, 2 * kPageSize, MREMAP_MAYMOVE | kDontUnmap, 0);
  ASSERT_GT(copy, 0);
  EXPECT_EQ(*Host(static_cast<uint64_t>(copy)), 5);
  EXPECT_EQ(*Host(target), 0);
  ExpectFault(Fault(target, kWrite), 0, 0);
}

TEST_F(RemapTest, Errors) {
  ASSERT_GT(Map(kFixed, 2), 0);
  EXPECT_EQ(space_.Remap(kFixed, kPageSize, kPageSize, 8, 0), -EINVAL);
  EXPECT_EQ(space_.Remap(kFixed + 1, kPageSize, kPageSize, 0, 0), -EINVAL);
  EXPECT_EQ(space_.Remap(kFixed, kPageSize, 0, 0, 0), -EINVAL);
  EXPECT_EQ(space_.Remap(kFixed, kPageSize, kPageSize, MREMAP_FIXED, kFixed + kPageSize), -EINVAL);
  EXPECT_EQ(space_.Remap(kFixed, 2 * kPageSize, 2 * kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED,
                         kFixed + kPageSize),
            -EINVAL);
  EXPECT_EQ(space_.Remap(kFixed + 8 * kPageSize, kPageSize, 2 * kPageSize, 1, 0), -EFAULT);
  EXPECT_EQ(space_.Remap(kFixed, 3 * kPageSize, 4 * kPageSize, MREMAP_MAYMOVE, 0), -EFAULT);
  EXPECT_EQ(space_.Remap(~uint64_t{0} << 12, kPageSize, 2 * kPageSize, 1, 0), -EFAULT);
  EXPECT_EQ(space_.Remap(kFixed, kPageSize, uint64_t{1} << 62, 1, 0), -EINVAL);
  EXPECT_EQ(space_.Remap(kFixed, kPageSize, kTaskSize, 1, 0), -ENOMEM);
  EXPECT_EQ(Shape(), "0-2:3 ");
}

}  // namespace
}  // namespace km
