// variants: static
// A read-only page that becomes writable: the other thread, which has been reading it all the time,
// can write as soon as mprotect has returned, and no signal comes.
#include "tests/guest/stale.h"

static uint8_t* page;
static int file_fd;

// A fresh page each time (anonymous, private file, shared file), read before it is upgraded.
static void Revoke(unsigned round) {
  int flags[3] = {MAP_PRIVATE | MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED};
  int kind = flags[round % 3];
  CHECK_OK(mmap(page, kPage, PROT_READ, kind | MAP_FIXED, kind & MAP_ANONYMOUS ? -1 : file_fd, 0));
}
static void Grant(unsigned round) {
  (void)round;
  CHECK_OK(mprotect(page, kPage, PROT_READ | PROT_WRITE));
}
static long Access(void) {
  if (TryRead(page) == -1) return -2;  // reading is allowed throughout
  return TryWrite(page + 1, 0x33);
}
static long Granted(unsigned round) {
  (void)round;
  return 0;
}
static long Revoked(unsigned round) {
  (void)round;
  return -1;
}

int main(void) {
  page = MapAnonymous(kPage, PROT_READ);
  file_fd = PatternFile("file", kPage);
  return RunStale(&(struct StaleRow){Grant, Revoke, Access, Granted, Revoked});
}
