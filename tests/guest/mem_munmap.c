// munmap: holes, ends, several mappings at once, nothing mapped, errors.
#include "tests/guest/fault.h"

// Mapped pages of the area as a string of digits (their first byte) and dots (SEGV_MAPERR).
static void Expect(uint8_t* area, const char* picture) {
  for (size_t i = 0; picture[i] != 0; i++) {
    long value = TryRead(area + i * kPage);
    long expected = picture[i] == '.' ? -1 : picture[i] - '0';
    if (value != expected) {
      FAIL("page %zu of \"%s\" reads %ld, expected %ld", i, picture, value, expected);
    }
    if (value == -1) CHECK_FAULT(TryRead(area + i * kPage), SIGSEGV, SEGV_MAPERR, area + i * kPage);
  }
}

int main(void) {
  CatchFaults();
  uint8_t* area = MapAnonymous(9 * kPage, PROT_READ | PROT_WRITE);
  for (int i = 0; i < 9; i++) area[i * kPage] = (uint8_t)i;
  Expect(area, "012345678");
  CHECK_OK(munmap(area + 3 * kPage, 2 * kPage));
  Expect(area, "012..5678");
  CHECK_OK(munmap(area, kPage));
  CHECK_OK(munmap(area + 8 * kPage, 1));  // rounded up
  Expect(area, ".12..567.");
  GuestSnapshot();
  Expect(area, ".12..567.");
  CHECK_OK(munmap(area + 3 * kPage, 2 * kPage));  // nothing there: not an error
  CHECK_OK(munmap(area + 2 * kPage, 4 * kPage));  // over two mappings and the hole between them
  Expect(area, ".1....67.");
  CHECK_ERRNO(munmap(area + 1, kPage), EINVAL);
  CHECK_ERRNO(munmap(area, 0), EINVAL);
  CHECK_ERRNO(munmap((void*)(1ul << 63), kPage), EINVAL);
  CHECK_ERRNO(munmap(area, ~0ul), EINVAL);
  Expect(area, ".1....67.");
  // A hole is filled again, with zeros.
  CHECK_OK(mmap(area + 2 * kPage, 4 * kPage, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
  Expect(area, ".1000067.");
  // The page behind the last byte of a file mapping goes with it.
  int fd = PatternFile("file", 3 * kPage);
  uint8_t* file = mmap(NULL, 3 * kPage, PROT_READ, MAP_PRIVATE, fd, 0);
  CHECK_OK(file);
  CHECK_OK(munmap(file + kPage, kPage));
  CHECK_EQ(file[2 * kPage + 5], PatternByte(2 * kPage + 5));
  CHECK_FAULT(TryRead(file + kPage + 5), SIGSEGV, SEGV_MAPERR, file + kPage + 5);
  // Large: 64 MiB touched here and there, gone at once.
  uint8_t* large = MapAnonymous(64ul << 20, PROT_READ | PROT_WRITE);
  for (size_t offset = 0; offset < 64ul << 20; offset += 1ul << 20) large[offset] = 1;
  CHECK_OK(munmap(large, 64ul << 20));
  for (size_t offset = 0; offset < 64ul << 20; offset += 16ul << 20) {
    CHECK_FAULT(TryWrite(large + offset, 1), SIGSEGV, SEGV_MAPERR, large + offset);
  }
  Say("munmap");
  return 0;
}
