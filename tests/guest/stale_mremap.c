// variants: static
// A page moved away by mremap is not seen at its old address, and is all there at the new one.
#include "tests/guest/stale.h"

static uint8_t *page, *elsewhere;

static void Grant(unsigned round) {
  if (round > 1) {
    CHECK_OK(mremap(elsewhere, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, page));
    CHECK_EQ(page[0], (uint8_t)(round - 1));
  }
  page[0] = (uint8_t)round;
}
static void Revoke(unsigned round) {
  uint8_t* got = mremap(page, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere);
  CHECK_OK(got);
  CHECK_EQ((uintptr_t)got, (uintptr_t)elsewhere);
  CHECK_EQ(elsewhere[0], (uint8_t)round);
}
static long Access(void) { return TryRead(page); }
static long Granted(unsigned round) { return (uint8_t)round; }
static long Revoked(unsigned round) {
  (void)round;
  return -1;
}

int main(void) {
  uint8_t* area = MapAnonymous(8 * kPage, PROT_READ | PROT_WRITE);
  page = area + kPage;
  elsewhere = area + 5 * kPage;
  CHECK_OK(munmap(elsewhere, kPage));
  return RunStale(&(struct StaleRow){Grant, Revoke, Access, Granted, Revoked});
}
