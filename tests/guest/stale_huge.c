// variants: static
// One page in the middle of an aligned 4 MiB region (which may be mapped by 2 MiB entries) loses
// its rights while its neighbours keep theirs.
#include "tests/guest/stale.h"

static uint8_t* region;
static uint8_t* page;

static void Grant(unsigned round) {
  CHECK_OK(mprotect(region, 2 * kHugePage, PROT_READ | PROT_WRITE));
  page[0] = (uint8_t)round;
}
static void Revoke(unsigned round) {
  switch (round % 3) {
    case 0:
      CHECK_OK(mprotect(page, kPage, PROT_READ));
      break;
    case 1:
      CHECK_OK(mprotect(page, kPage, PROT_NONE));
      break;
    default:
      CHECK_OK(mprotect(region, 2 * kHugePage, PROT_READ));
  }
}
static long Access(void) {
  if (TryRead(page - kPage) != 0x11 || TryRead(page + kPage) != 0x22) return -2;
  return TryWrite(page + 64, 0x5a);
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
  uint8_t* area = MapAnonymous(3 * kHugePage, PROT_READ | PROT_WRITE);
  region = (uint8_t*)(((uintptr_t)area + kHugePage - 1) & -kHugePage);
  madvise(region, 2 * kHugePage, MADV_HUGEPAGE);  // advice only: the result does not matter
  memset(region, 0x33, 2 * kHugePage);
  page = region + 300 * kPage;
  memset(page - kPage, 0x11, kPage);
  memset(page + kPage, 0x22, kPage);
  return RunStale(&(struct StaleRow){Grant, Revoke, Access, Granted, Revoked});
}
