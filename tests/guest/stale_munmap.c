// variants: static
// An unmapped page is not read again.
#include "tests/guest/stale.h"

static uint8_t* page;

static void Grant(unsigned round) {
  void* got = mmap(page, kPage, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  CHECK_OK(got);
  CHECK_EQ((uintptr_t)got, (uintptr_t)page);
  CHECK_EQ(page[0], 0);
  page[0] = (uint8_t)(round | 1);
}
static void Revoke(unsigned round) {
  (void)round;
  CHECK_OK(munmap(page, kPage));
}
// Zero (not yet written) is possible only while the epoch changes.
static long Access(void) { return TryRead(page); }
static long Granted(unsigned round) { return (uint8_t)(round | 1); }
static long Revoked(unsigned round) {
  (void)round;
  return -1;
}

int main(void) {
  uint8_t* area = MapAnonymous(3 * kPage, PROT_READ);  // neighbours that stay
  page = area + kPage;
  CHECK_OK(munmap(page, kPage));
  return RunStale(&(struct StaleRow){Grant, Revoke, Access, Granted, Revoked});
}
