// variants: dynamic static musl
// mmap: anonymous, file, private, shared, fixed, noreplace, populate, noreserve, and its errors.
#include "tests/guest/fault.h"

static void Anonymous(void) {
  uint8_t* memory = MapAnonymous(3 * kPage, PROT_READ | PROT_WRITE);
  for (size_t i = 0; i < 3 * kPage; i++) CHECK_EQ(memory[i], 0);
  memset(memory, 0xa5, 3 * kPage);
  uint8_t* shared =
      mmap(NULL, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(shared);
  CHECK_EQ(shared[kPage], 0);
  shared[kPage] = 0x17;
  uint8_t* populated = mmap(NULL, 16 * kPage, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  CHECK_OK(populated);
  for (size_t i = 0; i < 16; i++) CHECK_EQ(populated[i * kPage + 9], 0);
  populated[15 * kPage] = 0x21;
  GuestSnapshot();
  for (size_t i = 0; i < 3 * kPage; i++) CHECK_EQ(memory[i], 0xa5);
  CHECK_EQ(shared[kPage], 0x17);
  CHECK_EQ(shared[0], 0);
  CHECK_EQ(populated[15 * kPage], 0x21);
  CHECK_EQ(populated[14 * kPage], 0);
  Say("anonymous");
}

static void File(void) {
  size_t size = 5 * kPage + 100;
  int fd = PatternFile("file", size);
  uint8_t* private_map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  uint8_t* shared_map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  uint8_t* later = mmap(NULL, kPage, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 3 * kPage);
  CHECK_OK(private_map);
  CHECK_OK(shared_map);
  CHECK_OK(later);
  for (size_t i = 0; i < size; i += 37) {
    CHECK_EQ(private_map[i], PatternByte(i));
    CHECK_EQ(shared_map[i], PatternByte(i));
  }
  for (size_t i = size; i < 6 * kPage; i++) CHECK_EQ(private_map[i], 0);  // behind the end: zeros
  CHECK_EQ(later[7], PatternByte(3 * kPage + 7));
  private_map[10] = 0xc1;    // not seen by the file
  shared_map[kPage] = 0xc2;  // seen by the file and by pages not copied yet
  uint8_t byte = 0;
  CHECK_EQ(pread(fd, &byte, 1, 10), 1);
  CHECK_EQ(byte, PatternByte(10));
  CHECK_EQ(pread(fd, &byte, 1, kPage), 1);
  CHECK_EQ(byte, 0xc2);
  byte = 0xc3;
  CHECK_EQ(pwrite(fd, &byte, 1, 2 * kPage), 1);
  CHECK_EQ(shared_map[2 * kPage], 0xc3);
  CHECK_OK(close(fd));  // the mappings stay
  GuestSnapshot();
  CHECK_EQ(private_map[10], 0xc1);
  CHECK_EQ(private_map[11], PatternByte(11));
  CHECK_EQ(shared_map[kPage], 0xc2);
  CHECK_EQ(later[7], PatternByte(3 * kPage + 7));
  shared_map[4 * kPage] = 0xc4;
  CHECK_OK(msync(shared_map, size, MS_SYNC));
  fd = open("file", O_RDONLY);
  CHECK_OK(fd);
  CHECK_EQ(pread(fd, &byte, 1, 4 * kPage), 1);
  CHECK_EQ(byte, 0xc4);
  CHECK_EQ(pread(fd, &byte, 1, 10), 1);
  CHECK_EQ(byte, PatternByte(10));
  CHECK_OK(munmap(private_map, size));
  CHECK_OK(munmap(shared_map, size));
  CHECK_OK(close(fd));
  Say("file");
}

static void Fixed(void) {
  uint8_t* area = MapAnonymous(4 * kPage, PROT_READ | PROT_WRITE);
  memset(area, 0x44, 4 * kPage);
  void* got = mmap(area + kPage, kPage, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  CHECK_EQ((uintptr_t)got, (uintptr_t)area + kPage);
  CHECK_EQ(area[kPage], 0);
  CHECK_EQ(area[kPage - 1], 0x44);
  CHECK_EQ(area[2 * kPage], 0x44);
  int noreplace = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
  CHECK_ERRNO(mmap(area, kPage, PROT_READ, noreplace, -1, 0), EEXIST);
  CHECK_ERRNO(mmap(area - kPage, 2 * kPage, PROT_READ, noreplace, -1, 0), EEXIST);
  CHECK_OK(munmap(area + 2 * kPage, kPage));
  got = mmap(area + 2 * kPage, kPage, PROT_READ, noreplace, -1, 0);
  CHECK_EQ((uintptr_t)got, (uintptr_t)area + 2 * kPage);
  CHECK_EQ(area[2 * kPage], 0);
  // A hint that is taken, and one that is free.
  got = mmap(area, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(got);
  CHECK((uintptr_t)got != (uintptr_t)area);
  void* hint = (void*)0x123400000000;
  got = mmap(hint, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_EQ((uintptr_t)got, (uintptr_t)hint);
  Say("fixed");
}

static void Errors(void) {
  int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
  CHECK_ERRNO(mmap(NULL, 0, PROT_READ, anonymous, -1, 0), EINVAL);
  CHECK_ERRNO(mmap((void*)0x10001, kPage, PROT_READ, anonymous | MAP_FIXED, -1, 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_mmap, 0, kPage, PROT_READ, MAP_PRIVATE, 0, 123), EINVAL);
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, MAP_PRIVATE, 987, 0), EBADF);
  CHECK_ERRNO(mmap(NULL, 1ul << 62, PROT_READ, anonymous | MAP_NORESERVE, -1, 0), ENOMEM);
  CHECK_ERRNO(syscall(SYS_mmap, 0, ~0ul - 100, PROT_READ, anonymous, -1, 0), ENOMEM);
  int fd = open("file", O_RDONLY);
  CHECK_OK(fd);
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
  uint8_t* map = mmap(NULL, kPage, PROT_READ, MAP_SHARED, fd, 0);
  CHECK_OK(map);
  CHECK_ERRNO(mprotect(map, kPage, PROT_READ | PROT_WRITE), EACCES);
  CHECK_OK(close(fd));
  fd = open("file", O_WRONLY);
  CHECK_OK(fd);
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, MAP_PRIVATE, fd, 0), EACCES);
  CHECK_OK(close(fd));
  Say("errors");
}

static void Many(void) {
  enum { kCount = 600 };
  static uint8_t* maps[kCount];
  for (int i = 0; i < kCount; i++) {
    maps[i] = MapAnonymous((1 + i % 5) * kPage, i % 3 == 0 ? PROT_READ : PROT_READ | PROT_WRITE);
    if (i % 3 != 0) maps[i][0] = (uint8_t)i;
  }
  for (int i = 0; i < kCount; i += 2) CHECK_OK(munmap(maps[i], (1 + i % 5) * kPage));
  GuestSnapshot();
  for (int i = 1; i < kCount; i += 2) CHECK_EQ(maps[i][0], i % 3 == 0 ? 0 : (uint8_t)i);
  Say("many");
}

int main(void) {
  CatchFaults();
  Anonymous();
  File();
  Fixed();
  Errors();
  Many();
  return 0;
}
