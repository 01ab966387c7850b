// madvise: DONTNEED on anonymous, private file, shared memory; advice that changes nothing; errors.
#include "tests/guest/fault.h"

int main(void) {
  CatchFaults();
  uint8_t* memory = MapAnonymous(6 * kPage, PROT_READ | PROT_WRITE);
  memset(memory, 0x31, 6 * kPage);
  CHECK_OK(madvise(memory + kPage, 2 * kPage, MADV_DONTNEED));
  CHECK_EQ(memory[kPage - 1], 0x31);
  for (size_t i = kPage; i < 3 * kPage; i++) CHECK_EQ(memory[i], 0);
  CHECK_EQ(memory[3 * kPage], 0x31);
  memory[kPage] = 0x32;
  GuestSnapshot();
  // In a resumed process the memory comes from the snapshot: DONTNEED still has to give zeros.
  CHECK_EQ(memory[kPage], 0x32);
  CHECK_EQ(memory[kPage + 1], 0);
  CHECK_EQ(memory[3 * kPage], 0x31);
  CHECK_OK(madvise(memory, 4 * kPage, MADV_DONTNEED));
  for (size_t i = 0; i < 4 * kPage; i++) CHECK_EQ(memory[i], 0);
  CHECK_EQ(memory[4 * kPage], 0x31);
  // Only readable: DONTNEED works all the same, and the rights stay.
  CHECK_OK(mprotect(memory + 4 * kPage, kPage, PROT_READ));
  CHECK_OK(madvise(memory + 4 * kPage, kPage, MADV_DONTNEED));
  CHECK_EQ(memory[4 * kPage], 0);
  CHECK_FAULT(TryWrite(memory + 4 * kPage, 1), SIGSEGV, SEGV_ACCERR, memory + 4 * kPage);
  Say("anonymous");

  int fd = PatternFile("file", 4 * kPage);
  uint8_t* file = mmap(NULL, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  CHECK_OK(file);
  memset(file, 0xdd, 3 * kPage);
  CHECK_OK(madvise(file + kPage, kPage, MADV_DONTNEED));
  CHECK_EQ(file[0], 0xdd);
  for (size_t i = kPage; i < 2 * kPage; i++) CHECK_EQ(file[i], PatternByte(i));
  CHECK_EQ(file[2 * kPage], 0xdd);
  GuestSnapshot();
  CHECK_EQ(file[0], 0xdd);
  CHECK_EQ(file[kPage], PatternByte(kPage));
  CHECK_EQ(file[3 * kPage], PatternByte(3 * kPage));
  CHECK_OK(madvise(file, kPage, MADV_DONTNEED));  // the file's byte, not the snapshot's
  CHECK_EQ(file[0], PatternByte(0));
  CHECK_EQ(file[kPage - 1], PatternByte(kPage - 1));
  Say("private file");

  uint8_t* shared = mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(shared);
  shared[0] = 0x51;
  CHECK_OK(madvise(shared, kPage, MADV_DONTNEED));
  CHECK_EQ(shared[0], 0x51);  // shared memory keeps its contents
  GuestSnapshot();
  CHECK_OK(madvise(shared, kPage, MADV_DONTNEED));
  CHECK_EQ(shared[0], 0x51);
  Say("shared");

  memset(memory, 0x41, 4 * kPage);
  int harmless[] = {MADV_NORMAL,   MADV_RANDOM,   MADV_SEQUENTIAL,
                    MADV_WILLNEED, MADV_DONTFORK, MADV_DOFORK};
  for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) {
    CHECK_OK(madvise(memory, 4 * kPage, harmless[i]));
    CHECK_EQ(memory[kPage], 0x41);
  }
  CHECK_OK(madvise(memory, kPage, MADV_FREE));
  long value = TryRead(memory);
  CHECK(value == 0x41 || value == 0);
  memory[0] = 0x42;
  CHECK_EQ(memory[0], 0x42);
  CHECK_ERRNO(madvise(memory + 1, kPage, MADV_DONTNEED), EINVAL);
  CHECK_ERRNO(madvise(memory, kPage, 12345), EINVAL);
  CHECK_ZERO(madvise(memory, 0, MADV_DONTNEED));
  CHECK_OK(munmap(memory + kPage, kPage));
  CHECK_ERRNO(madvise(memory, 3 * kPage, MADV_DONTNEED), ENOMEM);
  CHECK_EQ(memory[2 * kPage], 0);  // the rest was done
  Say("advice");
  return 0;
}
