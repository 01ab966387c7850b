#include "km/memory/address_space.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "tests/unit/memory/space.h"

namespace km {
namespace {

constexpr uint64_t kWrite = 6, kRead = 4, kFetch = 0x14;

class AddressSpaceTest : public SpaceTest {
 protected:
  // A file of `pages` pages, each filled with its number + 1.
  std::shared_ptr<MappedFile> MakeFile(uint64_t pages) {
    auto file = std::make_shared<MappedFile>();
    file->fd = OwnedFd(memfd_create("km-test", MFD_CLOEXEC));
    for (uint64_t i = 0; i < pages; ++i) {
      std::string page(kPageSize, static_cast<char>(i + 1));
      EXPECT_EQ(write(file->fd.get(), page.data(), page.size()), ssize_t{kPageSize});
    }
    file->path = "/km-test";
    return file;
  }

  int64_t MapFile(const std::shared_ptr<MappedFile>& file, uint64_t address, uint64_t pages,
                  int flags, uint64_t first_page = 0, int protection = kRw) {
    MapRequest request;
    request.address = address;
    request.length = pages * kPageSize;
    request.protection = protection;
    request.flags = flags | MAP_FIXED;
    request.host_fd = file->fd.get();
    request.offset = first_page * kPageSize;
    request.file = file;
    return space_.Map(request);
  }

  uint8_t* Host(uint64_t address) {
    return reinterpret_cast<uint8_t*>(memory_->window()) + address;
  }
  bool Present(uint64_t address, int rights = 0) {
    return memory_->tables().Allows(address, rights);
  }
  FaultOutcome Fault(uint64_t address, uint64_t error) { return space_.Fault(address, error); }
  // How many mappings the host has of [address, address + length).
  int HostMappings(uint64_t address, uint64_t length) {
    const uint64_t start = reinterpret_cast<uint64_t>(Host(address)), end = start + length;
    std::ifstream maps("/proc/self/maps");
    int count = 0;
    unsigned long from = 0, to = 0;
    for (std::string line; std::getline(maps, line);) {
      count += sscanf(line.c_str(), "%lx-%lx", &from, &to) == 2 && from < end && to > start;
    }
    return count;
  }
  // The mappings as text: one line each, in pages from kFixed.
  std::string Shape() {
    std::string text;
    for (const Mapping& mapping : space_.Mappings()) {
      text += std::to_string((mapping.start - kFixed) / kPageSize) + "-" +
              std::to_string((mapping.end - kFixed) / kPageSize) + ":" +
              std::to_string(mapping.protection) + " ";
    }
    return text;
  }
};

void ExpectFault(const FaultOutcome& outcome, int sig, int code) {
  EXPECT_EQ(outcome.signal, sig);
  EXPECT_EQ(outcome.code, code);
}

TEST_F(AddressSpaceTest, MapGoesDownFromTheBase) {
  int64_t first = Map(0, 3);
  EXPECT_EQ(first, static_cast<int64_t>(kBase - 3 * kPageSize));
  EXPECT_EQ(Map(0, 1), first - static_cast<int64_t>(kPageSize));
  ASSERT_EQ(space_.Mappings().size(), 1u);
  EXPECT_EQ(*Host(static_cast<uint64_t>(first)), 0);
  EXPECT_TRUE(Present(static_cast<uint64_t>(first), PROT_WRITE));
}

TEST_F(AddressSpaceTest, GapsAreUsedAgain) {
  int64_t first = Map(0, 1);
  int64_t second = Map(0, 1);
  int64_t third = Map(0, 1);
  EXPECT_EQ(space_.Unmap(static_cast<uint64_t>(second), kPageSize), 0);
  EXPECT_EQ(Map(0, 1), second);
  EXPECT_LT(third, second);
  EXPECT_LT(second, first);
}

TEST_F(AddressSpaceTest, HintsAreTakenWhenFree) {
  MapRequest request;
  request.address = kFixed + 5;
  request.length = 1;
  request.protection = kRw;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  EXPECT_EQ(space_.Map(request), static_cast<int64_t>(kFixed));  // rounded down, as Linux does
  EXPECT_NE(space_.Map(request), static_cast<int64_t>(kFixed));
}

TEST_F(AddressSpaceTest, BadRequests) {
  MapRequest good;
  good.length = kPageSize;
  good.protection = kRw;
  good.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  MapRequest bad = good;
  bad.length = 0;
  EXPECT_EQ(space_.Map(bad), -EINVAL);
  bad.length = ~uint64_t{0};
  EXPECT_EQ(space_.Map(bad), -ENOMEM);
  bad.length = KM_GUEST_END;
  EXPECT_EQ(space_.Map(bad), -ENOMEM);
  bad = good;
  bad.flags = MAP_ANONYMOUS;
  EXPECT_EQ(space_.Map(bad), -EINVAL);
  bad = good;
  bad.offset = 5;
  EXPECT_EQ(space_.Map(bad), -EINVAL);
  bad = good;
  bad.flags |= MAP_FIXED;
  bad.address = kFixed + 1;
  EXPECT_EQ(space_.Map(bad), -EINVAL);
  bad.address = KM_GUEST_END;
  EXPECT_EQ(space_.Map(bad), -ENOMEM);
  bad.address = ~uint64_t{0} & ~(kPageSize - 1);
  EXPECT_EQ(space_.Map(bad), -ENOMEM);
  bad.address = 0;
  EXPECT_EQ(space_.Map(bad), -EPERM);
  EXPECT_TRUE(space_.Mappings().empty());
}

TEST_F(AddressSpaceTest, FixedReplacesAndNoReplaceDoesNot) {
  ASSERT_GT(Map(kFixed, 4), 0);
  *Host(kFixed + kPageSize) = 7;
  EXPECT_EQ(Map(kFixed + kPageSize, 1, PROT_READ, MAP_FIXED_NOREPLACE), -EEXIST);
  EXPECT_EQ(*Host(kFixed + kPageSize), 7);
  EXPECT_GT(Map(kFixed + kPageSize, 1, PROT_READ), 0);
  EXPECT_EQ(*Host(kFixed + kPageSize), 0);
  EXPECT_EQ(Shape(), "0-1:3 1-2:1 2-4:3 ");
  EXPECT_TRUE(Present(kFixed + kPageSize, PROT_READ));
  EXPECT_FALSE(Present(kFixed + kPageSize, PROT_WRITE));
}

TEST_F(AddressSpaceTest, UnmapInTheMiddle) {
  ASSERT_GT(Map(kFixed, 4), 0);
  EXPECT_EQ(space_.Unmap(kFixed + kPageSize, 2 * kPageSize), 0);
  EXPECT_EQ(Shape(), "0-1:3 3-4:3 ");
  EXPECT_FALSE(Present(kFixed + kPageSize));
  ExpectFault(Fault(kFixed + kPageSize, kRead), SIGSEGV, SEGV_MAPERR);
  EXPECT_EQ(space_.Unmap(kFixed + kPageSize, 2 * kPageSize), 0);
  EXPECT_EQ(space_.Unmap(kFixed + 1, kPageSize), -EINVAL);
  EXPECT_EQ(space_.Unmap(kFixed, 0), -EINVAL);
  EXPECT_EQ(space_.Unmap(kFixed, ~uint64_t{0}), -EINVAL);
  EXPECT_EQ(space_.Unmap(kFixed, uint64_t{1} << 47), -EINVAL);
  EXPECT_EQ(space_.Unmap(KM_GUEST_END, kPageSize), 0);  // nothing is there, and it may be asked for
}

TEST_F(AddressSpaceTest, ProtectSplitsAndMerges) {
  ASSERT_GT(Map(kFixed, 4), 0);
  EXPECT_EQ(space_.Protect(kFixed + kPageSize, kPageSize, PROT_READ), 0);
  EXPECT_EQ(Shape(), "0-1:3 1-2:1 2-4:3 ");
  EXPECT_FALSE(Present(kFixed + kPageSize, PROT_WRITE));
  EXPECT_TRUE(Present(kFixed, PROT_WRITE));
  ExpectFault(Fault(kFixed + kPageSize, kWrite | 1), SIGSEGV, SEGV_ACCERR);
  EXPECT_EQ(space_.Protect(kFixed + kPageSize, kPageSize, kRw), 0);
  EXPECT_EQ(Shape(), "0-4:3 ");
  EXPECT_TRUE(Present(kFixed + kPageSize, PROT_WRITE));
}

TEST_F(AddressSpaceTest, ProtectNoneAndBackKeepsTheBytes) {
  ASSERT_GT(Map(kFixed, 2), 0);
  *Host(kFixed) = 9;
  EXPECT_EQ(space_.Protect(kFixed, 2 * kPageSize, PROT_NONE), 0);
  EXPECT_FALSE(Present(kFixed));
  ExpectFault(Fault(kFixed, kRead), SIGSEGV, SEGV_ACCERR);
  EXPECT_EQ(space_.Protect(kFixed, 2 * kPageSize, PROT_READ | PROT_EXEC), 0);
  ExpectFault(Fault(kFixed, kFetch), 0, 0);
  EXPECT_TRUE(Present(kFixed, PROT_EXEC));
  EXPECT_EQ(*Host(kFixed), 9);
}

TEST_F(AddressSpaceTest, ProtectOverAHole) {
  ASSERT_GT(Map(kFixed, 1), 0);
  ASSERT_GT(Map(kFixed + 2 * kPageSize, 1), 0);
  EXPECT_EQ(space_.Protect(kFixed, 3 * kPageSize, PROT_READ), -ENOMEM);
  EXPECT_EQ(Shape(), "0-1:1 2-3:3 ");  // what comes before the hole has changed, as on Linux
  EXPECT_EQ(space_.Protect(kFixed + kPageSize, kPageSize, PROT_READ), -ENOMEM);
  EXPECT_EQ(space_.Protect(kFixed + 1, kPageSize, PROT_READ), -EINVAL);
  EXPECT_EQ(space_.Protect(kFixed, kPageSize, 0x1000), -EINVAL);
  EXPECT_EQ(space_.Protect(kFixed, 0, PROT_READ), 0);
}

TEST_F(AddressSpaceTest, FaultsOutside) {
  ExpectFault(Fault(0, kRead), SIGSEGV, SEGV_MAPERR);
  ExpectFault(Fault(KM_GUEST_END, kRead), SIGSEGV, SEGV_MAPERR);
  ExpectFault(Fault(KM_VDSO_DATA, kWrite | 1), SIGSEGV, SEGV_ACCERR);
  ExpectFault(Fault(~uint64_t{0}, kRead), SIGSEGV, SEGV_MAPERR);
}

TEST_F(AddressSpaceTest, LargeMappingIsFilledByFaults) {
  constexpr uint64_t kPages = 100000;
  ASSERT_GT(Map(kFixed, kPages), 0);
  EXPECT_FALSE(Present(kFixed + 50000 * kPageSize));
  ExpectFault(Fault(kFixed + 50000 * kPageSize, kWrite), 0, 0);
  EXPECT_TRUE(Present(kFixed + 50000 * kPageSize, PROT_WRITE));
  ExpectFault(Fault(kFixed + 50000 * kPageSize, kFetch), SIGSEGV, SEGV_ACCERR);
}

TEST_F(AddressSpaceTest, HugeReservationCostsNothing) {
  MapRequest request;
  request.length = uint64_t{16} << 40;
  request.protection = kRw;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  int64_t start = space_.Map(request);
  ASSERT_GT(start, 0);
  ExpectFault(Fault(static_cast<uint64_t>(start) + (uint64_t{5} << 40), kWrite), 0, 0);
  EXPECT_EQ(space_.Unmap(static_cast<uint64_t>(start), request.length), 0);
}

TEST_F(AddressSpaceTest, BehindTheEndOfAFile) {
  auto file = MakeFile(2);
  ASSERT_GT(MapFile(file, kFixed, 4, MAP_SHARED), 0);
  EXPECT_TRUE(Present(kFixed + kPageSize));
  EXPECT_EQ(*Host(kFixed + kPageSize), 2);
  EXPECT_FALSE(Present(kFixed + 2 * kPageSize));
  ExpectFault(Fault(kFixed + 2 * kPageSize, kRead), SIGBUS, BUS_ADRERR);
  // The file grows: now there is something.
  ASSERT_EQ(ftruncate(file->fd.get(), 3 * kPageSize), 0);
  ExpectFault(Fault(kFixed + 2 * kPageSize, kRead), 0, 0);
  // It shrinks: the entries stay until somebody falls over them.
  ASSERT_EQ(ftruncate(file->fd.get(), kPageSize), 0);
  space_.HostFault();
  EXPECT_TRUE(Present(kFixed));
  EXPECT_FALSE(Present(kFixed + kPageSize));
  ExpectFault(Fault(kFixed + kPageSize, kRead), SIGBUS, BUS_ADRERR);
}

TEST_F(AddressSpaceTest, FileMappingsMergeOnlyInOrder) {
  auto file = MakeFile(4);
  ASSERT_GT(MapFile(file, kFixed, 1, MAP_PRIVATE, 0), 0);
  ASSERT_GT(MapFile(file, kFixed + kPageSize, 1, MAP_PRIVATE, 1), 0);
  EXPECT_EQ(Shape(), "0-2:3 ");
  ASSERT_GT(MapFile(file, kFixed + 2 * kPageSize, 1, MAP_PRIVATE, 1), 0);
  EXPECT_EQ(Shape(), "0-2:3 2-3:3 ");
  EXPECT_EQ(space_.Unmap(kFixed, kPageSize), 0);
  EXPECT_EQ(space_.Mappings()[0].offset, kPageSize);
}

TEST_F(AddressSpaceTest, Brk) {
  uint64_t start = space_.layout().brk_start;
  EXPECT_EQ(space_.Brk(0), static_cast<int64_t>(start));
  EXPECT_EQ(space_.Brk(start + 10000), static_cast<int64_t>(start + 10000));
  ASSERT_EQ(space_.Mappings().size(), 1u);
  EXPECT_EQ(space_.Mappings()[0].name, "[heap]");
  *Host(start + 9999) = 1;
  EXPECT_EQ(space_.Brk(start + 100), static_cast<int64_t>(start + 100));
  EXPECT_EQ(space_.Brk(start + 10000), static_cast<int64_t>(start + 10000));
  EXPECT_EQ(*Host(start + 9999), 0);
  // Something is in the way.
  ASSERT_GT(Map(PageUp(start + 10000) + kPageSize, 1), 0);
  EXPECT_EQ(space_.Brk(start + 100000), static_cast<int64_t>(start + 10000));
  EXPECT_EQ(space_.Brk(~uint64_t{0}), static_cast<int64_t>(start + 10000));
}

// As a forged snapshot could have them: behind the window is the monitor's own memory.
TEST_F(AddressSpaceTest, LandmarksBeyondTheWindow) {
  AddressSpace::Layout layout;
  layout.mmap_base = memory_->end() + (uint64_t{1} << 30);
  layout.brk_start = kBrk;
  layout.brk_end = memory_->end() + kPageSize;
  space_.SetLayout(layout);
  const auto end = static_cast<int64_t>(memory_->end());
  EXPECT_EQ(Map(0, 1), end - static_cast<int64_t>(kPageSize));
  EXPECT_LE(Map(0, 1000), end - static_cast<int64_t>(1001 * kPageSize));
  EXPECT_EQ(space_.Brk(kBrk), end + static_cast<int64_t>(kPageSize));
  EXPECT_EQ(space_.Brk(kBrk + kPageSize), end + static_cast<int64_t>(kPageSize));
}

TEST_F(AddressSpaceTest, StackGrows) {
  ASSERT_GT(Map(kFixed, 4, kRw, MAP_GROWSDOWN), 0);
  ExpectFault(Fault(kFixed - 3 * kPageSize + 8, kWrite), 0, 0);
  EXPECT_EQ(space_.Mappings()[0].start, kFixed - 3 * kPageSize);
  *Host(kFixed - 3 * kPageSize) = 1;
  // Not up to another mapping.
  ASSERT_GT(Map(kFixed - 400 * kPageSize, 1), 0);
  ExpectFault(Fault(kFixed - 350 * kPageSize, kWrite), SIGSEGV, SEGV_MAPERR);
  ExpectFault(Fault(kFixed - 100 * kPageSize, kWrite), 0, 0);
  // Not beyond the limit of 8 MiB or whatever it is, nor for other mappings.
  ExpectFault(Fault(kFixed + (uint64_t{1} << 32), kWrite), SIGSEGV, SEGV_MAPERR);
}

TEST_F(AddressSpaceTest, NothingGrowsDownBelowTheLowestAddress) {
  MapRequest request;
  request.address = 0x10000;
  request.length = kPageSize;
  request.protection = kRw | PROT_EXEC;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN;
  ASSERT_EQ(space_.Map(request), 0x10000);
  ExpectFault(Fault(8, kWrite), SIGSEGV, SEGV_MAPERR);
  EXPECT_FALSE(Present(0));
}

TEST_F(AddressSpaceTest, TheGapBelowWhatGrowsDownIsKept) {
  MapRequest request;
  request.length = kPageSize;
  request.protection = kRw;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN;
  const int64_t stack = space_.Map(request);
  ASSERT_GT(stack, 0);
  for (int i = 0; i < 2; ++i) {
    const int64_t next = Map(0, 1);
    EXPECT_EQ(stack - next, int64_t{257 * kPageSize}) << "round " << i;
    ASSERT_EQ(space_.Unmap(static_cast<uint64_t>(next), kPageSize), 0);
  }
}

TEST_F(AddressSpaceTest, ReachLetsAStackGrow) {
  MapRequest request;
  request.address = kFixed;
  request.length = kPageSize;
  request.protection = kRw;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN;
  ASSERT_GT(space_.Map(request), 0);
  EXPECT_FALSE(space_.Reach(kFixed));  // it is there
  EXPECT_TRUE(space_.Reach(kFixed - 3 * kPageSize + 8));
  EXPECT_TRUE(space_.IsMapped(kFixed - 3 * kPageSize, 4 * kPageSize));
  ASSERT_EQ(space_.Unmap(kFixed - 3 * kPageSize, 4 * kPageSize), 0);
  EXPECT_FALSE(space_.Reach(kFixed));
}

TEST_F(AddressSpaceTest, DontneedGivesZeros) {
  ASSERT_GT(Map(kFixed, 2), 0);
  *Host(kFixed) = 5;
  EXPECT_EQ(space_.Advise(kFixed, kPageSize, MADV_DONTNEED), 0);
  EXPECT_EQ(*Host(kFixed), 0);
  EXPECT_EQ(space_.Advise(kFixed, 3 * kPageSize, MADV_DONTNEED), -ENOMEM);
  EXPECT_EQ(space_.Advise(kFixed, kPageSize, 12345), -EINVAL);
  EXPECT_EQ(space_.Advise(kFixed + 1, kPageSize, MADV_DONTNEED), -EINVAL);
  EXPECT_EQ(space_.Advise(kFixed, 0, MADV_DONTNEED), 0);
}

TEST_F(AddressSpaceTest, DontneedOfSnapshotMemoryGivesZerosToo) {
  auto file = MakeFile(3);
  ASSERT_NE(mmap(Host(kFixed), 3 * kPageSize, kRw, MAP_PRIVATE | MAP_FIXED, file->fd.get(), 0),
            MAP_FAILED);
  Mapping mapping;
  mapping.start = kFixed;
  mapping.end = kFixed + 3 * kPageSize;
  mapping.protection = kRw;
  mapping.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  mapping.from_snapshot = true;
  space_.Adopt(mapping, mapping.start, mapping.end);
  ExpectFault(Fault(kFixed, kRead), 0, 0);
  EXPECT_EQ(*Host(kFixed + kPageSize), 2);
  EXPECT_EQ(space_.Advise(kFixed + kPageSize, kPageSize, MADV_DONTNEED), 0);
  EXPECT_EQ(*Host(kFixed), 1);
  EXPECT_EQ(*Host(kFixed + kPageSize), 0);
  EXPECT_EQ(*Host(kFixed + 2 * kPageSize), 3);
}

TEST_F(AddressSpaceTest, RemapInPlace) {
  ASSERT_GT(Map(kFixed, 2), 0);
  *Host(kFixed) = 5;
  EXPECT_EQ(space_.Remap(kFixed, 2 * kPageSize, 4 * kPageSize, 0, 0), int64_t{kFixed});
  EXPECT_EQ(Shape(), "0-4:3 ");
  EXPECT_EQ(space_.Remap(kFixed, 4 * kPageSize, kPageSize, 0, 0), int64_t{kFixed});
  EXPECT_EQ(Shape(), "0-1:3 ");
  EXPECT_EQ(*Host(kFixed), 5);
  EXPECT_FALSE(Present(kFixed + kPageSize));
}

TEST_F(AddressSpaceTest, RemapMoves) {
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
TEST_F(AddressSpaceTest, RemapMovesAndGrowsAgainAndAgain) {
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
TEST_F(AddressSpaceTest, RemapMovesWhatTheHostHasInPieces) {
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
TEST_F(AddressSpaceTest, RemapOfASnapshotsFileMappingKeepsItsEnd) {
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
TEST_F(AddressSpaceTest, WhatTheHostRefusesLeavesNoHole) {
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

TEST_F(AddressSpaceTest, LockedMemoryCountsOnceHoweverOftenItMoves) {
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

TEST_F(AddressSpaceTest, RemapFixedAndDontUnmap) {
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

TEST_F(AddressSpaceTest, RemapErrors) {
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

TEST_F(AddressSpaceTest, IsMapped) {
  ASSERT_GT(Map(kFixed, 1), 0);
  ASSERT_GT(Map(kFixed + kPageSize, 1, PROT_READ), 0);
  EXPECT_TRUE(space_.IsMapped(kFixed, 2 * kPageSize));
  EXPECT_TRUE(space_.IsMapped(kFixed + 100, 1));
  EXPECT_FALSE(space_.IsMapped(kFixed, 2 * kPageSize + 1));
  EXPECT_FALSE(space_.IsMapped(kFixed - 1, 2));
  EXPECT_FALSE(space_.IsMapped(kFixed, ~uint64_t{0}));
}

TEST_F(AddressSpaceTest, MapsTextIsThatOfProc) {
  auto file = MakeFile(2);
  ASSERT_GT(MapFile(file, kFixed, 1, MAP_SHARED, 1, PROT_READ), 0);
  ASSERT_GT(Map(kFixed + 5 * kPageSize, 1, PROT_READ | PROT_EXEC), 0);
  std::string text = space_.MapsText();
  EXPECT_EQ(text.substr(0, text.find('\n')),
            "200000000-200001000 r--s 00001000 00:00 0" + std::string(32, ' ') + "/km-test");
  EXPECT_NE(text.find("\n200005000-200006000 r-xp 00000000 00:00 0 \n"), std::string::npos);
}

TEST_F(AddressSpaceTest, TheProgramRunsInIt) {
  // mov %rax, (%rdi); syscall
  ASSERT_GT(Map(kFixed, 1), 0);
  const uint8_t code[] = {0x48, 0x89, 0x07, 0x0f, 0x05};
  memcpy(Host(kFixed), code, sizeof(code));
  ASSERT_EQ(space_.Protect(kFixed, kPageSize, PROT_READ | PROT_EXEC), 0);
  ASSERT_GT(Map(kFixed + (uint64_t{1} << 32), 20000), 0);
  Registers registers;
  registers.rip = kFixed;
  registers.rsp = kFixed;
  registers.rax = 0x1122334455667788;
  registers.rdi = kFixed + (uint64_t{1} << 32) + 15000 * kPageSize;
  VcpuExit exit = vcpu_->Run(registers);
  ASSERT_EQ(exit.kind, VcpuExit::Kind::kException);
  ASSERT_EQ(exit.vector, 14);
  EXPECT_EQ(exit.fault_address, registers.rdi);
  ExpectFault(Fault(exit.fault_address, exit.error_code), 0, 0);
  ASSERT_EQ(vcpu_->Run(registers).kind, VcpuExit::Kind::kSystemCall);
  uint64_t value;
  memcpy(&value, Host(registers.rdi), sizeof(value));
  EXPECT_EQ(value, registers.rax);
}

}  // namespace
}  // namespace km
