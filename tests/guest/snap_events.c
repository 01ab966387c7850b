// variants: dynamic static
// Descriptors of events come back as they were: eventfds with their count, semaphores too; timerfds
// with what remained and what nobody has read; signalfds; epoll instances with all they watch, what
// they are about to report and its order: no edge comes twice or is lost, nor does a one-shot
// watch.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "tests/guest/guest.h"

static const int64_t kMs = 1000000;

static void Twice(void) {
  GuestSnapshot();
  GuestSnapshot();
}

static uint64_t Read(int fd) {
  uint64_t value;
  CHECK_EQ(read(fd, &value, sizeof value), sizeof value);
  return value;
}

static bool Ready(int fd) {
  struct pollfd entry = {.fd = fd, .events = POLLIN};
  CHECK_OK(poll(&entry, 1, 0));
  return entry.revents & POLLIN;
}

static void Counts(void) {
  int plain = eventfd(7, EFD_CLOEXEC), semaphore = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
  int zero = eventfd(0, EFD_NONBLOCK), full = eventfd(0, EFD_NONBLOCK), copy = dup(semaphore);
  uint64_t most = UINT64_MAX - 1, value;
  CHECK_EQ(write(full, &most, sizeof most), sizeof most);
  Twice();
  CHECK_EQ(fcntl(plain, F_GETFD), FD_CLOEXEC);
  CHECK_EQ(fcntl(plain, F_GETFL) & O_NONBLOCK, 0);
  CHECK_EQ(Read(plain), 7);
  CHECK_EQ(Read(semaphore), 1);
  CHECK_EQ(Read(copy), 1);
  GuestSnapshot();
  CHECK_EQ(Read(semaphore), 1);
  CHECK_ERRNO(read(copy, &value, sizeof value), EAGAIN);
  CHECK_ERRNO(read(zero, &value, sizeof value), EAGAIN);
  value = 1;
  CHECK_ERRNO(write(full, &value, sizeof value), EAGAIN);
  CHECK_EQ(Read(full), most);
  for (int *fd = (int[]){plain, semaphore, zero, full, copy}, *end = fd + 5; fd < end; fd++) {
    CHECK_OK(close(*fd));
  }
  Say("counts");
}

static int Timer(clockid_t clock, int flags, int64_t value, int64_t interval) {
  int fd = timerfd_create(clock, TFD_NONBLOCK);
  CHECK_OK(fd);
  struct itimerspec wanted = {{interval / 1000000000, interval % 1000000000},
                              {value / 1000000000, value % 1000000000}};
  CHECK_OK(timerfd_settime(fd, flags, &wanted, NULL));
  return fd;
}

static int64_t Left(int fd) {
  struct itimerspec now;
  CHECK_OK(timerfd_gettime(fd, &now));
  return now.it_value.tv_sec * 1000000000ll + now.it_value.tv_nsec;
}

static long ShownFlags(int fd) {
  char path[40], text[512] = "";
  snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
  int info = open(path, O_RDONLY);
  CHECK(read(info, text, sizeof text - 1) > 0);
  CHECK_OK(close(info));
  const char* flags = strstr(text, "settime flags:");
  CHECK(flags != NULL);
  return strtol(flags + strlen("settime flags:"), NULL, 8);
}

static void Timers(void) {
  const int64_t kHour = 3600 * 1000 * kMs, end = NowNs(CLOCK_MONOTONIC) + 150 * kMs;
  int once = Timer(CLOCK_MONOTONIC, 0, 1, 0), often = Timer(CLOCK_MONOTONIC, 0, kMs, kMs);
  int hour = Timer(CLOCK_BOOTTIME, 0, kHour, kHour), off = Timer(CLOCK_MONOTONIC, 0, 0, 0);
  int until = Timer(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, end, 0);
  int wall = Timer(CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET,
                   NowNs(CLOCK_REALTIME) + kHour, 0);
  SleepMs(20);
  Twice();
  CHECK_EQ(Read(once), 1);
  CHECK_EQ(Left(once), 0);
  CHECK(Read(often) >= 19);
  for (int i = 0; i < 3; i++) {  // it goes on firing
    while (!Ready(often)) SleepMs(1);
    CHECK(Read(often) >= 1);
  }
  CHECK(Left(hour) > kHour - 60000 * kMs && Left(hour) <= kHour);
  CHECK(Left(wall) > kHour - 60000 * kMs && Left(wall) <= kHour);
  CHECK_EQ(Left(off), 0);
  CHECK_EQ(ShownFlags(hour), 0);
  CHECK_EQ(ShownFlags(until), TFD_TIMER_ABSTIME);
  CHECK_EQ(ShownFlags(wall), TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
  uint64_t count;
  CHECK_ERRNO(read(off, &count, sizeof count), EAGAIN);
  struct pollfd waiting = {.fd = until, .events = POLLIN};
  CHECK_EQ(poll(&waiting, 1, -1), 1);
  CHECK(NowNs(CLOCK_MONOTONIC) >= end);
  CHECK_EQ(Read(until), 1);
  for (int *fd = (int[]){once, often, hour, off, until, wall}, *last = fd + 6; fd < last; fd++) {
    CHECK_OK(close(*fd));
  }
  Say("timers");
}

static void Signals(void) {
  BlockSignals(SIGUSR1, SIGUSR2);
  sigset_t set = SignalSet(SIGUSR1, 0), other = SignalSet(SIGUSR2, 0);
  int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC), empty = signalfd(-1, &other, 0);
  int copy = dup(fd);
  CHECK_OK(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 5}));
  Twice();
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  CHECK(fcntl(copy, F_GETFL) & O_NONBLOCK);
  CHECK(Ready(fd) && Ready(copy) && !Ready(empty));
  struct signalfd_siginfo info;
  CHECK_EQ(read(copy, &info, sizeof info), sizeof info);
  CHECK_EQ(info.ssi_int, 5);
  CHECK(!Ready(fd));
  CHECK_OK(kill(getpid(), SIGUSR2));
  CHECK(Ready(empty) && !Ready(fd));
  CHECK_EQ(read(empty, &info, sizeof info), sizeof info);
  CHECK_EQ(signalfd(fd, &other, 0), fd);
  CHECK_OK(kill(getpid(), SIGUSR2));
  CHECK(Ready(copy));
  CHECK_EQ(read(fd, &info, sizeof info), sizeof info);
  CHECK_OK(close(fd));
  CHECK_OK(close(copy));
  CHECK_OK(close(empty));
  Say("signals");
}

static void Watch(int set, int fd, uint32_t events, uint64_t data) {
  struct epoll_event event = {.events = events, .data.u64 = data};
  CHECK_OK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
}

// What is reported now, as the sum of the data: each has a bit of its own.
static uint64_t Reported(int set) {
  struct epoll_event got[16];
  int count = epoll_wait(set, got, 16, 0);
  CHECK_OK(count);
  uint64_t sum = 0;
  for (int i = 0; i < count; i++) sum += got[i].data.u64;
  return sum;
}

static void Watches(void) {
  int set = epoll_create1(EPOLL_CLOEXEC), outer = epoll_create1(0), ends[2], idle[2];
  CHECK_OK(pipe(ends));
  CHECK_OK(pipe(idle));
  int level = eventfd(1, 0), edge = eventfd(1, 0), fired = eventfd(1, 0), armed = eventfd(0, 0);
  int silent = eventfd(0, 0);
  Watch(set, level, EPOLLIN, 1);
  Watch(set, edge, EPOLLIN | EPOLLET, 2);
  Watch(set, fired, EPOLLIN | EPOLLONESHOT, 4);
  Watch(set, armed, EPOLLIN | EPOLLONESHOT, 8);
  Watch(set, silent, EPOLLIN | EPOLLEXCLUSIVE, 16);
  Watch(set, ends[0], EPOLLIN | EPOLLONESHOT | EPOLLET, 32);
  Watch(set, idle[0], EPOLLIN | EPOLLRDHUP, UINT64_C(1) << 63);
  Watch(outer, set, EPOLLIN, 64);
  CHECK_EQ(write(ends[1], "x", 1), 1);
  CHECK_EQ(Reported(set), 1 + 2 + 4 + 32);
  CHECK_EQ(Reported(set), 1);
  char byte;
  CHECK_EQ(read(ends[0], &byte, 1), 1);
  GuestSnapshot();
  CHECK_EQ(Reported(set), 1);
  GuestSnapshot();
  CHECK_EQ(Reported(set), 1);
  CHECK_EQ(Reported(outer), 64);
  eventfd_t value;
  CHECK_OK(eventfd_read(level, &value));
  CHECK_EQ(Reported(set), 0);
  CHECK_EQ(Reported(outer), 0);
  CHECK_OK(eventfd_write(armed, 1));
  CHECK_EQ(Reported(set), 8);
  CHECK_EQ(Reported(set), 0);
  CHECK_OK(eventfd_write(edge, 1));
  CHECK_EQ(Reported(set), 2);
  CHECK_OK(eventfd_write(silent, 1));
  CHECK_EQ(Reported(set), 16);
  CHECK_OK(eventfd_read(silent, &value));
  // Those that have fired are still there, to be armed again.
  struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 4};
  CHECK_OK(epoll_ctl(set, EPOLL_CTL_MOD, fired, &event));
  CHECK_EQ(Reported(set), 4);
  CHECK_EQ(write(ends[1], "y", 1), 1);
  CHECK_EQ(Reported(set), 0);
  event = (struct epoll_event){.events = EPOLLIN, .data.u64 = 32};
  CHECK_OK(epoll_ctl(set, EPOLL_CTL_MOD, ends[0], &event));
  CHECK_EQ(Reported(set), 32);
  CHECK_OK(epoll_ctl(set, EPOLL_CTL_DEL, ends[0], NULL));
  CHECK_EQ(write(idle[1], "z", 1), 1);
  CHECK_EQ(Reported(set), UINT64_C(1) << 63);
  CHECK_OK(close(set));
  CHECK_OK(close(outer));
  Say("watches");
}

// What is reported now, in order: a letter of the data each.
static void ExpectOrder(int set, const char* wanted) {
  struct epoll_event got[16];
  char order[17] = "";
  int count = epoll_wait(set, got, 16, 0);
  CHECK_OK(count);
  for (int i = 0; i < count; i++) order[i] = (char)got[i].data.u64;
  if (strcmp(order, wanted) != 0) FAIL("epoll reports '%s', not '%s'", order, wanted);
}

static void GoOn(void) {
  long result = GuestTrySnapshot("goes on", KM_SNAPSHOT_CONTINUE);
  CHECK(result == 0 || result == 1 || result == -ENOSYS);
}

// The order in which things became ready, whatever the numbers of the descriptors are.
static void Order(void) {
  static const struct {
    char name;
    uint32_t events;
  } kWatches[] = {{'a', EPOLLIN},
                  {'b', EPOLLIN | EPOLLET},
                  {'c', EPOLLIN | EPOLLONESHOT},
                  {'d', EPOLLIN},
                  {'e', EPOLLIN | EPOLLET | EPOLLONESHOT},
                  {'f', EPOLLIN | EPOLLEXCLUSIVE},
                  {'g', EPOLLIN | EPOLLOUT | EPOLLET}};
  enum { kCount = sizeof kWatches / sizeof *kWatches };
  int set = epoll_create1(0), outer = epoll_create1(0), ends[kCount][2];
  for (int i = 0; i < kCount; i++) {
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends[i]));
    Watch(set, ends[i][0], kWatches[i].events, (uint64_t)kWatches[i].name);
  }
  Watch(outer, ends[0][0], EPOLLIN, 'A');
  Watch(outer, set, EPOLLIN | EPOLLET, 'S');
  ExpectOrder(set, "g");  // it can be written to
  for (const char* at = "fdbgeca"; *at != 0; at++) CHECK_EQ(write(ends[*at - 'a'][1], "x", 1), 1);
  Twice();
  GoOn();
  ExpectOrder(outer, "SA");
  ExpectOrder(set, "fdbgeca");
  Twice();
  ExpectOrder(outer, "A");
  ExpectOrder(set, "fda");
  CHECK_EQ(write(ends[1][1], "x", 1), 1);
  GoOn();
  Twice();
  ExpectOrder(set, "fdab");
  char byte;
  CHECK_EQ(read(ends[0][0], &byte, 1), 1);
  CHECK_EQ(read(ends[3][0], &byte, 1), 1);
  ExpectOrder(set, "f");
  CHECK_EQ(write(ends[3][1], "x", 1), 1);
  CHECK_EQ(write(ends[0][1], "x", 1), 1);
  Twice();
  ExpectOrder(set, "fda");
  // One that fired stays so, even when the other end is closed.
  CHECK_OK(close(ends[2][1]));
  CHECK_OK(close(ends[6][1]));
  Twice();
  ExpectOrder(set, "fdag");
  for (int i = 0; i < kCount; i++) {
    close(ends[i][0]);
    close(ends[i][1]);
  }
  CHECK_OK(close(set));
  CHECK_OK(close(outer));
  Say("order");
}

// A watch is of the file, not of the number: it stays when that is closed, or another file's.
static void Duplicate(void) {
  int ends[2], others[2], set = epoll_create1(0);
  CHECK_OK(pipe(ends));
  Watch(set, ends[0], EPOLLIN, 5);
  int same = dup(ends[0]);
  CHECK_OK(close(ends[0]));
  CHECK_OK(pipe(others));
  Twice();
  struct epoll_event got;
  CHECK_EQ(write(others[1], "x", 1), 1);
  CHECK_EQ(epoll_wait(set, &got, 1, 0), 0);
  CHECK_EQ(write(ends[1], "x", 1), 1);
  CHECK_EQ(epoll_wait(set, &got, 1, 0), 1);
  CHECK_EQ(got.data.u64, 5);
  int all[] = {same, ends[1], others[0], others[1], set};
  for (int i = 0; i < 5; i++) CHECK_OK(close(all[i]));
  Say("duplicate");
}

static int waited;

static void* Waiter(void* unused) {
  (void)unused;
  struct epoll_event got;
  CHECK_EQ(epoll_wait(waited, &got, 1, -1), 1);
  return (void*)(intptr_t)got.data.u64;
}

// A thread that waits goes on waiting.
static void Waiting(void) {
  int fd = eventfd(0, 0);
  waited = epoll_create1(0);
  Watch(waited, fd, EPOLLIN | EPOLLET, 9);
  pthread_t thread = StartThread(Waiter, NULL);
  SleepMs(20);
  Twice();
  CHECK_OK(eventfd_write(fd, 1));
  CHECK_EQ((intptr_t)JoinThread(thread), 9);
  Say("waiting");
}

int main(void) {
  Counts();
  Timers();
  Signals();
  Watches();
  Order();
  Duplicate();
  Waiting();
  return 0;
}
