// variants: dynamic static
// timerfd: relative and absolute on every clock, also of a process whose clocks were resumed;
// expiries counted, read blocking and not, polled, edge-triggered; errors.
// emulated: no, its clocks are those of a slow and uneven machine
#include <poll.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "tests/guest/guest.h"

static const int64_t kMs = 1000000;

static struct itimerspec Setting(int64_t value, int64_t interval) {
  return (struct itimerspec){{interval / 1000000000, interval % 1000000000},
                             {value / 1000000000, value % 1000000000}};
}

static int64_t Left(int fd) {
  struct itimerspec now;
  CHECK_OK(timerfd_gettime(fd, &now));
  return now.it_value.tv_sec * 1000000000ll + now.it_value.tv_nsec;
}

static void Set(int fd, int flags, int64_t value, int64_t interval) {
  struct itimerspec wanted = Setting(value, interval);
  CHECK_OK(timerfd_settime(fd, flags, &wanted, NULL));
}

static uint64_t Read(int fd) {
  uint64_t count = 0;
  CHECK_EQ(read(fd, &count, sizeof(count)), 8);
  return count;
}

// Not yet over, unless it could be by now on a slow machine.
static void CheckLeft(int fd, clockid_t clock, int64_t until) {
  int64_t left = Left(fd);
  CHECK(left <= 20 * kMs && (left > 0 || NowNs(clock) >= until));
}

static void OnClock(clockid_t clock) {
  int fd = timerfd_create(clock, TFD_CLOEXEC);
  CHECK_OK(fd);
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  CHECK_EQ(Left(fd), 0);
  int64_t before = NowNs(CLOCK_MONOTONIC);
  Set(fd, 0, 20 * kMs, 0);
  CheckLeft(fd, CLOCK_MONOTONIC, before + 20 * kMs);
  CHECK_EQ(Read(fd), 1);
  CHECK(NowNs(CLOCK_MONOTONIC) - before >= 20 * kMs);
  // Absolute: neither at once nor much later than asked for.
  int64_t until = NowNs(clock) + 20 * kMs;
  Set(fd, TFD_TIMER_ABSTIME, until, 0);
  CheckLeft(fd, clock, until);
  CHECK_EQ(Read(fd), 1);
  CHECK(NowNs(clock) >= until);
  Set(fd, TFD_TIMER_ABSTIME, 1, 0);
  CHECK_EQ(Read(fd), 1);
  // A periodic one that began long ago has expired for every period.
  int64_t start = NowNs(clock) - 100 * kMs;
  Set(fd, TFD_TIMER_ABSTIME, start, 10 * kMs);
  uint64_t count = Read(fd), most = (uint64_t)(NowNs(clock) - start) / 10000000 + 1;
  CHECK(count >= 11 && count <= most);
  count += Read(fd);
  CHECK(count >= 12);
  struct itimerspec off = Setting(0, 0), old;
  CHECK_OK(timerfd_settime(fd, 0, &off, &old));
  CHECK_EQ(old.it_interval.tv_nsec, 10 * kMs);
  CHECK(old.it_value.tv_nsec <= 10 * kMs);
  CHECK_EQ(Left(fd), 0);
  CHECK_OK(close(fd));
}

static void Waiting(void) {
  int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  CHECK_OK(fd);
  uint64_t count;
  CHECK_ERRNO(read(fd, &count, 8), EAGAIN);
  CHECK_ERRNO(read(fd, &count, 7), EINVAL);
  CHECK_ERRNO(write(fd, &count, 8), EINVAL);
  struct pollfd polled = {.fd = fd, .events = POLLIN | POLLOUT};
  CHECK_EQ(poll(&polled, 1, 0), 0);
  Set(fd, 0, 10 * kMs, 10 * kMs);
  CHECK_EQ(poll(&polled, 1, -1), 1);
  CHECK_EQ(polled.revents, POLLIN);
  int set = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET}, got;
  CHECK_OK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
  // The timer goes on when it is read: an edge for each read.
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(epoll_wait(set, &got, 1, -1), 1);
    CHECK_EQ(epoll_wait(set, &got, 1, 15), 0);
    CHECK(Read(fd) >= 1);
  }
  int copy = dup(fd);
  CHECK_OK(copy);
  CHECK_EQ(poll(&polled, 1, -1), 1);
  CHECK(Read(copy) >= 1);
  // Setting it forgets what nobody has read.
  CHECK_EQ(poll(&polled, 1, -1), 1);
  Set(fd, 0, 3600 * 1000 * kMs, 0);
  CHECK_ERRNO(read(copy, &count, 8), EAGAIN);
  CHECK_OK(close(fd));
  CHECK_OK(close(copy));
  CHECK_OK(close(set));
}

static void Errors(void) {
  struct itimerspec some = Setting(kMs, 0), bad = Setting(kMs, 0);
  bad.it_interval.tv_nsec = 1000000000;
  int fd = timerfd_create(CLOCK_REALTIME, 0);
  CHECK_OK(fd);
  CHECK_ERRNO(timerfd_create(CLOCK_PROCESS_CPUTIME_ID, 0), EINVAL);
  CHECK_ERRNO(timerfd_create(CLOCK_MONOTONIC_RAW, 0), EINVAL);
  CHECK_ERRNO(timerfd_create(CLOCK_MONOTONIC, 1 << 20), EINVAL);
  CHECK_ERRNO(timerfd_settime(fd, 8, &some, NULL), EINVAL);
  CHECK_ERRNO(timerfd_settime(fd, 0, &bad, NULL), EINVAL);
  CHECK_ERRNO(timerfd_settime(fd, 0, (void*)8, NULL), EFAULT);
  CHECK_ERRNO(timerfd_settime(fd, 0, &some, (void*)8), EFAULT);
  CHECK_ERRNO(timerfd_settime(1000, 0, &some, NULL), EBADF);
  CHECK_ERRNO(timerfd_settime(0, 0, &some, NULL), EINVAL);
  CHECK_ERRNO(timerfd_gettime(0, &some), EINVAL);
  CHECK_ERRNO(timerfd_gettime(fd, (void*)8), EFAULT);
  CHECK_OK(timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &some, NULL));
  CHECK_EQ(Read(fd), 1);
  CHECK_OK(close(fd));
}

static void All(void) {
  OnClock(CLOCK_REALTIME);
  OnClock(CLOCK_MONOTONIC);
  OnClock(CLOCK_BOOTTIME);
  Waiting();
  Errors();
  Say("timerfd");
}

int main(void) {
  All();
  GuestSnapshot();
  SleepMs(20);
  GuestSnapshot();  // clocks that are behind the host's by now
  All();
  return 0;
}
