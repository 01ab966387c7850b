// variants: dynamic static musl
// brk by hand: the value, growing, zeros, shrinking, refusal, and malloc's heap.
#include "tests/guest/fault.h"

static uintptr_t Brk(uintptr_t address) { return (uintptr_t)syscall(SYS_brk, address); }

int main(void) {
  CatchFaults();
  uintptr_t start = Brk(0);
  CHECK(start != 0);
  uintptr_t first_page = (start + kPage - 1) & -kPage;
  CHECK_EQ(Brk(first_page + 10 * kPage), first_page + 10 * kPage);
  uint8_t* heap = (uint8_t*)first_page;
  for (size_t i = 0; i < 10 * kPage; i++) CHECK_EQ(heap[i], 0);
  memset(heap, 0x6b, 10 * kPage);
  CHECK_EQ(Brk(first_page + 10 * kPage + 1), first_page + 10 * kPage + 1);
  CHECK_EQ(TryWrite(heap + 11 * kPage - 1, 3), 0);  // to the end of its page
  CHECK_FAULT(TryRead(heap + 11 * kPage), SIGSEGV, SEGV_MAPERR, heap + 11 * kPage);
  GuestSnapshot();
  CHECK_EQ(Brk(0), first_page + 10 * kPage + 1);
  for (size_t i = 0; i < 10 * kPage; i++) CHECK_EQ(heap[i], 0x6b);
  CHECK_EQ(heap[11 * kPage - 1], 3);
  CHECK_FAULT(TryRead(heap + 11 * kPage), SIGSEGV, SEGV_MAPERR, heap + 11 * kPage);
  CHECK_FAULT(TryCall(heap), SIGSEGV, SEGV_ACCERR, heap);
  // Below the start, or absurd: the answer is the unchanged break.
  CHECK_EQ(Brk(first_page - 64 * kPage), first_page + 10 * kPage + 1);
  CHECK_EQ(Brk(~0ul - kPage), first_page + 10 * kPage + 1);
  CHECK_EQ(Brk(first_page + 4 * kPage), first_page + 4 * kPage);
  CHECK_EQ(heap[4 * kPage - 1], 0x6b);
  CHECK_FAULT(TryRead(heap + 4 * kPage), SIGSEGV, SEGV_MAPERR, heap + 4 * kPage);
  CHECK_EQ(Brk(first_page + 8 * kPage), first_page + 8 * kPage);
  for (size_t i = 4 * kPage; i < 8 * kPage; i++) CHECK_EQ(heap[i], 0);
  // A mapping in the way stops it.
  CHECK_OK(mmap(heap + 12 * kPage, kPage, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
  CHECK_EQ(Brk(first_page + 13 * kPage), first_page + 8 * kPage);
  CHECK_OK(munmap(heap + 12 * kPage, kPage));
  CHECK_EQ(Brk(start + 32 * kHugePage), start + 32 * kHugePage);
  ((uint8_t*)start)[32 * kHugePage - 1] = 1;
  CHECK_EQ(Brk(start), start);
  Say("brk");

  enum { kBlocks = 2000 };
  static char* blocks[kBlocks];
  for (int i = 0; i < kBlocks; i++) {
    size_t size = 1 + (size_t)i * 37 % 5000;
    blocks[i] = malloc(size);
    CHECK(blocks[i] != NULL);
    memset(blocks[i], i & 0xff, size);
  }
  GuestSnapshot();
  for (int i = 0; i < kBlocks; i++) {
    size_t size = 1 + (size_t)i * 37 % 5000;
    CHECK_EQ((uint8_t)blocks[i][0], i & 0xff);
    CHECK_EQ((uint8_t)blocks[i][size - 1], i & 0xff);
    if (i % 2 == 0) free(blocks[i]);
  }
  void* large = calloc(1, 40 << 20);
  CHECK(large != NULL);
  CHECK_EQ(((char*)large)[39 << 20], 0);
  free(large);
  Say("malloc");
  return 0;
}
