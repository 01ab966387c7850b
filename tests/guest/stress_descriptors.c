// 10,000 descriptors: numbers without gaps, each its own, all in one epoll and one poll, closed and
// used again from the lowest. Fewer where the limit is lower.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

enum { kMost = 10000 };
static int fds[kMost];
static uint8_t seen[kMost];
static struct pollfd polled[kMost];

int main(void) {
  CHECK_OK(syscall(SYS_close_range, 3, ~0u, 0));
  struct rlimit limit;
  CHECK_OK(getrlimit(RLIMIT_NOFILE, &limit));
  limit.rlim_cur = limit.rlim_max;
  CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
  // The test's own run is not to need more than a hard limit of 4096.
  int count = limit.rlim_max > kMost + 500 ? kMost : 3500;
  int epoll = epoll_create1(0);
  CHECK_OK(epoll);
  for (int i = 0; i < count; i++) {
    fds[i] = eventfd((unsigned)i + 1, EFD_NONBLOCK);
    CHECK_EQ(fds[i], epoll + 1 + i);
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = (uint32_t)i};
    CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event));
    polled[i] = (struct pollfd){fds[i], POLLIN, 0};
  }
  struct epoll_event events[512];
  for (int got, total = 0; total < count; total += got) {
    got = epoll_wait(epoll, events, 512, 0);
    CHECK(got > 0);
    for (int i = 0; i < got; i++) CHECK_EQ(seen[events[i].data.u32]++, 0);
  }
  CHECK_EQ(epoll_wait(epoll, events, 512, 0), 0);
  CHECK_EQ(poll(polled, (nfds_t)count, 0), count);
  Say("%s", "each ready once");

  for (int i = 0; i < count; i += 7) {
    eventfd_t value;
    CHECK_OK(eventfd_read(fds[i], &value));
    CHECK_EQ(value, i + 1);
  }
  CHECK_EQ(poll(polled, (nfds_t)count, 0), count - (count + 6) / 7);
  for (int i = 0; i < count; i++) CHECK_EQ(polled[i].revents, i % 7 == 0 ? 0 : POLLIN);
  Say("%s", "each its own");

  for (int i = 1; i < count; i += 100) CHECK_OK(close(fds[i]));
  // POLLNVAL counts; of these every seventh was not ready before: 301, 1001, ...
  CHECK_EQ(poll(polled, (nfds_t)count, 0), count - (count + 6) / 7 + (count + 398) / 700);
  for (int i = 1; i < count; i += 100) CHECK_EQ(dup(fds[0]), fds[i]);
  CHECK_EQ(dup(fds[0]), fds[count - 1] + 1);
  Say("%s", "the lowest again");

  CHECK_OK(syscall(SYS_close_range, epoll, ~0u, 0));
  CHECK_EQ(dup(0), epoll);
  Say("%s", "closed");
  return 0;
}
