// epoll_server PORT: one thread, edge-triggered epoll. A line `snapshot` takes a snapshot, which
// ends it; `stats` is answered with how many connections are open and how many were lost; all else
// is echoed.
#define _GNU_SOURCE
#include <errno.h>
#include <km/hypercall.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

static int watch, listener, ticks, open_count, lost_count, tick_count;

static void Watch(int fd) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
  if (epoll_ctl(watch, EPOLL_CTL_ADD, fd, &event) != 0) perror("epoll_ctl"), exit(1);
}

static void Accept(void) {
  int fd;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    ++open_count;
    Watch(fd);
  }
}

static void Answer(int fd, const char* line, size_t size) {
  char text[100];
  if (size == 9 && memcmp(line, "snapshot\n", 9) == 0) {
    km_hc_args_t arguments = {.arg1 = (uint64_t) "edge-triggered"};
    uint64_t one = 1;
    if (write(ticks, &one, sizeof(one)) < 0) exit(1);  // not seen before the snapshot
    km_hcall(HC_snapshot, &arguments);
    return;
  }
  if (size == 6 && memcmp(line, "stats\n", 6) == 0) {
    size = (size_t)snprintf(text, sizeof(text), "open %d lost %d ticks %d\n", open_count,
                            lost_count, tick_count);
    line = text;
  }
  if (write(fd, line, size) < 0) return;
}

// An edge comes once: all there is must be read.
static void Read(int fd) {
  char line[4096];
  ssize_t size;
  while ((size = read(fd, line, sizeof(line))) > 0) Answer(fd, line, (size_t)size);
  if (size < 0 && errno == EAGAIN) return;
  if (size < 0) ++lost_count;
  --open_count;
  close(fd);
}

int main(int argc, char** argv) {
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  name.sin_port = htons((uint16_t)atoi(argc > 1 ? argv[1] : "0"));
  listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  const int one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (bind(listener, (struct sockaddr*)&name, sizeof(name)) != 0 || listen(listener, 100) != 0) {
    return perror("listen"), 1;
  }
  watch = epoll_create1(0);
  ticks = eventfd(0, EFD_NONBLOCK);
  Watch(listener);
  Watch(ticks);
  while (1) {
    struct epoll_event events[8];
    int count = epoll_wait(watch, events, 8, -1);
    for (int i = 0; i < count; ++i) {
      int fd = events[i].data.fd;
      uint64_t ticked;
      if (fd == listener) {
        Accept();
      } else if (fd != ticks) {
        Read(fd);
      } else if (read(ticks, &ticked, sizeof(ticked)) > 0) {
        tick_count += (int)ticked;
      }
    }
  }
}
