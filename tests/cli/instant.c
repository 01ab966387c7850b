// What the program's memory says and what the kernel holds for it are kept in step by threads,
// until SIGTERM; then it says "right", or what is not. In a memfd, an eventfd, a pipe, a socket
// pair and a message queue; timers go with the clock. A snapshot that has one of them from another
// instant than the memory brings back what never fits again.
#define _GNU_SOURCE
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { kWays = 3, kSlots = 64, kIntervalNs = 5000000 };

static atomic_int stop, wrong;
static atomic_long rounds;

static void must(int condition, const char *what, uint64_t a, uint64_t b) {
  if (condition || wrong) return;
  wrong = 1;
  printf("wrong: %s: %llu and %llu\n", what, (unsigned long long)a, (unsigned long long)b);
}

// Numbers in order, through what the kernel keeps in between.
struct way {
  const char *name;
  int in, out;
  uint64_t sent, received;
} ways[kWays] = {{"a pipe", -1, -1, 0, 0}, {"a socket", -1, -1, 0, 0}, {"a queue", -1, -1, 0, 0}};

static int is_queue(const struct way *way) { return way == &ways[2]; }

static void *sends(void *argument) {
  struct way *way = argument;
  while (!stop) {
    // It may be full, and nobody take it out any more.
    struct pollfd ready = {way->in, POLLOUT, 0};
    if (poll(&ready, 1, 20) != 1) continue;
    ++way->sent;
    const long done = is_queue(way)
                          ? mq_send(way->in, (char *)&way->sent, sizeof(way->sent), 0)
                          : write(way->in, &way->sent, sizeof(way->sent)) - (long)sizeof(way->sent);
    must(done == 0, way->name, way->sent, (uint64_t)done);
    ++rounds;
  }
  return NULL;
}

static int receive(struct way *way) {
  uint64_t value = 0;
  struct pollfd ready = {way->out, POLLIN, 0};
  if (poll(&ready, 1, stop ? 0 : 20) != 1) return 0;
  const long size = is_queue(way) ? mq_receive(way->out, (char *)&value, sizeof(value), NULL)
                                  : read(way->out, &value, sizeof(value));
  ++way->received;
  must(size == sizeof(value) && value == way->received, way->name, value, way->received);
  return 1;
}

static void *receives(void *argument) {
  while (!stop) receive(argument);
  return NULL;
}

// Both count the same, one in memory, the other by read(2) and write(2).
static int memory_file;
static uint64_t counts[kSlots], added, taken;
static int event;

static void *counts_up(void *argument) {
  (void)argument;
  for (uint64_t i = 0; !stop; ++i) {
    const off_t at = (off_t)(i % kSlots * 4096);
    uint64_t value = 0;
    ++counts[i % kSlots];
    if (pread(memory_file, &value, sizeof(value), at) != sizeof(value)) wrong = 1;
    ++value;
    if (pwrite(memory_file, &value, sizeof(value), at) != sizeof(value)) wrong = 1;
    uint64_t some = i % 7 + 1;
    added += some;
    if (write(event, &some, sizeof(some)) != sizeof(some)) wrong = 1;
    if (i % 5 == 0 && read(event, &some, sizeof(some)) == sizeof(some)) taken += some;
  }
  return NULL;
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static int64_t begin;
static int timer;
static uint64_t expired;

static void *watches_time(void *argument) {
  (void)argument;
  while (!stop) {
    uint64_t more = 0;
    if (read(timer, &more, sizeof(more)) != sizeof(more)) wrong = 1;
    expired += more;
  }
  return NULL;
}

static void make_all(void) {
  int ends[2];
  if (pipe(ends) != 0) exit(2);
  ways[0].in = ends[1], ways[0].out = ends[0];
  if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) != 0) exit(2);
  ways[1].in = ends[1], ways[1].out = ends[0];
  char name[32];
  snprintf(name, sizeof(name), "/km-instant-%d", (int)getpid());
  struct mq_attr room = {.mq_maxmsg = 8, .mq_msgsize = sizeof(uint64_t)};
  ways[2].in = ways[2].out = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &room);
  if (ways[2].in < 0 || mq_unlink(name) != 0) exit(2);
  memory_file = memfd_create("counts", MFD_CLOEXEC);
  if (ftruncate(memory_file, kSlots * 4096) != 0) exit(2);
  event = eventfd(0, EFD_NONBLOCK);
  timer = timerfd_create(CLOCK_MONOTONIC, 0);
  begin = now();
  const int64_t first = begin + kIntervalNs;
  const struct itimerspec often = {{0, kIntervalNs}, {first / 1000000000, first % 1000000000}};
  if (event < 0 || timerfd_settime(timer, TFD_TIMER_ABSTIME, &often, NULL) != 0) exit(2);
}

static void compare(void) {
  for (int i = 0; i < kWays; ++i) {
    while (receive(&ways[i])) {
    }
    must(ways[i].sent == ways[i].received, ways[i].name, ways[i].sent, ways[i].received);
  }
  for (int i = 0; i < kSlots; ++i) {
    uint64_t value = 0;
    if (pread(memory_file, &value, sizeof(value), i * 4096) != sizeof(value)) wrong = 1;
    must(value == counts[i], "a memfd", value, counts[i]);
  }
  uint64_t some = 0;
  if (read(event, &some, sizeof(some)) == sizeof(some)) taken += some;
  must(added == taken, "an eventfd", added, taken);
  struct pollfd ready = {timer, POLLIN, 0};
  const uint64_t least = (uint64_t)((now() - begin) / kIntervalNs);
  if (poll(&ready, 1, 0) == 1 && read(timer, &some, sizeof(some)) == sizeof(some)) expired += some;
  const uint64_t most = (uint64_t)((now() - begin) / kIntervalNs);
  must(expired + 1 >= least && expired <= most + 1, "a timerfd", expired, least);
}

int main(void) {
  pthread_t threads[2 * kWays + 2];
  sigset_t term;
  int sig;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, NULL);
  make_all();
  for (int i = 0; i < kWays; ++i) {
    if (pthread_create(&threads[2 * i], NULL, sends, &ways[i]) != 0) return 2;
    if (pthread_create(&threads[2 * i + 1], NULL, receives, &ways[i]) != 0) return 2;
  }
  if (pthread_create(&threads[2 * kWays], NULL, counts_up, NULL) != 0) return 2;
  if (pthread_create(&threads[2 * kWays + 1], NULL, watches_time, NULL) != 0) return 2;
  while (rounds < 100) usleep(1000);
  puts("ready");
  fflush(stdout);
  sigwait(&term, &sig);
  stop = 1;
  for (int i = 0; i < 2 * kWays + 2; ++i) pthread_join(threads[i], NULL);
  compare();
  if (!wrong) printf("right after %ld rounds\n", (long)rounds);
  return wrong;
}
