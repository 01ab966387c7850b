// variants: static
// Memory and page tables of an unmapped 2 MiB region are reused elsewhere: the old address never
// shows what now lives at the other one.
#include "tests/guest/stale.h"

enum { kPlaces = 16, kSecret = 0xee };

static uint8_t* window;         // kPlaces regions of 2 MiB, all unmapped at first
static uint8_t* volatile page;  // where the hammer looks
static uint8_t* secret;

static uint8_t* MapRegion(uint8_t* address, uint8_t value) {
  void* got = mmap(address, kHugePage, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  CHECK_OK(got);
  CHECK_EQ((uintptr_t)got, (uintptr_t)address);
  for (size_t offset = 0; offset < kHugePage; offset += kHugePage / 4) {
    CHECK_EQ(address[offset], 0);
    address[offset] = value;
  }
  return address;
}

static void Grant(unsigned round) {
  if (secret != NULL) CHECK_OK(munmap(secret, kHugePage));
  page = MapRegion(window + round % 2 * kHugePage, (uint8_t)(round & 0x7f));
}
static void Revoke(unsigned round) {
  CHECK_OK(munmap(page, kHugePage));
  secret = MapRegion(window + (2 + round % (kPlaces - 2)) * kHugePage, kSecret);
}
static long Access(void) { return TryRead(page); }
static long Granted(unsigned round) { return round & 0x7f; }
static long Revoked(unsigned round) {
  (void)round;
  return -1;
}

int main(void) {
  window = (uint8_t*)0x200000000000;  // far from where the kernel places anything by itself
  page = window;
  return RunStale(&(struct StaleRow){Grant, Revoke, Access, Granted, Revoked});
}
