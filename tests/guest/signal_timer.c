// alarm and setitimer: one shot, periodic, remaining time, cancelled; SIGALRM ends a pause; beside
// a timer of timer_create; SIGPROF comes to who runs.
#include <sys/time.h>

#include "tests/guest/guest.h"

static volatile int calls, code;

static void Count(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)context;
  calls++;
  code = info->si_code;
}

static void Await(int wanted) {
  while (calls < wanted) SleepMs(2);
}

// Of two that send SIGALRM the second finds the first one's pending; whoever takes that sets the
// interval timer going.
static void Merged(void) {
  timer_t first;
  siginfo_t info;
  BlockSignals(SIGALRM, 0);
  sigset_t set = SignalSet(SIGALRM, 0);
  CHECK_OK(timer_create(CLOCK_MONOTONIC, NULL, &first));
  CHECK_OK(timer_settime(first, 0, &(struct itimerspec){.it_value = {0, 1000000}}, NULL));
  SleepMs(50);
  const struct itimerval often = {{0, 5000}, {0, 5000}};
  CHECK_OK(setitimer(ITIMER_REAL, &often, NULL));
  SleepMs(50);
  CHECK_EQ(sigwaitinfo(&set, &info), SIGALRM);
  CHECK_EQ(info.si_code, SI_TIMER);
  GuestSnapshot();
  for (int i = 0; i < 3; i++) {
    CHECK_EQ(sigtimedwait(&set, &info, &(struct timespec){.tv_sec = 10}), SIGALRM);
    CHECK_EQ(info.si_code, SI_KERNEL);
  }
  CHECK_OK(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL));
  CHECK_OK(timer_delete(first));
  UnblockSignals(SIGALRM, 0);
  Say("merged");
}

// The last number is a program's as all others.
static void LastNumber(void) {
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMAX};
  event.sigev_value.sival_int = 77;
  siginfo_t info;
  BlockSignals(SIGRTMAX, 0);
  sigset_t set = SignalSet(SIGRTMAX, 0);
  CHECK_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
  CHECK_OK(timer_settime(timer, 0, &(struct itimerspec){.it_value = {0, 1000000}}, NULL));
  SleepMs(20);
  GuestSnapshot();
  CHECK_EQ(sigwaitinfo(&set, &info), SIGRTMAX);
  CHECK_EQ(info.si_code, SI_TIMER);
  CHECK_EQ(info.si_value.sival_int, 77);
  CHECK_OK(sigqueue(getpid(), SIGRTMAX, (union sigval){.sival_int = 78}));
  CHECK_EQ(sigwaitinfo(&set, &info), SIGRTMAX);
  CHECK_EQ(info.si_value.sival_int, 78);
  CHECK_OK(timer_delete(timer));
  Say("the last number");
}

static atomic_int main_tid, of_main, of_others;

static void CountThread(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  atomic_fetch_add(OwnTid() == main_tid ? &of_main : &of_others, 1);
}

static void* Work(void* unused) {
  while (atomic_load(&of_main) + atomic_load(&of_others) < 40) {
  }
  return unused;
}

// The process's time runs out where it is spent, and who sleeps meanwhile is not woken.
static void Spender(void) {
  main_tid = OwnTid();
  OnSignal(SIGPROF, CountThread, SA_RESTART);
  pthread_t thread = StartThread(Work, NULL);
  const struct itimerval often = {{0, 10000}, {0, 10000}};
  CHECK_OK(setitimer(ITIMER_PROF, &often, NULL));
  SleepMs(30);
  GuestSnapshot();
  JoinThread(thread);
  CHECK_OK(setitimer(ITIMER_PROF, &(struct itimerval){0}, NULL));
  if (of_others < 3 * of_main) FAIL("%d of %d came to who slept", of_main, of_main + of_others);
  Say("who spends");
}

int main(void) {
  OnSignal(SIGALRM, Count, 0);
  OnSignal(SIGVTALRM, Count, 0);
  struct itimerval timer = {.it_value = {.tv_usec = 50000}}, old;
  int64_t start = NowNs(CLOCK_MONOTONIC);
  CHECK_OK(setitimer(ITIMER_REAL, &timer, NULL));
  CHECK_ERRNO(pause(), EINTR);
  CHECK_EQ(calls, 1);
  CHECK_EQ(code, SI_KERNEL);
  if (NowNs(CLOCK_MONOTONIC) - start < 50000000) FAIL("a timer of 50 ms went off too early");
  CHECK_OK(getitimer(ITIMER_REAL, &old));
  CHECK_EQ(old.it_value.tv_sec + old.it_value.tv_usec, 0);
  Say("one shot");

  timer.it_interval.tv_usec = 5000;
  timer.it_value.tv_usec = 5000;
  CHECK_OK(setitimer(ITIMER_REAL, &timer, NULL));
  Await(10);
  CHECK_OK(setitimer(ITIMER_REAL, &(struct itimerval){0}, &old));
  CHECK_EQ(old.it_interval.tv_usec, 5000);
  int stopped = calls;
  SleepMs(30);
  CHECK(calls <= stopped + 1);  // one may have been on its way
  GuestSnapshot();
  Say("periodic");

  stopped = calls;
  CHECK_EQ(alarm(1000), 0);
  CHECK_OK(getitimer(ITIMER_REAL, &old));
  CHECK(old.it_value.tv_sec >= 900 && old.it_value.tv_sec <= 1000);
  unsigned left = alarm(0);
  CHECK(left > 900 && left <= 1000);
  CHECK_EQ(alarm(0), 0);
  timer = (struct itimerval){.it_value = {.tv_usec = 1000000}};
  CHECK_ERRNO(setitimer(ITIMER_REAL, &timer, NULL), EINVAL);
  CHECK_ERRNO(setitimer(77, &old, NULL), EINVAL);
  CHECK_EQ(calls, stopped);
  Say("cancelled");
  Merged();
  LastNumber();
  Spender();
  return 0;
}
