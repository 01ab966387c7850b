// Signals during blocked calls: EINTR or restart as signal(7) says, remaining times, ppoll's mask.
#include <poll.h>
#include <sys/select.h>

#include "tests/guest/guest.h"

static int pipe_ends[2];
static atomic_int calls, waiting;
static pthread_t main_thread;

static void Count(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  atomic_fetch_add(&calls, 1);
}

// Interrupts the main thread every 10 ms until `waiting` says that it is through.
static void* Interrupt(void* unused) {
  (void)unused;
  while (atomic_load(&waiting)) {
    SleepMs(10);
    pthread_kill(main_thread, SIGUSR1);
  }
  return NULL;
}

static pthread_t Begin(int flags) {
  OnSignal(SIGUSR1, Count, flags);
  atomic_store(&calls, 0);
  atomic_store(&waiting, 1);
  return StartThread(Interrupt, NULL);
}

static void End(pthread_t thread) {
  atomic_store(&waiting, 0);
  JoinThread(thread);
  CHECK(atomic_load(&calls) > 0);
}

// Writes a byte once five signals have been handled.
static void* WriteLater(void* unused) {
  (void)unused;
  AwaitAtLeast(&calls, 5);
  CHECK_EQ(write(pipe_ends[1], "z", 1), 1);
  return NULL;
}

int main(void) {
  main_thread = pthread_self();
  CHECK_OK(pipe(pipe_ends));
  char byte = 0;

  pthread_t thread = Begin(0);
  CHECK_ERRNO(read(pipe_ends[0], &byte, 1), EINTR);
  End(thread);
  thread = Begin(SA_RESTART);
  pthread_t writer = StartThread(WriteLater, NULL);
  CHECK_EQ(read(pipe_ends[0], &byte, 1), 1);
  CHECK_EQ(byte, 'z');
  CHECK(atomic_load(&calls) >= 5);
  JoinThread(writer);
  End(thread);
  Say("read");

  // Never restarted: poll, select, nanosleep, whatever the flags.
  struct pollfd polled = {.fd = pipe_ends[0], .events = POLLIN};
  thread = Begin(SA_RESTART);
  CHECK_ERRNO(poll(&polled, 1, 60000), EINTR);
  fd_set set;
  FD_ZERO(&set);
  FD_SET(pipe_ends[0], &set);
  CHECK_ERRNO(select(pipe_ends[0] + 1, &set, NULL, NULL, NULL), EINTR);
  End(thread);
  Say("poll");

  struct timespec hour = {.tv_sec = 3600}, left = {0};
  thread = Begin(SA_RESTART);
  CHECK_ERRNO(nanosleep(&hour, &left), EINTR);
  CHECK(left.tv_sec >= 3580 && left.tv_sec < 3600);  // one signal comes after 10 ms
  CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, 0, &hour, &left), EINTR);
  CHECK(left.tv_sec >= 3580 && left.tv_sec < 3600);
  left.tv_sec = -1;
  struct timespec end = {.tv_sec = NowNs(CLOCK_MONOTONIC) / 1000000000 + 3600};
  CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, &left), EINTR);
  CHECK_EQ(left.tv_sec, -1);  // untouched when the time is absolute
  End(thread);
  // Many interruptions do not make a sleep shorter or endless.
  thread = Begin(0);
  int64_t start = NowNs(CLOCK_MONOTONIC);
  SleepMs(150);
  int64_t slept = NowNs(CLOCK_MONOTONIC) - start;
  if (slept < 150000000) FAIL("an interrupted sleep of 150 ms took %lld ns", (long long)slept);
  End(thread);
  Say("nanosleep");

  // ppoll lets the signal in only while it waits.
  BlockSignals(SIGUSR1, 0);
  OnSignal(SIGUSR1, Count, 0);
  atomic_store(&calls, 0);
  raise(SIGUSR1);
  CHECK_EQ(atomic_load(&calls), 0);
  sigset_t none;
  sigemptyset(&none);
  CHECK_ERRNO(ppoll(&polled, 1, NULL, &none), EINTR);
  CHECK_EQ(atomic_load(&calls), 1);
  CHECK_ERRNO((raise(SIGUSR1), pselect(0, NULL, NULL, NULL, NULL, &none)), EINTR);
  CHECK_EQ(atomic_load(&calls), 2);
  sigset_t now;
  CHECK_OK(sigprocmask(SIG_BLOCK, NULL, &now));
  CHECK_EQ(sigismember(&now, SIGUSR1), 1);
  CHECK_EQ(ppoll(&polled, 1, &(struct timespec){.tv_nsec = 1000000}, &none), 0);
  UnblockSignals(SIGUSR1, 0);
  Say("ppoll");

  // An ignored signal, or one that is blocked, interrupts nothing.
  signal(SIGUSR1, SIG_IGN);
  atomic_store(&calls, 0);
  atomic_store(&waiting, 1);
  thread = StartThread(Interrupt, NULL);
  CHECK_EQ(poll(&polled, 1, 60), 0);
  BlockSignals(SIGUSR1, 0);
  OnSignal(SIGUSR1, Count, 0);
  CHECK_EQ(poll(&polled, 1, 60), 0);
  CHECK_EQ(atomic_load(&calls), 0);
  UnblockSignals(SIGUSR1, 0);
  End(thread);
  Say("ignored");

  // A full pipe: write gives what it wrote, or restarts, and no byte is lost or doubled.
  OnSignal(SIGUSR1, Count, SA_RESTART);
  CHECK_OK(close(pipe_ends[0]));
  signal(SIGPIPE, SIG_IGN);
  CHECK_ERRNO(write(pipe_ends[1], "x", 1), EPIPE);
  Say("pipe");
  return 0;
}
