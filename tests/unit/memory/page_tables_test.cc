#include "km/memory/page_tables.h"

#include <sys/mman.h>

#include "km/memory/guest_addr.h"
#include "tests/unit/memory/machine.h"

namespace km {
namespace {

constexpr uint64_t kVa = uint64_t{1} << 30;
constexpr uint64_t kGpa = uint64_t{8} << 30;
constexpr int kRw = PROT_READ | PROT_WRITE;
constexpr int kRx = PROT_READ | PROT_EXEC;

// Tables alone: nothing runs, so the memory that they name need not exist.
class PageTablesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!KvmUsable()) GTEST_SKIP() << "no /dev/kvm, or no right to it";
    auto vm = Vm::Create();
    ASSERT_TRUE(vm.ok()) << vm.status();
    vm_ = *std::move(vm);
    ASSERT_TRUE(arena_.Initialize(vm_.get(), 0).ok());
    ASSERT_TRUE(tables_.Initialize(&arena_).ok());
  }

  // What a processor would find for `va`: the physical address, and whether by a large leaf. -1:
  // none.
  struct Found {
    uint64_t gpa = ~uint64_t{0};
    bool large = false;
    bool user = false;
  };
  Found Walk(uint64_t va) {
    Found found;
    uint64_t table = tables_.root();
    for (int shift : {39, 30, 21, 12}) {
      uint64_t entry = reinterpret_cast<uint64_t*>(arena_.Host(table))[(va >> shift) & 511];
      if ((entry & 1) == 0) return found;
      table = entry & 0x000ffffffffff000;
      found.large = shift == 21 && (entry & 0x80) != 0;
      found.user = (entry & 4) != 0;
      if (found.large) return {table + (va & (kLargePageSize - 1)), true, found.user};
    }
    found.gpa = table + (va & (kPageSize - 1));
    return found;
  }

  // Everything that Allows can tell.
  int Rights(uint64_t va) {
    if (!tables_.Allows(va, PROT_NONE)) return -1;
    return PROT_READ | (tables_.Allows(va, PROT_WRITE) ? PROT_WRITE : 0) |
           (tables_.Allows(va, PROT_EXEC) ? PROT_EXEC : 0);
  }

  std::unique_ptr<Vm> vm_;
  TableArena arena_;
  PageTables tables_;
};

TEST_F(PageTablesTest, NothingAtFirst) {
  EXPECT_FALSE(tables_.Allows(kVa, PROT_READ));
  EXPECT_FALSE(tables_.Allows(0, PROT_NONE));
}

TEST_F(PageTablesTest, FillSmall) {
  ASSERT_TRUE(tables_.Fill(kVa, kVa + 2 * kPageSize, kGpa, kRw).ok());
  EXPECT_EQ(Rights(kVa - kPageSize), -1);
  EXPECT_EQ(Rights(kVa), kRw);
  EXPECT_EQ(Rights(kVa + kPageSize), kRw);
  EXPECT_EQ(Rights(kVa + 2 * kPageSize), -1);
  EXPECT_EQ(Walk(kVa + kPageSize + 5).gpa, kGpa + kPageSize + 5);
  EXPECT_TRUE(Walk(kVa).user);
}

TEST_F(PageTablesTest, FillWithoutRightsFillsNothing) {
  ASSERT_TRUE(tables_.Fill(kVa, kVa + kPageSize, kGpa, PROT_NONE).ok());
  EXPECT_EQ(Rights(kVa), -1);
}

TEST_F(PageTablesTest, FillUsesLargeLeavesInTheMiddle) {
  uint64_t start = kVa + kLargePageSize - kPageSize, end = kVa + 2 * kLargePageSize + kPageSize;
  ASSERT_TRUE(tables_.Fill(start, end, kGpa + kLargePageSize - kPageSize, kRx).ok());
  EXPECT_FALSE(Walk(start).large);
  EXPECT_TRUE(Walk(kVa + kLargePageSize).large);
  EXPECT_FALSE(Walk(end - 1).large);
  for (uint64_t va = start; va < end; va += kPageSize) {
    ASSERT_EQ(Walk(va).gpa, kGpa + (va - kVa));
    ASSERT_EQ(Rights(va), kRx);
  }
  EXPECT_EQ(Rights(end), -1);
}

TEST_F(PageTablesTest, SmallChangeSplitsALargeLeaf) {
  ASSERT_TRUE(tables_.Fill(kVa, kVa + kLargePageSize, kGpa, kRw).ok());
  uint64_t hole = kVa + 100 * kPageSize;
  ASSERT_TRUE(tables_.Clear(hole, hole + kPageSize).ok());
  EXPECT_EQ(Rights(hole), -1);
  for (uint64_t va = kVa; va < kVa + kLargePageSize; va += kPageSize) {
    if (va == hole) continue;
    ASSERT_EQ(Walk(va).gpa, kGpa + (va - kVa));
    ASSERT_EQ(Rights(va), kRw);
  }
}

TEST_F(PageTablesTest, RestrictTakesAndNeverGives) {
  ASSERT_TRUE(tables_.Fill(kVa, kVa + kPageSize, kGpa, kRw).ok());
  ASSERT_TRUE(tables_.Fill(kVa + kPageSize, kVa + 2 * kPageSize, kGpa + kPageSize, kRx).ok());
  ASSERT_TRUE(tables_.Restrict(kVa, kVa + 3 * kPageSize, kRw).ok());
  EXPECT_EQ(Rights(kVa), kRw);
  EXPECT_EQ(Rights(kVa + kPageSize), PROT_READ);
  EXPECT_EQ(Rights(kVa + 2 * kPageSize), -1);
  ASSERT_TRUE(tables_.Restrict(kVa, kVa + kPageSize, PROT_NONE).ok());
  EXPECT_EQ(Rights(kVa), -1);
}

TEST_F(PageTablesTest, GrantSetsRightsOfWhatIsPresentOnly) {
  ASSERT_TRUE(tables_.Fill(kVa, kVa + kPageSize, kGpa, PROT_READ).ok());
  ASSERT_TRUE(tables_.Grant(kVa, kVa + 2 * kPageSize, PROT_READ | PROT_WRITE | PROT_EXEC).ok());
  EXPECT_EQ(Rights(kVa), PROT_READ | PROT_WRITE | PROT_EXEC);
  EXPECT_EQ(Walk(kVa).gpa, kGpa);
  EXPECT_EQ(Rights(kVa + kPageSize), -1);
}

TEST_F(PageTablesTest, LargeAndSmallByTurnsTakeNoMorePages) {
  auto turn = [&] {
    ASSERT_TRUE(tables_.Fill(kVa, kVa + kLargePageSize, kGpa, kRw).ok());
    ASSERT_TRUE(tables_.Clear(kVa, kVa + kLargePageSize).ok());
    ASSERT_TRUE(tables_.Fill(kVa, kVa + kPageSize, kGpa, kRw).ok());
    EXPECT_EQ(Rights(kVa + kPageSize), -1);
    ASSERT_TRUE(tables_.Clear(kVa, kVa + kPageSize).ok());
  };
  turn();
  const uint64_t next = *arena_.Allocate();
  for (int i = 0; i < 3; ++i) turn();
  EXPECT_EQ(*arena_.Allocate(), next + kPageSize);
}

TEST_F(PageTablesTest, LargeLeafChangedWholeStaysLarge) {
  ASSERT_TRUE(tables_.Fill(kVa, kVa + 2 * kLargePageSize, kGpa, kRw).ok());
  ASSERT_TRUE(tables_.Restrict(kVa, kVa + kLargePageSize, PROT_READ).ok());
  EXPECT_TRUE(Walk(kVa).large);
  EXPECT_EQ(Rights(kVa), PROT_READ);
  EXPECT_EQ(Rights(kVa + kLargePageSize), kRw);
  EXPECT_EQ(Walk(kVa + 12345).gpa, kGpa + 12345);
}

TEST_F(PageTablesTest, HugeEmptyRangesCostNothing) {
  ASSERT_TRUE(tables_.Clear(0, KM_GUEST_END).ok());
  ASSERT_TRUE(tables_.Restrict(0, KM_GUEST_END, PROT_READ).ok());
  ASSERT_TRUE(tables_.Fill(kVa, kVa + kPageSize, kGpa, kRw).ok());
  ASSERT_TRUE(tables_.Clear(0, KM_GUEST_END).ok());
  EXPECT_EQ(Rights(kVa), -1);
}

TEST_F(PageTablesTest, TablesAreUsedAgain) {
  // Small, emptied, large, split: whatever the order, the range finds its one table again.
  ASSERT_TRUE(tables_.Fill(kVa, kVa + kPageSize, kGpa, kRw).ok());
  uint64_t before = *arena_.Allocate();
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(tables_.Clear(kVa, kVa + kLargePageSize).ok());
    ASSERT_TRUE(tables_.Fill(kVa, kVa + kLargePageSize, kGpa, kRw).ok());
    EXPECT_TRUE(Walk(kVa).large);
    ASSERT_TRUE(tables_.Clear(kVa + kPageSize, kVa + 2 * kPageSize).ok());
    EXPECT_EQ(Rights(kVa), kRw);
    EXPECT_EQ(Rights(kVa + kPageSize), -1);
  }
  EXPECT_EQ(*arena_.Allocate(), before + kPageSize);
}

TEST_F(PageTablesTest, LargeFillOverSmallLeavesKeepsThemSmall) {
  ASSERT_TRUE(tables_.Fill(kVa, kVa + kPageSize, kGpa, PROT_READ).ok());
  ASSERT_TRUE(tables_.Fill(kVa, kVa + kLargePageSize, kGpa, kRw).ok());
  EXPECT_FALSE(Walk(kVa).large);
  EXPECT_EQ(Rights(kVa), kRw);
  EXPECT_EQ(Walk(kVa + kLargePageSize - 1).gpa, kGpa + kLargePageSize - 1);
}

TEST_F(PageTablesTest, OwnersOfPages) {
  ASSERT_TRUE(tables_.MapPage(KM_GDT_ADDRESS, 0x5000, kRw, PageTables::Owner::kKernel).ok());
  ASSERT_TRUE(tables_.MapPage(KM_STUB_ADDRESS, 0x6000, kRx, PageTables::Owner::kUserRuntime).ok());
  EXPECT_FALSE(Walk(KM_GDT_ADDRESS).user);
  EXPECT_TRUE(Walk(KM_STUB_ADDRESS).user);
  EXPECT_EQ(Rights(KM_STUB_ADDRESS), kRx);
}

TEST_F(PageTablesTest, ArenaGivesDistinctZeroPagesAndGrows) {
  uint64_t last = *arena_.Allocate();
  for (int i = 0; i < 1000; ++i) {  // more than its first megabyte
    auto page = arena_.Allocate();
    ASSERT_TRUE(page.ok()) << page.status();
    ASSERT_EQ(*page, last + kPageSize);
    last = *page;
    ASSERT_EQ(arena_.Host(last)[kPageSize - 1], std::byte{0});
  }
}

}  // namespace
}  // namespace km
