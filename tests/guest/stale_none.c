// variants: static
// A page that becomes PROT_NONE is neither read nor written again, and keeps its contents.
#include "tests/guest/stale.h"

static uint8_t* page;

static void Grant(unsigned round) {
  CHECK_OK(mprotect(page, kPage, PROT_READ | PROT_WRITE));
  if (round > 1) CHECK_EQ(page[0], (uint8_t)(round - 1));
  page[0] = (uint8_t)round;
}
static void Revoke(unsigned round) {
  (void)round;
  CHECK_OK(mprotect(page, kPage, PROT_NONE));
}
static long Access(void) { return TryRead(page); }
static long Granted(unsigned round) { return (uint8_t)round; }
static long Revoked(unsigned round) {
  (void)round;
  return -1;
}

int main(void) {
  page = MapAnonymous(kPage, PROT_NONE);
  return RunStale(&(struct StaleRow){Grant, Revoke, Access, Granted, Revoked});
}
