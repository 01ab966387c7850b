// variants: dynamic musl
// poll, ppoll, select and pselect6: what is ready, timeouts, masks, and signals that come in
// between.
#include <poll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/time.h>

#include "tests/guest/guest.h"

static atomic_int caught;
static void Catch(int number, siginfo_t* info, void* context) {
  (void)info, (void)context;
  atomic_fetch_add(&caught, number);
}

static void* Interrupt(void* thread) {
  SleepMs(60);
  CHECK_ZERO(pthread_kill((pthread_t)thread, SIGUSR1));
  return NULL;
}

static long RawPpoll(struct pollfd* set, unsigned count, struct timespec* time, sigset_t* mask) {
  return syscall(SYS_ppoll, set, count, time, mask, 8);
}

static void Ready(const int* ends) {
  struct pollfd set[4] = {
      {ends[0], POLLIN, 77}, {ends[1], POLLOUT, 77}, {-5, POLLIN, 77}, {900, POLLIN, 77}};
  CHECK_EQ(poll(set, 3, -1), 1);
  CHECK_EQ(set[0].revents, 0);
  CHECK_EQ(set[1].revents, POLLOUT);
  CHECK_EQ(set[2].revents, 0);
  CHECK_EQ(poll(set, 4, -1), 2);  // one that is not open is an answer
  CHECK_EQ(set[3].revents, POLLNVAL);
  set[1].fd = -1;
  CHECK_EQ(poll(set, 4, -1), 1);
  CHECK_EQ(poll(set, 1, 0), 0);
  CHECK_EQ(poll(NULL, 0, 1), 0);
  struct rlimit files;
  CHECK_OK(getrlimit(RLIMIT_NOFILE, &files));
  CHECK_ERRNO(poll(set, files.rlim_cur + 1, 0), EINVAL);
  Say("poll");
}

static void Sets(const int* ends) {
  fd_set in, out, except;
  FD_ZERO(&in);
  FD_ZERO(&out);
  FD_ZERO(&except);
  FD_SET(ends[0], &in);
  FD_SET(ends[1], &out);
  FD_SET(ends[0], &except);
  CHECK_EQ(select(FD_SETSIZE, &in, &out, &except, NULL), 1);
  CHECK(!FD_ISSET(ends[0], &in) && FD_ISSET(ends[1], &out) && !FD_ISSET(ends[0], &except));
  CHECK_EQ(write(ends[1], "x", 1), 1);
  FD_SET(ends[0], &in);
  CHECK_EQ(select(ends[0] + 1, &in, NULL, NULL, NULL), 1);
  CHECK(FD_ISSET(ends[0], &in));
  FD_SET(40, &in);
  CHECK_ERRNO(select(41, &in, NULL, NULL, NULL), EBADF);
  CHECK_ERRNO(select(-1, NULL, NULL, NULL, NULL), EINVAL);
  // A bit behind the count does not count.
  CHECK_EQ(select(ends[0] + 1, &in, NULL, NULL, NULL), 1);
  char byte;
  CHECK_EQ(read(ends[0], &byte, 1), 1);
  Say("select");
}

// A count of more than the table of descriptors has room for is cut off: the sets may end before
// it.
static void SetsThatEnd(const int* ends) {
  struct rlimit old, more;
  CHECK_OK(getrlimit(RLIMIT_NOFILE, &old));
  more = old;
  more.rlim_cur = old.rlim_max < 8192 ? old.rlim_max : 8192;
  CHECK_OK(setrlimit(RLIMIT_NOFILE, &more));
  uint8_t* pages = MapAnonymous(2 * kPage, PROT_READ | PROT_WRITE);
  CHECK_OK(munmap(pages + kPage, kPage));
  fd_set* out = (fd_set*)(pages + kPage - sizeof(fd_set));
  FD_SET(ends[1], out);
  FD_SET(FD_SETSIZE - 1, out);  // too far to be looked at
  CHECK_EQ(select((int)more.rlim_cur, NULL, out, NULL, NULL), 1);
  CHECK(FD_ISSET(ends[1], out));
  CHECK_OK(munmap(pages, kPage));
  CHECK_OK(setrlimit(RLIMIT_NOFILE, &old));
  Say("sets that end");
}

static struct pollfd shared[2];

static void* ChangeShared(void* writing) {
  SleepMs(60);
  shared[1] = (struct pollfd){-1, POLLPRI, 0};
  CHECK_EQ(write(*(int*)writing, "x", 1), 1);
  return NULL;
}

// Only what is found is stored, not the question.
static void Shared(int* ends) {
  int other[2];
  CHECK_OK(pipe(other));
  shared[0] = (struct pollfd){ends[0], POLLIN, 0};
  shared[1] = (struct pollfd){other[0], POLLIN, 0};
  pthread_t thread = StartThread(ChangeShared, &ends[1]);
  CHECK_EQ(poll(shared, 2, -1), 1);
  JoinThread(thread);
  CHECK_EQ(shared[0].revents, POLLIN);
  CHECK_EQ(shared[1].fd, -1);
  CHECK_EQ(shared[1].events, POLLPRI);
  char byte;
  CHECK_EQ(read(ends[0], &byte, 1), 1);
  CHECK_OK(close(other[0]) | close(other[1]));
  Say("poll of a shared array");
}

static void Timeouts(void) {
  struct timespec time = TimespecMs(30);
  int64_t start = NowNs(CLOCK_MONOTONIC);
  CHECK_EQ(RawPpoll(NULL, 0, &time, NULL), 0);
  CHECK(NowNs(CLOCK_MONOTONIC) - start >= 30000000);
  CHECK(time.tv_sec == 0 && time.tv_nsec == 0);
  struct timeval old = {0, 20000};
  CHECK_EQ(syscall(SYS_select, 0, NULL, NULL, NULL, &old), 0);
  CHECK(old.tv_sec == 0 && old.tv_usec == 0);
  struct timeval bad = {0, -1};
  CHECK_ERRNO(syscall(SYS_select, 0, NULL, NULL, NULL, &bad), EINVAL);
  time = (struct timespec){0, 1000000000};
  CHECK_ERRNO(RawPpoll(NULL, 0, &time, NULL), EINVAL);
  // What is ready at once leaves the rest of the time.
  struct pollfd closed = {900, POLLIN, 0};
  time = (struct timespec){INT64_MAX, 0};
  CHECK_EQ(RawPpoll(&closed, 1, &time, NULL), 1);
  time = (struct timespec){100, 0};
  CHECK_EQ(RawPpoll(&closed, 1, &time, NULL), 1);
  CHECK(time.tv_sec == 99 && time.tv_nsec > 0);
  Say("timeouts");
}

static void Interrupted(const int* ends) {
  struct pollfd set = {ends[0], POLLIN, 0};
  struct timespec time = {100, 0};
  pthread_t thread = StartThread(Interrupt, (void*)pthread_self());
  CHECK_ERRNO(RawPpoll(&set, 1, &time, NULL), EINTR);
  CHECK(time.tv_sec == 99);
  JoinThread(thread);
  CHECK_EQ(atomic_exchange(&caught, 0), SIGUSR1);
  // SA_RESTART is not for these calls.
  thread = StartThread(Interrupt, (void*)pthread_self());
  CHECK_ERRNO(poll(&set, 1, -1), EINTR);
  JoinThread(thread);
  thread = StartThread(Interrupt, (void*)pthread_self());
  CHECK_ERRNO(select(0, NULL, NULL, NULL, NULL), EINTR);
  JoinThread(thread);
  CHECK_EQ(atomic_exchange(&caught, 0), 2 * SIGUSR1);
  Say("interrupted");
}

static void Masked(const int* ends) {
  struct pollfd set = {ends[0], POLLIN, 0}, writable = {ends[1], POLLOUT, 0};
  sigset_t none, now;
  sigemptyset(&none);
  BlockSignals(SIGUSR1, SIGUSR1);
  CHECK_ZERO(pthread_kill(pthread_self(), SIGUSR1));
  struct timespec time = {0, 0};
  CHECK_EQ(poll(&set, 1, 10), 0);  // blocked
  CHECK_EQ(atomic_load(&caught), 0);
  CHECK_EQ(RawPpoll(&writable, 1, NULL, &none), 1);  // what is ready comes first
  CHECK_EQ(atomic_load(&caught), 0);
  CHECK_ERRNO(RawPpoll(&set, 1, &time, &none), EINTR);
  CHECK_EQ(atomic_exchange(&caught, 0), SIGUSR1);
  CHECK_ZERO(pthread_sigmask(SIG_SETMASK, NULL, &now));
  CHECK(sigismember(&now, SIGUSR1));  // the old mask is back
  pthread_t thread = StartThread(Interrupt, (void*)pthread_self());
  CHECK_ERRNO(pselect(0, NULL, NULL, NULL, NULL, &none), EINTR);
  JoinThread(thread);
  CHECK_EQ(atomic_exchange(&caught, 0), SIGUSR1);
  CHECK_ERRNO(syscall(SYS_ppoll, &set, 1, NULL, &none, 4), EINVAL);
  UnblockSignals(SIGUSR1, SIGUSR1);
  Say("masks");
}

int main(void) {
  OnSignal(SIGUSR1, Catch, SA_RESTART);
  int ends[2];
  CHECK_OK(pipe(ends));
  Ready(ends);
  Sets(ends);
  SetsThatEnd(ends);
  Shared(ends);
  Timeouts();
  Interrupted(ends);
  Masked(ends);
  return 0;
}
