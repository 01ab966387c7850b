// mremap: grow in place and by moving, shrink, fixed, shared, file, errors.
#include "tests/guest/fault.h"

static void Fill(uint8_t* memory, size_t pages) {
  for (size_t i = 0; i < pages; i++) memset(memory + i * kPage, (int)i + 1, kPage);
}

static void Expect(uint8_t* memory, size_t from, size_t to) {
  for (size_t i = from; i < to; i++) {
    if (memory[i * kPage] != i + 1 || memory[i * kPage + 4095] != i + 1) {
      FAIL("page %zu holds %d, expected %zu", i, memory[i * kPage], i + 1);
    }
  }
}

static void ExpectZero(uint8_t* memory, size_t from, size_t to) {
  for (size_t i = from; i < to; i++) CHECK_EQ(memory[i * kPage + 77], 0);
}

static void Private(void) {
  uint8_t* area = MapAnonymous(16 * kPage, PROT_READ | PROT_WRITE);
  Fill(area, 16);
  uint8_t* got = mremap(area, 16 * kPage, 4 * kPage, 0);  // shrink
  CHECK_EQ((uintptr_t)got, (uintptr_t)area);
  Expect(area, 0, 4);
  CHECK_FAULT(TryRead(area + 4 * kPage), SIGSEGV, SEGV_MAPERR, area + 4 * kPage);
  got = mremap(area, 4 * kPage, 8 * kPage, 0);  // grow where it is: the room is there
  CHECK_EQ((uintptr_t)got, (uintptr_t)area);
  Expect(area, 0, 4);
  ExpectZero(area, 4, 8);
  Fill(area, 8);
  CHECK_OK(mmap(area + 8 * kPage, kPage, PROT_READ,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
  CHECK_OK(mprotect(area + 8 * kPage, kPage, PROT_NONE));
  CHECK_ERRNO(mremap(area, 8 * kPage, 9 * kPage, 0), ENOMEM);  // no room now
  Expect(area, 0, 8);
  got = mremap(area, 8 * kPage, 2000 * kPage, MREMAP_MAYMOVE);
  CHECK_OK(got);
  CHECK((uintptr_t)got != (uintptr_t)area);
  Expect(got, 0, 8);
  ExpectZero(got, 8, 2000);
  CHECK_FAULT(TryRead(area), SIGSEGV, SEGV_MAPERR, area);
  got[1999 * kPage] = 9;
  GuestSnapshot();
  Expect(got, 0, 8);
  ExpectZero(got, 8, 1999);
  CHECK_EQ(got[1999 * kPage], 9);
  CHECK_FAULT(TryRead(area), SIGSEGV, SEGV_MAPERR, area);
  CHECK_OK(munmap(got, 2000 * kPage));
  Say("private");
}

static void Fixed(void) {
  uint8_t* area = MapAnonymous(32 * kPage, PROT_READ | PROT_WRITE);
  Fill(area, 32);
  uint8_t* target = area + 20 * kPage;  // over pages that are in use
  uint8_t* got =
      mremap(area + 2 * kPage, 2 * kPage, 4 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, target);
  CHECK_EQ((uintptr_t)got, (uintptr_t)target);
  CHECK_EQ(target[0], 3);
  CHECK_EQ(target[kPage], 4);
  ExpectZero(target, 2, 4);
  Expect(area, 0, 2);
  Expect(area, 4, 20);
  Expect(area, 24, 32);
  CHECK_FAULT(TryWrite(area + 3 * kPage, 1), SIGSEGV, SEGV_MAPERR, area + 3 * kPage);
  // Rights travel with the pages.
  CHECK_OK(mprotect(target, kPage, PROT_READ));
  got = mremap(target, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, area + 2 * kPage);
  CHECK_EQ((uintptr_t)got, (uintptr_t)area + 2 * kPage);
  CHECK_EQ(area[2 * kPage], 3);
  CHECK_FAULT(TryWrite(area + 2 * kPage, 1), SIGSEGV, SEGV_ACCERR, area + 2 * kPage);
  CHECK_ERRNO(mremap(area, 4 * kPage, 4 * kPage, MREMAP_MAYMOVE | MREMAP_FIXED, area + kPage),
              EINVAL);
  CHECK_ERRNO(mremap(area, kPage, kPage, MREMAP_FIXED, target), EINVAL);
  CHECK_ERRNO(mremap(area + 1, kPage, kPage, MREMAP_MAYMOVE), EINVAL);
  CHECK_ERRNO(mremap(area, kPage, 0, 0), EINVAL);
  CHECK_ERRNO(mremap(area + 3 * kPage, kPage, 2 * kPage, MREMAP_MAYMOVE), EFAULT);
  Expect(area, 4, 20);
  Say("fixed");
}

static void Shared(void) {
  uint8_t* shared =
      mmap(NULL, 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(shared);
  Fill(shared, 4);
  // Old size zero: a second mapping of the same pages.
  uint8_t* alias = mremap(shared, 0, 4 * kPage, MREMAP_MAYMOVE);
  CHECK_OK(alias);
  CHECK((uintptr_t)alias != (uintptr_t)shared);
  Expect(alias, 0, 4);
  alias[5] = 0x99;
  CHECK_EQ(shared[5], 0x99);
  CHECK_OK(munmap(alias, 4 * kPage));
  int fd = PatternFile("file", 8 * kPage);
  uint8_t* file = mmap(NULL, 2 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, kPage);
  CHECK_OK(file);
  file[3] = 0x66;
  file = mremap(file, 2 * kPage, 6 * kPage, MREMAP_MAYMOVE);
  CHECK_OK(file);
  CHECK_EQ(file[3], 0x66);
  for (size_t i = 4; i < 6 * kPage; i += 501) CHECK_EQ(file[i], PatternByte(kPage + i));
  GuestSnapshot();
  CHECK_EQ(shared[5], 0x99);
  CHECK_EQ(file[3], 0x66);
  for (size_t i = 4; i < 6 * kPage; i += 501) CHECK_EQ(file[i], PatternByte(kPage + i));
  Say("shared");
}

int main(void) {
  CatchFaults();
  Private();
  Fixed();
  Shared();
  return 0;
}
