// System calls given bad pointers say EFAULT (or do as much as they can), and harm nothing.
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "tests/guest/fault.h"

// `user` says whether the address is one that a program could have: of a vector of buffers Linux
// looks at that before it moves any byte.
static void Check(void* bad, bool user, const char* what) {
  int fd = PatternFile("file", 2 * kPage);
  struct stat status;
  sigset_t set;
  CHECK_ERRNO(pread(fd, bad, 16, 0), EFAULT);
  CHECK_ERRNO(pwrite(fd, bad, 16, 0), EFAULT);
  CHECK_ERRNO(syscall(SYS_open, bad, O_RDONLY), EFAULT);
  CHECK_ERRNO(syscall(SYS_openat, AT_FDCWD, bad, O_RDONLY), EFAULT);
  CHECK_ERRNO(syscall(SYS_fstat, fd, bad), EFAULT);
  CHECK_ERRNO(syscall(SYS_nanosleep, bad, NULL), EFAULT);
  CHECK_ERRNO(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, bad), EFAULT);
  CHECK_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, bad, NULL, 8), EFAULT);
  CHECK_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, bad, NULL, 8), EFAULT);
  CHECK_ERRNO(syscall(SYS_rt_sigpending, bad, 8), EFAULT);
  CHECK_ERRNO(syscall(SYS_sigaltstack, bad, NULL), EFAULT);
  CHECK_ERRNO(syscall(SYS_getcwd, bad, 100), EFAULT);
  CHECK_ERRNO(syscall(SYS_pipe2, bad, 0), EFAULT);
  CHECK_ERRNO(syscall(SYS_poll, bad, 1, 0), EFAULT);
  CHECK_ERRNO(syscall(SYS_readv, fd, bad, 1), EFAULT);
  CHECK_ERRNO(syscall(SYS_uname, bad), EFAULT);
  CHECK_ERRNO(syscall(SYS_futex, bad, kFutexWait, 0, NULL, NULL, 0), EFAULT);
  CHECK_ERRNO(syscall(SYS_readlink, "/proc/self/exe", bad, 100), EFAULT);
  struct iovec parts[2] = {{&status, 8}, {bad, 8}};
  if (user) {
    CHECK_EQ(preadv(fd, parts, 2, 0), 8);  // the good part is done
  } else {
    CHECK_ERRNO(preadv(fd, parts, 2, 0), EFAULT);
  }
  CHECK_EQ(stat("file", &status), 0);
  CHECK_EQ(sigprocmask(SIG_BLOCK, NULL, &set), 0);
  CHECK_EQ(sigismember(&set, SIGUSR1), 0);
  CHECK_OK(close(fd));
  Say("%s", what);
}

int main(void) {
  CatchFaults();
  uint8_t* area = MapAnonymous(3 * kPage, PROT_READ | PROT_WRITE);
  CHECK_OK(munmap(area + kPage, kPage));
  Check(area + kPage, true, "unmapped");
  Check((void*)8, true, "near null");
  Check((void*)0xffffffffff600000, false, "kernel half");
  Check((void*)0x8000000000000000, false, "not canonical");
  CHECK_OK(mmap(area + kPage, kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
  Check(area + kPage, true, "no access");

  // Across the edge of a mapping: regular files give the part that fits; paths and structures do
  // not.
  int fd = PatternFile("file", 2 * kPage);
  CHECK_EQ(pread(fd, area + kPage - 100, 200, 0), 100);
  for (int i = 0; i < 100; i++) CHECK_EQ(area[kPage - 100 + i], PatternByte((size_t)i));
  CHECK_EQ(pwrite(fd, area + kPage - 60, 100, 0), 60);
  memcpy(area + kPage - 4, "file", 4);  // no NUL before the edge
  CHECK_ERRNO(open((char*)area + kPage - 4, O_RDONLY), EFAULT);
  memcpy(area + kPage - 5, "file", 5);
  int second = open((char*)area + kPage - 5, O_RDONLY);
  CHECK_OK(second);
  CHECK_ERRNO(syscall(SYS_nanosleep, area + kPage - 8, NULL), EFAULT);
  // Read-only memory: a system call may read it but not write it, and its contents stay.
  CHECK_OK(mprotect(area, kPage, PROT_READ));
  CHECK_ERRNO(pread(fd, area, 16, 0), EFAULT);
  CHECK_EQ(pwrite(fd, area, 16, 0), 16);
  CHECK_ERRNO(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, area), EFAULT);
  CHECK_EQ(area[0], 0);
  GuestSnapshot();
  CHECK_ERRNO(pread(fd, area, 16, 0), EFAULT);
  CHECK_ERRNO(pread(fd, area + kPage, 16, 0), EFAULT);
  Say("edges");
  return 0;
}
