// /proc/self/mem and pagemap: the program's own memory, with the kernel's errors.
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "tests/guest/guest.h"

static void Memory(const char* path) {
  int fd = open(path, O_RDWR);
  CHECK_OK(fd);
  uint8_t* page = MapAnonymous(3 * kPage, PROT_READ | PROT_WRITE);
  CHECK_OK(munmap(page + 2 * kPage, kPage));
  memset(page, 7, 2 * kPage);
  uint8_t bytes[3 * kPage];
  off_t at = (off_t)(uintptr_t)page;
  CHECK_EQ(pread(fd, bytes, 100, at), 100);
  CHECK_EQ(bytes[99], 7);
  CHECK_EQ(pwrite(fd, "abc", 3, at + 10), 3);
  CHECK_EQ(memcmp(page + 10, "abc", 3), 0);
  // As far as there is memory.
  CHECK_EQ(pread(fd, bytes, 3 * kPage, at + 100), 2 * kPage - 100);
  CHECK_EQ(pwrite(fd, bytes, 3 * kPage, at + kPage), kPage);
  CHECK_ERRNO(pread(fd, bytes, 1, at + 2 * kPage), EIO);
  CHECK_ERRNO(pwrite(fd, bytes, 1, at + 2 * kPage), EIO);
  CHECK_ERRNO(pread(fd, bytes, 1, 0), EIO);
  CHECK_EQ(pread(fd, bytes, 0, at + 2 * kPage), 0);
  CHECK_ERRNO(pread(fd, page + 2 * kPage, 1, at), EFAULT);
  CHECK_ERRNO(pwrite(fd, page + 2 * kPage, 1, at), EFAULT);
  // The position, and vectors.
  CHECK_EQ(lseek(fd, at + 10, SEEK_SET), at + 10);
  CHECK_EQ(read(fd, bytes, 2), 2);
  CHECK_EQ(memcmp(bytes, "ab", 2), 0);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), at + 12);
  CHECK_EQ(write(fd, "x", 1), 1);
  CHECK_EQ(page[12], 'x');
  CHECK_ERRNO(lseek(fd, 0, SEEK_END), EINVAL);
  struct iovec parts[] = {{bytes, 2}, {bytes + 10, 3}};
  CHECK_EQ(preadv(fd, parts, 2, at + 10), 5);
  CHECK_EQ(memcmp(bytes, "ab", 2) | memcmp(bytes + 10, "x\7\7", 3), 0);
  CHECK_EQ(pwritev(fd, parts, 2, at + 200), 5);
  CHECK_EQ(page[202], 'x');
  // Rights do not matter, and private memory stays private.
  CHECK_OK(mprotect(page, kPage, PROT_READ));
  CHECK_EQ(pwrite(fd, "ro", 2, at), 2);
  CHECK_EQ(memcmp(page, "ro", 2), 0);
  CHECK_OK(mprotect(page, kPage, PROT_NONE));
  CHECK_EQ(pread(fd, bytes, 2, at), 2);
  CHECK_EQ(memcmp(bytes, "ro", 2), 0);
  int file = PatternFile("file", kPage);
  uint8_t* mapped = mmap(NULL, 2 * kPage, PROT_READ, MAP_PRIVATE, file, 0);
  CHECK_OK(mapped);
  CHECK_EQ(pwrite(fd, "new", 3, (off_t)(uintptr_t)mapped), 3);
  CHECK_EQ(memcmp(mapped, "new", 3), 0);
  CHECK_EQ(pread(file, bytes, 3, 0), 3);
  CHECK_EQ(bytes[0], PatternByte(0));
  CHECK_ERRNO(pread(fd, bytes, 1, (off_t)(uintptr_t)mapped + (off_t)kPage), EIO);
  // What it is not good for.
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
  struct stat status;
  CHECK_OK(fstat(fd, &status));
  Say("mode %o, size %ld", status.st_mode, (long)status.st_size);
  CHECK_OK(close(fd));
  fd = open(path, O_RDONLY);
  CHECK_ERRNO(write(fd, "x", 1), EBADF);
  CHECK_OK(close(fd));
  fd = open(path, O_WRONLY);
  CHECK_ERRNO(read(fd, bytes, 1), EBADF);
  CHECK_OK(close(fd));
  CHECK_OK(munmap(page, 2 * kPage));
  CHECK_OK(munmap(mapped, 2 * kPage));
  CHECK_OK(close(file));
}

// Code that was changed this way runs.
static void Code(void) {
  static const uint8_t first[] = {0xb8, 1, 0, 0, 0, 0xc3}, second[] = {0xb8, 2, 0, 0, 0, 0xc3};
  uint8_t* code = MapAnonymous(kPage, PROT_READ | PROT_WRITE);
  memcpy(code, first, sizeof(first));
  CHECK_OK(mprotect(code, kPage, PROT_READ | PROT_EXEC));
  int (*function)(void) = (int (*)(void))(uintptr_t)code;
  CHECK_EQ(function(), 1);
  int fd = open("/proc/self/mem", O_RDWR);
  CHECK_EQ(pwrite(fd, second, sizeof(second), (off_t)(uintptr_t)code), sizeof(second));
  CHECK_EQ(function(), 2);
  CHECK_OK(close(fd));
  CHECK_OK(munmap(code, kPage));
}

static void Pagemap(void) {
  int fd = open("/proc/self/pagemap", O_RDONLY);
  CHECK_OK(fd);
  uint8_t* memory = MapAnonymous(4 * kPage, PROT_READ | PROT_WRITE);
  CHECK_OK(munmap(memory + 3 * kPage, kPage));
  memory[kPage] = 1;
  uint64_t entries[4];
  off_t at = (off_t)((uintptr_t)memory / kPage * 8);
  CHECK_EQ(pread(fd, entries, sizeof(entries), at), sizeof(entries));
  Say("present %d %d", (int)(entries[1] >> 63), (int)(entries[3] >> 63));
  CHECK_EQ(entries[1] >> 61 & 1, 0);
  CHECK_EQ(entries[3], 0);
  CHECK_ERRNO(pread(fd, entries, 8, at + 1), EINVAL);
  CHECK_ERRNO(pread(fd, entries, 7, at), EINVAL);
  CHECK_EQ(pread(fd, entries, 8, 0), 8);
  CHECK_EQ(entries[0], 0);
  CHECK_EQ(pread(fd, entries, 8, (off_t)(1ul << 60)), 0);
  CHECK_OK(close(fd));
}

int main(void) {
  Memory("/proc/self/mem");
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/task/%d/mem", getpid(), OwnTid());
  Memory(path);
  Code();
  Pagemap();
  // Open files of /proc/self live through a snapshot.
  static int number = 5;
  CHECK_OK(prctl(PR_SET_NAME, "proc_mem"));
  int mem = open("/proc/self/mem", O_RDWR), text = open("/proc/self/comm", O_RDONLY);
  char bytes[20] = {0};
  CHECK_EQ(lseek(mem, (off_t)(uintptr_t)&number, SEEK_SET), (off_t)(uintptr_t)&number);
  CHECK_EQ(read(text, bytes, 5), 5);
  GuestSnapshot();
  CHECK_EQ(read(mem, bytes, sizeof(number)), sizeof(number));
  CHECK_EQ(memcmp(bytes, &number, sizeof(number)), 0);
  CHECK_EQ(read(text, bytes, 20), 4);
  CHECK_EQ(memcmp(bytes, "mem\n", 4), 0);
  CHECK_OK(close(mem));
  CHECK_OK(close(text));
  Code();
  Pagemap();
  return 0;
}
