// Blocks that grow by turns, so that each growth moves one: as vectors and strings of large
// programs do.
#include "tests/guest/guest.h"

enum { kBlocks = 3, kRounds = 40 };

static uint8_t Byte(int block, size_t at) {
  return (uint8_t)(block * 31 + at / 4096 * 7 + at % 251);
}

static void Check(int block, const uint8_t* bytes, size_t size) {
  for (size_t i = 0; i < size; i += 509) {
    if (bytes[i] != Byte(block, i)) FAIL("block %d: byte %zu is %d", block, i, bytes[i]);
  }
}

static void Grow(int block, uint8_t** bytes, size_t* size, size_t by) {
  uint8_t* grown = realloc(*bytes, *size + by);
  if (grown == NULL) FAIL("no %zu bytes for block %d", *size + by, block);
  Check(block, grown, *size);
  for (size_t i = *size; i < *size + by; i++) grown[i] = Byte(block, i);
  *bytes = grown;
  *size += by;
}

int main(void) {
  uint8_t* blocks[kBlocks] = {NULL};
  size_t sizes[kBlocks] = {0};
  for (int round = 0; round < kRounds; round++) {
    for (int block = 0; block < kBlocks; block++) {
      Grow(block, &blocks[block], &sizes[block],
           (size_t)(128 << 10) + (size_t)(block * round) * 512);
    }
    if (round == kRounds / 2) GuestSnapshot();
  }
  for (int block = 0; block < kBlocks; block++) Check(block, blocks[block], sizes[block]);
  // The same with the kernel's own call, page by page.
  uint8_t* area = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(area);
  area[0] = 1;
  for (size_t pages = 1; pages < 300; pages++) {
    // Something is behind it, or now is.
    (void)mmap(area + pages * 4096, 4096, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    uint8_t* moved = mremap(area, pages * 4096, (pages + 1) * 4096, MREMAP_MAYMOVE);
    CHECK_OK(moved);
    CHECK(moved != area);
    CHECK_EQ(moved[pages * 4096], 0);
    CHECK_EQ(moved[(pages - 1) * 4096], (uint8_t)pages);
    moved[pages * 4096] = (uint8_t)(pages + 1);
    area = moved;
  }
  GuestSnapshot();
  for (size_t page = 0; page < 300; page++) CHECK_EQ(area[page * 4096], (uint8_t)(page + 1));
  Say("realloc");
  return 0;
}
