// variants: static
// After MADV_DONTNEED an anonymous page reads as zeros at once, in every thread.
#include "tests/guest/stale.h"

static uint8_t* page;

static void Grant(unsigned round) { page[0] = (uint8_t)(round | 1); }
static void Revoke(unsigned round) {
  (void)round;
  CHECK_OK(madvise(page, kPage, MADV_DONTNEED));
}
static long Access(void) { return TryRead(page); }
static long Granted(unsigned round) { return (uint8_t)(round | 1); }
static long Revoked(unsigned round) {
  (void)round;
  return 0;
}

int main(void) {
  page = MapAnonymous(3 * kPage, PROT_READ | PROT_WRITE) + kPage;
  return RunStale(&(struct StaleRow){Grant, Revoke, Access, Granted, Revoked});
}
