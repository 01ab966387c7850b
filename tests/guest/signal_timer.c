// alarm and setitimer: one shot, periodic, remaining time, cancelled; SIGALRM ends a pause.
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
  return 0;
}
