// Memory in a snapshot: every kind of mapping with its contents and rights, zero pages and
// untouched ones, large and small, and all of it still works as it should afterwards.
#include "tests/guest/fault.h"

enum { kLarge = 24 << 20 };

static uint8_t *large, *sparse, *shared, *private_file, *shared_file, *none, *code, *grown, *moved,
    *brk_page;

static uint32_t Word(size_t index) { return (uint32_t)(index * 2654435761u) | 1; }

static void Make(void) {
  large = MapAnonymous(kLarge, PROT_READ | PROT_WRITE);  // 2 MiB pieces and a rest
  for (size_t i = 0; i < kLarge / 4; i++) ((uint32_t*)large)[i] = Word(i);
  sparse = MapAnonymous(512 * kPage,
                        PROT_READ | PROT_WRITE);  // every third page; some written with zeros
  for (size_t i = 0; i < 512; i++) {
    if (i % 3 == 0) sparse[i * kPage + 5] = (uint8_t)(i | 1);
    if (i % 3 == 1) memset(sparse + i * kPage, 0, kPage);
  }
  shared = mmap(NULL, 8 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(shared);
  memset(shared + 3 * kPage, 0x5e, kPage);
  int fd = PatternFile("file", 10 * kPage);
  private_file = mmap(NULL, 10 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  shared_file = mmap(NULL, 10 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK_OK(private_file);
  CHECK_OK(shared_file);
  memset(private_file + 4 * kPage, 0, kPage);  // zeros that differ from the file
  private_file[6 * kPage] = 0xf1;
  shared_file[8 * kPage] = 0xf2;
  CHECK_OK(close(fd));
  none = MapAnonymous(3 * kPage, PROT_READ | PROT_WRITE);
  memset(none, 0x71, 3 * kPage);
  CHECK_OK(mprotect(none, kPage, PROT_NONE));
  CHECK_OK(mprotect(none + kPage, kPage, PROT_READ));
  code = MapAnonymous(kPage, PROT_READ | PROT_WRITE);
  PutCode(code, 1234);
  CHECK_OK(mprotect(code, kPage, PROT_READ | PROT_EXEC));
  grown = (uint8_t*)0x210000000000;  // with room below
  CHECK_OK(mmap(grown, kPage, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN, -1, 0));
  *(volatile uint8_t*)(grown - 3 * kPage) = 0x61;
  moved = MapAnonymous(4 * kPage, PROT_READ | PROT_WRITE);
  memset(moved, 0x81, 4 * kPage);
  moved = mremap(moved, 4 * kPage, 300 * kPage, MREMAP_MAYMOVE);
  CHECK_OK(moved);
  uintptr_t end = ((uintptr_t)syscall(SYS_brk, 0) + kPage - 1) & -kPage;
  CHECK_EQ(syscall(SYS_brk, end + 2 * kPage), end + 2 * kPage);
  brk_page = (uint8_t*)end;
  brk_page[kPage + 1] = 0x91;
}

static void Verify(void) {
  for (size_t i = 0; i < kLarge / 4; i++) {
    if (((uint32_t*)large)[i] != Word(i)) FAIL("large memory differs at offset 0x%zx", i * 4);
  }
  for (size_t i = 0; i < 512; i++) {
    CHECK_EQ(sparse[i * kPage + 5], i % 3 == 0 ? (uint8_t)(i | 1) : 0);
    CHECK_EQ(sparse[i * kPage + 4000], 0);
  }
  for (size_t i = 0; i < 8; i++) CHECK_EQ(shared[i * kPage + 9], i == 3 ? 0x5e : 0);
  for (size_t i = 0; i < 10 * kPage; i += 97) {
    size_t page = i / kPage;
    uint8_t file = i == 8 * kPage ? 0xf2 : PatternByte(i);
    CHECK_EQ(shared_file[i], file);
    if (i != 6 * kPage && i != 8 * kPage) CHECK_EQ(private_file[i], page == 4 ? 0 : file);
  }
  CHECK_EQ(private_file[6 * kPage], 0xf1);
  CHECK_EQ(shared_file[8 * kPage], 0xf2);
  CHECK_FAULT(TryRead(none + 1), SIGSEGV, SEGV_ACCERR, none + 1);
  CHECK_EQ(none[kPage], 0x71);
  CHECK_FAULT(TryWrite(none + kPage, 1), SIGSEGV, SEGV_ACCERR, none + kPage);
  CHECK_EQ(none[2 * kPage], 0x71);
  CHECK_EQ(TryCall(code), 1234);
  CHECK_FAULT(TryWrite(code, 1), SIGSEGV, SEGV_ACCERR, code);
  CHECK_FAULT(TryCall(large), SIGSEGV, SEGV_ACCERR, large);
  CHECK_EQ(grown[-3 * (long)kPage], 0x61);
  CHECK_EQ(moved[4 * kPage - 1], 0x81);
  CHECK_EQ(moved[4 * kPage], 0);
  CHECK_EQ(moved[300 * kPage - 1], 0);
  CHECK_EQ(brk_page[kPage + 1], 0x91);
  CHECK_EQ(syscall(SYS_brk, 0), (long)(brk_page + 2 * kPage));
}

// Changes things that only a working mapping allows, and puts them back.
static void Exercise(void) {
  CHECK_OK(mprotect(none, kPage, PROT_READ));
  CHECK_EQ(none[100], 0x71);
  CHECK_OK(mprotect(none, kPage, PROT_NONE));
  uint8_t* piece = large + 5 * kHugePage / 2;
  CHECK_OK(mprotect(piece, kPage, PROT_READ));
  CHECK_FAULT(TryWrite(piece, 1), SIGSEGV, SEGV_ACCERR, piece);
  CHECK_OK(mprotect(piece, kPage, PROT_READ | PROT_WRITE));
  CHECK_OK(madvise(sparse + 3 * kPage, kPage, MADV_DONTNEED));
  CHECK_EQ(sparse[3 * kPage + 5], 0);
  sparse[3 * kPage + 5] = 3;
  *(volatile uint8_t*)(grown - 40 * kPage) = 1;
  shared_file[9 * kPage + 1] = 0x42;
  int fd = open("file", O_RDONLY);
  uint8_t byte = 0;
  CHECK_EQ(pread(fd, &byte, 1, 9 * kPage + 1), 1);
  CHECK_EQ(byte, 0x42);
  CHECK_OK(close(fd));
  shared_file[9 * kPage + 1] = PatternByte(9 * kPage + 1);
  uint8_t* new = MapAnonymous(100 * kPage, PROT_READ | PROT_WRITE);
  for (size_t i = 0; i < 100; i++) CHECK_EQ(new[i * kPage], 0);
  memset(new, 1, 100 * kPage);
  CHECK_OK(munmap(new, 100 * kPage));
  CHECK_EQ(syscall(SYS_brk, brk_page + 3 * kPage), (long)(brk_page + 3 * kPage));
  CHECK_EQ(brk_page[2 * kPage], 0);
  CHECK_EQ(syscall(SYS_brk, brk_page + 2 * kPage), (long)(brk_page + 2 * kPage));
}

int main(void) {
  CatchFaults();
  Make();
  for (int round = 0; round < 3; round++) {
    Verify();
    GuestSnapshot();
    Verify();
    Exercise();
    Verify();
    Say("round %d", round);
  }
  return 0;
}
