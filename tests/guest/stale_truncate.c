// variants: static
// A mapped file page that is truncated away gives SIGBUS at once, and zeros when the file grows
// again.
#include "tests/guest/stale.h"

static uint8_t* page;
static int fd;

static void Grant(unsigned round) {
  CHECK_OK(ftruncate(fd, 2 * kPage));
  CHECK_EQ(page[0], 0);
  page[0] = (uint8_t)(round | 1);
}
static void Revoke(unsigned round) {
  (void)round;
  CHECK_OK(ftruncate(fd, kPage));
}
static long Access(void) {
  long value = TryRead(page);
  if (value == -1 && (last_fault.signal != SIGBUS || last_fault.code != BUS_ADRERR ||
                      last_fault.address != (uintptr_t)page)) {
    return -2;
  }
  return value;
}
static long Granted(unsigned round) { return (uint8_t)(round | 1); }
static long Revoked(unsigned round) {
  (void)round;
  return -1;
}

int main(void) {
  fd = PatternFile("file", kPage);
  uint8_t* area = mmap(NULL, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK_OK(area);
  page = area + kPage;
  return RunStale(&(struct StaleRow){Grant, Revoke, Access, Granted, Revoked});
}
