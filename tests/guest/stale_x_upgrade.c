// variants: static
// A non-executable page that becomes executable: the other thread, which has been reading it all
// the time, can execute it as soon as mprotect has returned, and sees the newest code.
#include "tests/guest/stale.h"

static uint8_t* page;

static void Revoke(unsigned round) {
  CHECK_OK(
      mmap(page, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
  PutCode(page, (int)round + 1);
}
static void Grant(unsigned round) {
  (void)round;
  CHECK_OK(mprotect(page, kPage, PROT_READ | PROT_EXEC));
}
static long Access(void) {
  if (TryRead(page) == -1) return -2;
  return TryCall(page);
}
static long Granted(unsigned round) { return round; }
static long Revoked(unsigned round) {
  (void)round;
  return -1;
}

int main(void) {
  page = MapAnonymous(kPage, PROT_READ | PROT_WRITE);
  PutCode(page, 1);
  return RunStale(&(struct StaleRow){Grant, Revoke, Access, Granted, Revoked});
}
