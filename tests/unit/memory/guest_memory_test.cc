#include "km/memory/guest_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "tests/unit/memory/machine.h"

namespace km {
namespace {

class GuestMemoryTest : public MachineTest {
 protected:
  FaultRepair repair_;
};

TEST_F(GuestMemoryTest, SpanIsBounded) {
  uint64_t end = memory_->end();
  EXPECT_TRUE(end == KM_GUEST_END || end == KM_PLACED_END) << end;
  EXPECT_EQ(memory_->Span(GuestAddr(5), 10), memory_->window() + 5);
  EXPECT_NE(memory_->Span(GuestAddr(end - 1), 1), nullptr);
  EXPECT_NE(memory_->Span(GuestAddr(0), end), nullptr);
  EXPECT_EQ(memory_->Span(GuestAddr(end), 1), nullptr);
  EXPECT_EQ(memory_->Span(GuestAddr(1), end), nullptr);
  EXPECT_EQ(memory_->Span(GuestAddr(~uint64_t{0}), 2), nullptr);
  EXPECT_EQ(memory_->Span(GuestAddr(2), ~uint64_t{0}), nullptr);
  EXPECT_EQ(memory_->Span(GuestAddr(KM_STUB_ADDRESS), 1), nullptr);
}

TEST_F(GuestMemoryTest, CopiesAndFaults) {
  MapHost(kData, kPageSize);
  uint64_t value = 0x123456789;
  EXPECT_EQ(memory_->CopyOut(GuestAddr(kData + 8), value), 0);
  uint64_t back = 0;
  EXPECT_EQ(memory_->CopyIn(&back, GuestAddr(kData + 8)), 0);
  EXPECT_EQ(back, value);
  EXPECT_EQ(memory_->CopyOut(GuestAddr(kData + kPageSize - 4), value), -EFAULT);
  EXPECT_EQ(memory_->CopyIn(&back, GuestAddr(0)), -EFAULT);
  EXPECT_EQ(memory_->CopyIn(&back, GuestAddr(KM_GUEST_END)), -EFAULT);
}

TEST_F(GuestMemoryTest, Strings) {
  std::byte* data = MapHost(kData, kPageSize);
  memcpy(data, "hello", 6);
  std::string text;
  EXPECT_EQ(memory_->CopyInString(&text, GuestAddr(kData), 6), 0);
  EXPECT_EQ(text, "hello");
  EXPECT_EQ(memory_->CopyInString(&text, GuestAddr(kData), 5), -ENAMETOOLONG);
  // Long, over the pieces that it is read in, up to the last byte of the page.
  memset(data, 'x', kPageSize);
  data[kPageSize - 1] = std::byte{0};
  EXPECT_EQ(memory_->CopyInString(&text, GuestAddr(kData + 1), 10000), 0);
  EXPECT_EQ(text, std::string(kPageSize - 2, 'x'));
  data[kPageSize - 1] = std::byte{'x'};
  EXPECT_EQ(memory_->CopyInString(&text, GuestAddr(kData + 1), 10000), -EFAULT);
  EXPECT_EQ(memory_->CopyInString(&text, GuestAddr(~uint64_t{0}), 10), -EFAULT);
}

TEST_F(GuestMemoryTest, ChunksAreCongruentAndDoNotOverlap) {
  uint64_t end = 0;
  auto first = memory_->PhysicalAddress(0x40123000, 0x40123000, 0x40124000, &end);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(*first % kLargePageSize, uint64_t{0x123000});
  EXPECT_EQ(end % kLargePageSize, 0u);
  EXPECT_GT(end, uint64_t{0x40123000});
  uint64_t same_end = 0;
  EXPECT_EQ(*memory_->PhysicalAddress(0x40124000, 0, 0, &same_end), *first + kPageSize);
  EXPECT_EQ(same_end, end);
  uint64_t count = memory_->chunk_count();
  auto other = memory_->PhysicalAddress(end, end, end + kPageSize, &end);
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(memory_->chunk_count(), count + 1);
}

TEST_F(GuestMemoryTest, LargeMappingsGetLargeChunks) {
  uint64_t base = uint64_t{1} << 40, end = 0;
  ASSERT_TRUE(memory_->PhysicalAddress(base, base, base + (uint64_t{1} << 30), &end).ok());
  EXPECT_EQ(end, base + (uint64_t{64} << 20));
}

TEST_F(GuestMemoryTest, ChunksBetweenChunks) {
  uint64_t base = uint64_t{2} << 40, end = 0;
  ASSERT_TRUE(memory_->PhysicalAddress(base, base, base + kPageSize, &end).ok());
  uint64_t low_end = end;
  uint64_t high = base + (uint64_t{32} << 20);
  ASSERT_TRUE(memory_->PhysicalAddress(high, high, high + kPageSize, &end).ok());
  // All of 64 MiB is one mapping, but ends of it are taken.
  for (uint64_t va = low_end; va < high; va = end) {
    ASSERT_TRUE(memory_->PhysicalAddress(va, base, base + (uint64_t{64} << 20), &end).ok());
    ASSERT_GT(end, va);
    ASSERT_LE(end, high);
  }
}

TEST_F(GuestMemoryTest, GuestSeesWhatTheHostWrites) {
  Registers registers = Program({0x48, 0x8b, 0x07, 0x48, 0x89, 0x47, 0x08, 0x0f, 0x05});
  MapGuest(kData, kPageSize, PROT_READ | PROT_WRITE);
  uint64_t value = 0xfeedface;
  ASSERT_EQ(memory_->CopyOut(GuestAddr(kData), value), 0);
  registers.rdi = kData;
  ASSERT_EQ(vcpu_->Run(registers).kind, VcpuExit::Kind::kSystemCall);
  uint64_t copied = 0;
  ASSERT_EQ(memory_->CopyIn(&copied, GuestAddr(kData + 8)), 0);
  EXPECT_EQ(copied, value);
  EXPECT_EQ(registers.rax, value);
}

}  // namespace
}  // namespace km
