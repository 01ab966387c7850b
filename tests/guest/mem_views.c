// Shared anonymous memory is an object: views of it, growth beyond it, its end, the punched hole,
// also across a snapshot.
#include "tests/guest/fault.h"

static uint8_t* Shared(size_t pages) {
  uint8_t* memory =
      mmap(NULL, pages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(memory);
  return memory;
}

static void TwoViews(void) {
  uint8_t* one = Shared(8);
  for (size_t i = 0; i < 8; i++) one[i * kPage] = (uint8_t)(i + 1);
  uint8_t* two = mremap(one + 2 * kPage, 0, 6 * kPage, MREMAP_MAYMOVE);
  CHECK_OK(two);
  for (int round = 0; round < 2; round++) {
    for (size_t i = 0; i < 6; i++) CHECK_EQ(two[i * kPage], one[(i + 2) * kPage]);
    two[kPage + 9] = (uint8_t)(0x40 + round);
    CHECK_EQ(one[3 * kPage + 9], 0x40 + round);
    one[7 * kPage + 5] = (uint8_t)(0x50 + round);
    CHECK_EQ(two[5 * kPage + 5], 0x50 + round);
    if (round == 0) GuestSnapshot();
  }
  // Rights are the view's.
  CHECK_OK(mprotect(two, kPage, PROT_READ));
  CHECK_FAULT(TryWrite(two, 1), SIGSEGV, SEGV_ACCERR, two);
  one[2 * kPage] = 0x77;
  CHECK_EQ(two[0], 0x77);
  CHECK_OK(munmap(one, 8 * kPage));
  CHECK_EQ(two[5 * kPage + 5], 0x51);
  CHECK_OK(munmap(two, 6 * kPage));
  Say("two views");
}

// The mapping grows, the object does not: SIGBUS behind its end.
static void Grown(void) {
  uint8_t* memory = Shared(2);
  memset(memory, 0x21, 2 * kPage);
  memory = mremap(memory, 2 * kPage, 5 * kPage, MREMAP_MAYMOVE);
  CHECK_OK(memory);
  for (int round = 0; round < 2; round++) {
    CHECK_EQ(memory[2 * kPage - 1], 0x21);
    CHECK_FAULT(TryRead(memory + 2 * kPage), SIGBUS, BUS_ADRERR, memory + 2 * kPage);
    CHECK_FAULT(TryWrite(memory + 4 * kPage + 7, 1), SIGBUS, BUS_ADRERR, memory + 4 * kPage + 7);
    if (round == 0) GuestSnapshot();
  }
  // What was unmapped of the object comes back with the mapping.
  memory = mremap(memory, 5 * kPage, kPage, 0);
  CHECK_OK(memory);
  memory = mremap(memory, kPage, 2 * kPage, MREMAP_MAYMOVE);
  CHECK_OK(memory);
  CHECK_EQ(memory[kPage], 0x21);
  CHECK_OK(munmap(memory, 2 * kPage));
  Say("grown");
}

static void Removed(void) {
  uint8_t* memory = Shared(4);
  memset(memory, 0x31, 4 * kPage);
  CHECK_OK(madvise(memory + kPage, kPage, MADV_REMOVE));
  CHECK_EQ(memory[0], 0x31);
  CHECK_EQ(memory[kPage], 0);
  GuestSnapshot();
  CHECK_EQ(memory[kPage], 0);
  CHECK_EQ(memory[3 * kPage], 0x31);
  // Moved with MREMAP_DONTUNMAP both places show it.
  // Raw: the C library hands a flag that it does not know no address.
  uint8_t* moved = (uint8_t*)syscall(SYS_mremap, memory, 4 * kPage, 4 * kPage,
                                     MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
  CHECK_OK(moved);
  moved[0] = 0x32;
  CHECK_EQ(memory[0], 0x32);
  CHECK_OK(munmap(memory, 4 * kPage));
  CHECK_OK(munmap(moved, 4 * kPage));
  Say("removed");
}

static void Neighbours(void) {
  uint8_t* area = MapAnonymous(4 * kPage, PROT_NONE);
  for (int i = 0; i < 2; i++) {
    CHECK_OK(mmap(area + i * 2 * kPage, 2 * kPage, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
  }
  memset(area, 0x61, 4 * kPage);
  GuestSnapshot();
  // Two objects: no mremap goes over both.
  CHECK_ERRNO(mremap(area, 4 * kPage, 8 * kPage, MREMAP_MAYMOVE), EFAULT);
  CHECK_EQ(area[3 * kPage], 0x61);
  CHECK_OK(munmap(area, 4 * kPage));
  // A large sparse one costs what it holds.
  uint8_t* large = mmap(NULL, 1ul << 34, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK_OK(large);
  for (size_t i = 0; i < 8; i++) large[i << 31] = (uint8_t)(i + 1);
  GuestSnapshot();
  for (size_t i = 0; i < 8; i++) CHECK_EQ(large[i << 31], i + 1);
  CHECK_EQ(large[12345678], 0);
  CHECK_OK(munmap(large, 1ul << 34));
  Say("neighbours");
}

int main(void) {
  CatchFaults();
  TwoViews();
  Grown();
  Removed();
  Neighbours();
  return 0;
}
