// variants: static
// An executable page that becomes non-executable is not executed again.
#include "tests/guest/stale.h"

static uint8_t* page;

static void Grant(unsigned round) {
  CHECK_OK(mprotect(page, kPage, PROT_READ | PROT_WRITE));
  PutCode(page, (int)round);
  CHECK_OK(mprotect(page, kPage, PROT_READ | PROT_EXEC));
}
static void Revoke(unsigned round) {
  (void)round;
  CHECK_OK(mprotect(page, kPage, PROT_READ));
}
static long Access(void) { return TryCall(page); }
static long Granted(unsigned round) { return round; }
static long Revoked(unsigned round) {
  (void)round;
  return -1;
}

int main(void) {
  page = MapAnonymous(kPage, PROT_NONE);
  return RunStale(&(struct StaleRow){Grant, Revoke, Access, Granted, Revoked});
}
