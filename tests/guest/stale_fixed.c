// variants: static
// MAP_FIXED over a page: reads see the new page, and writes go there and nowhere else.
#include "tests/guest/stale.h"

static uint8_t* page;
static int file_fd;

static void Grant(unsigned round) {
  CHECK_OK(
      mmap(page, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
  page[0] = (uint8_t)(round & ~1u);
}
static void Revoke(unsigned round) {
  int shared = round % 2 == 0 ? MAP_SHARED : MAP_PRIVATE;
  CHECK_OK(mmap(page, kPage, PROT_READ, shared | MAP_FIXED, file_fd, 0));
}
static long Access(void) { return TryRead(page); }
static long Granted(unsigned round) { return (uint8_t)(round & ~1u); }
static long Revoked(unsigned round) {
  (void)round;
  return 1;
}

int main(void) {
  file_fd = PatternFile("file", kPage);
  CHECK_EQ(PatternByte(0), 1);
  page = MapAnonymous(3 * kPage, PROT_READ | PROT_WRITE) + kPage;
  return RunStale(&(struct StaleRow){Grant, Revoke, Access, Granted, Revoked});
}
