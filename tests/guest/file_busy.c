// variants: dynamic static
// The file that a program runs from is not written to: ETXTBSY, and nothing of it is lost.
#include <sys/stat.h>

#include "tests/guest/guest.h"

static off_t SizeOf(const char* path) {
  struct stat status;
  CHECK_OK(stat(path, &status));
  return status.st_size;
}

static void Refused(const char* path) {
  off_t size = SizeOf(path);
  CHECK_ERRNO(open(path, O_WRONLY), ETXTBSY);
  CHECK_ERRNO(open(path, O_RDWR), ETXTBSY);
  CHECK_ERRNO(open(path, O_WRONLY | O_APPEND), ETXTBSY);
  CHECK_ERRNO(open(path, O_WRONLY | O_CREAT, 0600), ETXTBSY);
  CHECK_EQ(SizeOf(path), size);
  CHECK_ERRNO(open(path, O_RDWR | O_TRUNC), ETXTBSY);
  CHECK_EQ(SizeOf(path), size);
  CHECK_ERRNO(open(path, O_RDONLY | O_TRUNC), ETXTBSY);
  CHECK_EQ(SizeOf(path), size);
  CHECK_ERRNO(creat(path, 0600), ETXTBSY);
  CHECK_EQ(SizeOf(path), size);
  CHECK_ERRNO(truncate(path, 1), ETXTBSY);
  CHECK_EQ(SizeOf(path), size);
}

static void OfDescriptor(const char* own) {
  int fd = open(own, O_RDONLY);
  CHECK_OK(fd);
  char name[64];
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  off_t size = SizeOf(own);
  CHECK_ERRNO(open(name, O_WRONLY | O_TRUNC), ETXTBSY);
  CHECK_EQ(SizeOf(own), size);
  CHECK_ERRNO(ftruncate(fd, 1), EINVAL);  // not open for writing
  CHECK_EQ(SizeOf(own), size);
  CHECK_OK(close(fd));
}

int main(void) {
  char own[4096];
  ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
  CHECK(length > 0);
  own[length] = 0;
  for (int round = 0; round < 2; round++) {
    Refused("/proc/self/exe");
    Refused(own);
    OfDescriptor(own);
    unlink("link");
    CHECK_OK(symlink(own, "link"));
    Refused("link");
    int fd = open(own, O_RDONLY);  // reading is as ever
    CHECK_OK(fd);
    CHECK_OK(close(fd));
    // Another file of the same contents is free.
    CHECK_OK(close(open("other", O_WRONLY | O_CREAT | O_TRUNC, 0600)));
    if (round == 0) GuestSnapshot();
  }
  Say("busy");
  return 0;
}
