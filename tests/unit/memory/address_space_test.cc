#include "km/memory/address_space.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "tests/unit/memory/space.h"

namespace km {
namespace {

using AddressSpaceTest = SpaceTest;

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
