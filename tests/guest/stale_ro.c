// variants: static
// A writable page that becomes read-only is not written again, by the program or by a system call.
#include "tests/guest/stale.h"

static uint8_t* page;
static int zero_fd;

static void Grant(unsigned round) {
  (void)round;
  CHECK_OK(mprotect(page, kPage, PROT_READ | PROT_WRITE));
  page[1] = 0x77;
}
static void Revoke(unsigned round) {
  CHECK_OK(mprotect(page, kPage, PROT_READ));
  if (round % 16 == 0) CHECK_ERRNO(pread(zero_fd, page + 1, 1, 0), EFAULT);
  CHECK_EQ(page[1], 0x77);
}
static long Access(void) { return TryWrite(page, 0x5a); }
static long Granted(unsigned round) {
  (void)round;
  return 0;
}
static long Revoked(unsigned round) {
  (void)round;
  return -1;
}

int main(void) {
  page = MapAnonymous(kPage, PROT_NONE);
  zero_fd = PatternFile("bytes", 16);
  return RunStale(&(struct StaleRow){Grant, Revoke, Access, Granted, Revoked});
}
