// variants: static
// After MADV_DONTNEED a written page of a private file mapping shows the file's bytes again.
#include "tests/guest/stale.h"

static uint8_t* page;

static void Grant(unsigned round) { page[0] = (uint8_t)(round & ~1u); }
static void Revoke(unsigned round) {
  (void)round;
  CHECK_OK(madvise(page, kPage, MADV_DONTNEED));
}
static long Access(void) { return TryRead(page); }
static long Granted(unsigned round) { return (uint8_t)(round & ~1u); }
static long Revoked(unsigned round) {
  (void)round;
  return PatternByte(2 * kPage);
}

int main(void) {
  int fd = PatternFile("file", 3 * kPage);
  page = mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 2 * kPage);
  CHECK_OK(page);
  CHECK_EQ(PatternByte(2 * kPage) % 2, 1);
  return RunStale(&(struct StaleRow){Grant, Revoke, Access, Granted, Revoked});
}
