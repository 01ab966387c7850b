// variants: dynamic static musl
// Reading and writing regular files: offsets, positions, vectors, append, truncate, open's flags,
// errors.
#include <sys/stat.h>
#include <sys/uio.h>

#include "tests/guest/guest.h"

static void Basics(void) {
  int fd = PatternFile("file", 10000);
  uint8_t bytes[300];
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 10000);
  CHECK_EQ(read(fd, bytes, 10), 0);
  CHECK_EQ(lseek(fd, 5000, SEEK_SET), 5000);
  CHECK_EQ(read(fd, bytes, 300), 300);
  for (size_t i = 0; i < 300; i++) CHECK_EQ(bytes[i], PatternByte(5000 + i));
  CHECK_EQ(lseek(fd, -100, SEEK_END), 9900);
  GuestSnapshot();
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 9900);
  CHECK_EQ(read(fd, bytes, 300), 100);  // short at the end
  CHECK_EQ(read(fd, bytes, 300), 0);
  CHECK_EQ(pread(fd, bytes, 5, 77), 5);
  CHECK_EQ(bytes[0], PatternByte(77));
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 10000);
  CHECK_EQ(pwrite(fd, "abc", 3, 20000), 3);  // leaves a hole
  struct stat status;
  CHECK_OK(fstat(fd, &status));
  CHECK_EQ(status.st_size, 20003);
  CHECK_EQ(pread(fd, bytes, 1, 15000), 1);
  CHECK_EQ(bytes[0], 0);
  CHECK_ERRNO(lseek(fd, -1, SEEK_SET), EINVAL);
  CHECK_ERRNO(lseek(fd, 0, 99), EINVAL);
  CHECK_ERRNO(pread(fd, bytes, 1, -1), EINVAL);
  CHECK_EQ(read(fd, NULL, 0), 0);
  CHECK_OK(close(fd));
  CHECK_ERRNO(close(fd), EBADF);
  CHECK_ERRNO(read(fd, bytes, 1), EBADF);
  CHECK_ERRNO(write(-1, bytes, 1), EBADF);
  Say("basics");
}

static void Vectors(void) {
  int fd = open("vectors", O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK_OK(fd);
  char one[3] = "One", two[5] = "Two!!", three[1] = "3";
  struct iovec parts[4] = {{one, 3}, {NULL, 0}, {two, 5}, {three, 1}};
  CHECK_EQ(writev(fd, parts, 4), 9);
  CHECK_EQ(pwritev(fd, parts, 1, 100), 3);
  CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
  char a[4] = "", b[6] = "";
  struct iovec into[2] = {{a, 4}, {b, 5}};
  CHECK_EQ(readv(fd, into, 2), 9);
  CHECK(memcmp(a, "OneT", 4) == 0 && memcmp(b, "wo!!3", 5) == 0);
  CHECK_EQ(preadv(fd, into, 2, 98), 5);
  CHECK(memcmp(a, "\0\0On", 4) == 0 && b[0] == 'e');
  CHECK_EQ(readv(fd, into, 0), 0);
  CHECK_ERRNO(syscall(SYS_readv, fd, into, 1025), EINVAL);
  struct iovec huge[2] = {{a, 4}, {b, ~0ul}};
  CHECK_ERRNO(readv(fd, huge, 2), EINVAL);
  // A large transfer in one call.
  enum { kLarge = 5 << 20 };
  uint8_t* large = MapAnonymous(2 * kLarge, PROT_READ | PROT_WRITE);
  for (size_t i = 0; i < kLarge; i += 100) large[i] = (uint8_t)(i / 100);
  CHECK_EQ(pwrite(fd, large, kLarge, 0), kLarge);
  CHECK_EQ(pread(fd, large + kLarge, kLarge, 0), kLarge);
  CHECK(memcmp(large, large + kLarge, kLarge) == 0);
  CHECK_OK(munmap(large, 2 * kLarge));
  CHECK_OK(close(fd));
  Say("vectors");
}

static void Flags(void) {
  CHECK_ERRNO(open("vectors", O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
  CHECK_ERRNO(open("nothing", O_RDONLY), ENOENT);
  CHECK_ERRNO(open("file/below", O_RDONLY), ENOTDIR);
  CHECK_ERRNO(open(".", O_WRONLY), EISDIR);
  CHECK_ERRNO(open("file", O_RDONLY | O_DIRECTORY), ENOTDIR);
  int fd = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644);
  CHECK_OK(fd);
  CHECK_EQ(write(fd, "one ", 4), 4);
  CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
  GuestSnapshot();
  CHECK_EQ(write(fd, "two", 3), 3);  // at the end, not at 0
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 7);
  CHECK_EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
  char bytes[8] = "";
  CHECK_ERRNO(read(fd, bytes, 1), EBADF);
  int reader = open("log", O_RDONLY);
  CHECK_OK(reader);
  CHECK_EQ(read(reader, bytes, 8), 7);
  CHECK(memcmp(bytes, "one two", 7) == 0);
  CHECK_ERRNO(write(reader, bytes, 1), EBADF);
  int truncated = open("log", O_RDWR | O_TRUNC);
  CHECK_OK(truncated);
  CHECK_EQ(lseek(truncated, 0, SEEK_END), 0);
  CHECK_OK(ftruncate(truncated, 50));
  CHECK_EQ(pread(truncated, bytes, 1, 49), 1);
  CHECK_EQ(bytes[0], 0);
  CHECK_OK(truncate("log", 3));
  CHECK_EQ(lseek(truncated, 0, SEEK_END), 3);
  CHECK_ERRNO(ftruncate(reader, 1), EINVAL);
  CHECK_ERRNO(truncate("log", -1), EINVAL);
  CHECK_OK(fsync(truncated));
  CHECK_OK(fdatasync(truncated));
  CHECK_OK(close(fd) | close(reader) | close(truncated));
  Say("flags");
}

int main(void) {
  Basics();
  Vectors();
  Flags();
  return 0;
}
