// variants: dynamic static musl
// Descriptors: lowest free number, dup and friends share the offset, fcntl, limits, close_range,
// pipes, poll.
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

static void Duplicates(void) {
  int fd = PatternFile("file", 1000);
  CHECK_EQ(fd, 3);  // the lowest free
  int copy = dup(fd);
  CHECK_EQ(copy, 4);
  CHECK_EQ(lseek(fd, 123, SEEK_SET), 123);
  CHECK_EQ(lseek(copy, 0, SEEK_CUR), 123);  // one offset
  CHECK_EQ(dup2(fd, 20), 20);
  CHECK_EQ(dup2(fd, fd), fd);
  CHECK_EQ(dup3(fd, 21, O_CLOEXEC), 21);
  CHECK_ERRNO(dup3(fd, fd, 0), EINVAL);
  CHECK_ERRNO(dup2(99, 5), EBADF);
  CHECK_EQ(fcntl(fd, F_DUPFD, 30), 30);
  CHECK_EQ(fcntl(fd, F_DUPFD_CLOEXEC, 30), 31);
  CHECK_EQ(fcntl(30, F_GETFD), 0);
  CHECK_EQ(fcntl(31, F_GETFD), FD_CLOEXEC);
  CHECK_EQ(fcntl(21, F_GETFD), FD_CLOEXEC);
  CHECK_OK(fcntl(30, F_SETFD, FD_CLOEXEC));
  int own = open("file", O_RDONLY);  // its own offset
  CHECK_EQ(own, 5);
  GuestSnapshot();
  CHECK_EQ(fcntl(30, F_GETFD), FD_CLOEXEC);
  CHECK_EQ(fcntl(20, F_GETFD), 0);
  CHECK_EQ(lseek(20, 7, SEEK_CUR), 130);
  CHECK_EQ(lseek(31, 0, SEEK_CUR), 130);  // still shared
  CHECK_EQ(lseek(own, 0, SEEK_CUR), 0);
  CHECK_OK(close(fd));
  CHECK_EQ(lseek(copy, 0, SEEK_CUR), 130);
  CHECK_EQ(open("file", O_RDONLY | O_CLOEXEC), 3);
  CHECK_EQ(fcntl(3, F_GETFD), FD_CLOEXEC);
  CHECK_OK(fcntl(copy, F_SETFL, O_APPEND));
  CHECK_EQ(fcntl(20, F_GETFL) & O_APPEND, O_APPEND);  // status flags are shared
  CHECK_EQ(fcntl(own, F_GETFL) & O_APPEND, 0);
  CHECK_ERRNO(fcntl(99, F_GETFD), EBADF);
  CHECK_ERRNO(fcntl(3, 9999), EINVAL);
  if (syscall(SYS_close_range, 3, ~0u, 0) != 0) {
    CHECK_EQ(errno, ENOSYS);
    for (int i = 3; i < 40; i++) close(i);
  }
  CHECK_ERRNO(fcntl(3, F_GETFD), EBADF);
  CHECK_ERRNO(fcntl(31, F_GETFD), EBADF);
  Say("duplicates");
}

static void Pipes(void) {
  int ends[2];
  CHECK_OK(pipe2(ends, O_NONBLOCK | O_CLOEXEC));
  char byte;
  CHECK_ERRNO(read(ends[0], &byte, 1), EAGAIN);
  struct pollfd polled[3] = {
      {.fd = ends[0], .events = POLLIN}, {.fd = ends[1], .events = POLLOUT}, {.fd = -1}};
  CHECK_EQ(poll(polled, 3, 0), 1);
  CHECK_EQ(polled[0].revents, 0);
  CHECK_EQ(polled[1].revents, POLLOUT);
  CHECK_EQ(write(ends[1], "hello", 5), 5);
  int available = 0;
  CHECK_OK(ioctl(ends[0], FIONREAD, &available));
  CHECK_EQ(available, 5);
  CHECK_EQ(poll(polled, 1, -1), 1);
  CHECK_EQ(polled[0].revents, POLLIN);
  char bytes[8];
  CHECK_EQ(read(ends[0], bytes, 8), 5);
  struct stat status;
  CHECK_OK(fstat(ends[0], &status));
  CHECK(S_ISFIFO(status.st_mode));
  CHECK_ERRNO(lseek(ends[0], 0, SEEK_CUR), ESPIPE);
  long total = 0;
  static char block[4096];
  for (long written; (written = write(ends[1], block, sizeof block)) > 0;) total += written;
  CHECK_EQ(errno, EAGAIN);
  CHECK(total >= 4096);
  CHECK_OK(close(ends[1]));
  for (long got; (got = read(ends[0], block, sizeof block)) > 0;) total -= got;
  CHECK_EQ(total, 0);
  CHECK_EQ(poll(polled, 1, 1000), 1);
  CHECK_EQ(polled[0].revents, POLLHUP);
  CHECK_OK(close(ends[0]));
  polled[0].fd = 77;
  CHECK_EQ(poll(polled, 1, 0), 1);
  CHECK_EQ(polled[0].revents, POLLNVAL);
  Say("pipes");
}

// Without a number to give, a call has no effect.
static void NoEffect(int locked, int other) {
  struct flock lock = {.l_type = F_RDLCK}, found = {.l_type = F_WRLCK};
  CHECK_OK(fcntl(locked, F_SETLK, &lock));
  CHECK_ERRNO(open("file", O_WRONLY | O_TRUNC), EMFILE);
  struct stat status;
  CHECK_OK(fstat(locked, &status));
  CHECK_EQ(status.st_size, 1000);
  CHECK_ERRNO(open("new", O_WRONLY | O_CREAT, 0644), EMFILE);
  CHECK_ERRNO(access("new", F_OK), ENOENT);
  CHECK_ERRNO(open("fifo", O_RDONLY), EMFILE);  // not waiting for a writer
  CHECK_ERRNO(dup(locked), EMFILE);
  CHECK_ERRNO(fcntl(locked, F_DUPFD, 10), EMFILE);
  CHECK_OK(fcntl(other, F_OFD_GETLK, &found));
  CHECK_EQ(found.l_type, F_RDLCK);
  lock.l_type = F_UNLCK;
  CHECK_OK(fcntl(locked, F_SETLK, &lock));
  CHECK_EQ(syscall(SYS_mq_open, "km-guest-no-room", O_RDWR | O_CREAT, 0600, NULL), -1);
  if (errno == ENOSYS) return;
  CHECK_EQ(errno, EMFILE);
  CHECK_ERRNO(syscall(SYS_mq_unlink, "km-guest-no-room"), ENOENT);
}

static void Limits(void) {
  struct rlimit limit, old;
  CHECK_OK(mkfifo("fifo", 0600));
  CHECK_OK(getrlimit(RLIMIT_NOFILE, &old));
  limit = old;
  limit.rlim_cur = 16;
  CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
  int fds[16], count = 0;
  while (count < 16 && (fds[count] = open("file", O_RDONLY)) >= 0) count++;
  CHECK_EQ(errno, EMFILE);
  CHECK_EQ(fds[count - 1], 15);
  CHECK_ERRNO(dup(0), EMFILE);
  CHECK_ERRNO(dup2(0, 16), EBADF);
  CHECK_ERRNO(fcntl(0, F_DUPFD, 16), EINVAL);
  NoEffect(fds[0], fds[1]);
  GuestSnapshot();
  CHECK_OK(getrlimit(RLIMIT_NOFILE, &limit));
  CHECK_EQ(limit.rlim_cur, 16);
  CHECK_ERRNO(dup(0), EMFILE);
  for (int i = 0; i < count; i++) CHECK_OK(close(fds[i]));
  CHECK_OK(setrlimit(RLIMIT_NOFILE, &old));
  CHECK_EQ(dup2(0, 16), 16);
  CHECK_OK(close(16));
  Say("limits");
}

int main(void) {
  Duplicates();
  Pipes();
  Limits();
  return 0;
}
