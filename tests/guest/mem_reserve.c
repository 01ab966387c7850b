// Reservations far beyond memory cost nothing until touched: 1 TiB NORESERVE, touched sparsely.
#include "tests/guest/fault.h"

static const size_t kSize = 1ul << 40;

static size_t Place(size_t i) { return i * 0x9e3779b97f4a7c15ul % kSize & -8ul; }

int main(void) {
  CatchFaults();
  uint8_t* area =
      mmap(NULL, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK_OK(area);
  madvise(area, kSize, MADV_NOHUGEPAGE);  // 64 pages, not 64 huge ones
  for (size_t i = 1; i <= 64; i++) {
    CHECK_EQ(*(uint64_t*)(area + Place(i)), 0);
    *(uint64_t*)(area + Place(i)) = i;
  }
  GuestSnapshot();
  for (size_t i = 1; i <= 64; i++) CHECK_EQ(*(uint64_t*)(area + Place(i)), i);
  CHECK_EQ(area[kSize - 1], 0);
  Say("touched");
  CHECK_OK(mprotect(area, kSize / 2, PROT_NONE));
  CHECK_FAULT(TryRead(area), SIGSEGV, SEGV_ACCERR, area);
  CHECK_FAULT(TryRead(area + kSize / 2 - 1), SIGSEGV, SEGV_ACCERR, area + kSize / 2 - 1);
  CHECK_EQ(TryRead(area + kSize / 2), 0);
  CHECK_OK(munmap(area + kPage, kSize - 2 * kPage));
  CHECK_FAULT(TryRead(area + kSize / 2), SIGSEGV, SEGV_MAPERR, area + kSize / 2);
  CHECK_EQ(TryRead(area + kSize - 1), 0);
  uint8_t* none =
      mmap(NULL, 16 * kSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK_OK(none);
  CHECK_OK(mprotect(none + 9 * kSize, kPage, PROT_READ | PROT_WRITE));
  none[9 * kSize + 1] = 7;
  GuestSnapshot();
  CHECK_EQ(none[9 * kSize + 1], 7);
  CHECK_OK(munmap(none, 16 * kSize));
  Say("reserved");
  return 0;
}
