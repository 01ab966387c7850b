// Timers go on where they were: what remained remains, whether seconds or an hour; a signal that
// was pending is pending once, and its periodic timer goes on when it is taken; processor time that
// was spent stays spent.
// emulated: no, its clocks are those of a slow and uneven machine
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>

#include "tests/guest/guest.h"

static const int64_t kMs = 1000000, kHour = 3600 * 1000000000ll;

static timer_t Create(clockid_t clock, int number, int value) {
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = number};
  event.sigev_value.sival_int = value;
  timer_t timer;
  CHECK_OK(timer_create(clock, &event, &timer));
  return timer;
}

static void Set(timer_t timer, int flags, int64_t value, int64_t interval) {
  struct itimerspec wanted = {{interval / 1000000000, interval % 1000000000},
                              {value / 1000000000, value % 1000000000}};
  CHECK_OK(timer_settime(timer, flags, &wanted, NULL));
}

static int64_t Left(timer_t timer) {
  struct itimerspec now;
  CHECK_OK(timer_gettime(timer, &now));
  return now.it_value.tv_sec * 1000000000ll + now.it_value.tv_nsec;
}

static siginfo_t Wait(int number) {
  sigset_t set = SignalSet(number, 0);
  siginfo_t info;
  CHECK_EQ(sigwaitinfo(&set, &info), number);
  return info;
}

// What a deleted timer has sent is dropped or not, as the kernel's version has it.
static void Drain(int number) {
  sigset_t set = SignalSet(number, 0);
  while (sigtimedwait(&set, NULL, &(struct timespec){0}) == number) {
  }
}

static void Pause(void) {
  GuestSnapshot();
  SleepMs(30);  // the clock stood still meanwhile, whatever the wall says
}

static void Remaining(void) {
  timer_t hour = Create(CLOCK_REALTIME, SIGUSR1, 1);
  timer_t boot = Create(CLOCK_BOOTTIME, SIGUSR1, 2);
  timer_t short_one = Create(CLOCK_MONOTONIC, SIGUSR2, 3);
  timer_t off = Create(CLOCK_MONOTONIC, SIGUSR2, 4);
  Set(hour, 0, kHour, 7);
  Set(boot, TIMER_ABSTIME, NowNs(CLOCK_BOOTTIME) + kHour, 0);
  int64_t begin = NowNs(CLOCK_MONOTONIC);
  Set(short_one, 0, 200 * kMs, 0);
  for (int i = 0; i < 2; i++) {
    int64_t before = Left(hour);
    Pause();
    int64_t after = Left(hour);
    CHECK(after < before && after > before - 60000 * kMs);
    CHECK(Left(boot) > kHour - 60000 * kMs && Left(boot) <= kHour);
  }
  struct itimerspec now;
  CHECK_OK(timer_gettime(hour, &now));
  CHECK_EQ(now.it_interval.tv_nsec, 7);
  CHECK_EQ(Wait(SIGUSR2).si_value.sival_int, 3);
  CHECK(NowNs(CLOCK_MONOTONIC) - begin >= 200 * kMs);
  CHECK_EQ(Left(off), 0);
  Set(off, 0, 1, 0);
  CHECK_EQ(Wait(SIGUSR2).si_value.sival_int, 4);
  timer_t next = Create(CLOCK_MONOTONIC, SIGUSR2, 5);
  for (timer_t *timer = (timer_t[]){hour, boot, short_one, off, next, 0}, *end = timer + 5;
       timer < end; timer++) {
    CHECK_OK(timer_delete(*timer));
  }
  Say("remaining");
}

static void Pending(void) {
  timer_t once = Create(CLOCK_MONOTONIC, SIGUSR1, 1);
  timer_t often = Create(CLOCK_MONOTONIC, SIGUSR1, 2);
  Set(once, 0, 1, 0);
  SleepMs(5);
  int64_t start = NowNs(CLOCK_MONOTONIC) + kMs;
  Set(often, TIMER_ABSTIME, start, kMs);
  SleepMs(20);
  Pause();
  Pause();
  siginfo_t info = Wait(SIGUSR1);
  CHECK_EQ(info.si_code, SI_TIMER);
  CHECK_EQ(info.si_value.sival_int, 1);
  info = Wait(SIGUSR1);
  CHECK_EQ(info.si_value.sival_int, 2);
  CHECK(info.si_overrun >= 15);
  CHECK_EQ(timer_getoverrun(often), info.si_overrun);
  int64_t count = 1 + info.si_overrun;
  for (int i = 0; i < 5; i++) {
    info = Wait(SIGUSR1);
    CHECK_EQ(info.si_value.sival_int, 2);
    count += 1 + info.si_overrun;
    CHECK(count <= (NowNs(CLOCK_MONOTONIC) - start) / kMs + 1);
    if (i == 2) GuestSnapshot();
  }
  CHECK_OK(timer_delete(often));
  CHECK_OK(timer_delete(once));
  Drain(SIGUSR1);
  Say("pending");
}

static int64_t Microseconds(struct timeval time) { return time.tv_sec * 1000000ll + time.tv_usec; }

static void Intervals(void) {
  struct itimerval now, timer = {{0, 20000}, {0, 100000}};
  CHECK_OK(setitimer(ITIMER_REAL, &timer, NULL));
  timer = (struct itimerval){{5, 0}, {3600, 0}};
  CHECK_OK(setitimer(ITIMER_PROF, &timer, NULL));
  CHECK_OK(setitimer(ITIMER_VIRTUAL, &timer, NULL));
  Pause();
  for (int which = ITIMER_VIRTUAL; which <= ITIMER_PROF; which++) {
    CHECK_OK(getitimer(which, &now));
    CHECK_EQ(now.it_interval.tv_sec, 5);
    CHECK(Microseconds(now.it_value) > 3590000000 && Microseconds(now.it_value) <= 3600100000);
  }
  for (int i = 0; i < 4; i++) {
    Wait(SIGALRM);
    if (i == 1) SleepMs(50);  // the next one is pending
    if (i < 3) GuestSnapshot();
  }
  CHECK_OK(getitimer(ITIMER_REAL, &now));
  CHECK_EQ(now.it_interval.tv_usec, 20000);
  CHECK_EQ(alarm(1000), 1);  // what was left of 20 ms
  Pause();
  unsigned left = alarm(0);
  CHECK(left > 900 && left <= 1000);
  Say("intervals");
}

static void Burn(int64_t ns) {
  int64_t end = NowNs(CLOCK_THREAD_CPUTIME_ID) + ns;
  while (NowNs(CLOCK_THREAD_CPUTIME_ID) < end) {
  }
}

static atomic_int stage, ready;

static void* Other(void* unused) {
  (void)unused;
  clockid_t clock;
  CHECK_ZERO(pthread_getcpuclockid(pthread_self(), &clock));
  Burn(30 * kMs);
  int64_t before = NowNs(CLOCK_THREAD_CPUTIME_ID);
  ready = 1;
  AwaitAtLeast(&stage, 1);
  CHECK(NowNs(CLOCK_THREAD_CPUTIME_ID) >= before);
  CHECK(NowNs(clock) >= before);
  return NULL;
}

static void ProcessorTime(void) {
  pthread_t thread = StartThread(Other, NULL);
  AwaitAtLeast(&ready, 1);
  clockid_t others;
  CHECK_ZERO(pthread_getcpuclockid(thread, &others));
  timer_t timer = Create(CLOCK_THREAD_CPUTIME_ID, SIGUSR1, 1);
  Set(timer, TIMER_ABSTIME, NowNs(CLOCK_THREAD_CPUTIME_ID) + 60 * kMs, 0);
  for (int i = 0; i < 2; i++) {
    int64_t process = NowNs(CLOCK_PROCESS_CPUTIME_ID), own = NowNs(CLOCK_THREAD_CPUTIME_ID);
    int64_t other = NowNs(others);
    struct rusage before, after;
    struct tms spent, now;
    CHECK_OK(getrusage(RUSAGE_SELF, &before));
    CHECK_OK(times(&spent));
    GuestSnapshot();
    CHECK(NowNs(CLOCK_PROCESS_CPUTIME_ID) >= process);
    CHECK(NowNs(CLOCK_THREAD_CPUTIME_ID) >= own);
    CHECK(NowNs(others) >= other && NowNs(others) >= 30 * kMs);
    CHECK_OK(getrusage(RUSAGE_SELF, &after));
    // User and system time are estimates: their sum is what counts.
    CHECK(Microseconds(after.ru_utime) + Microseconds(after.ru_stime) + 20000 >=
          Microseconds(before.ru_utime) + Microseconds(before.ru_stime));
    CHECK_OK(times(&now));
    CHECK(now.tms_utime + now.tms_stime + 2 >= spent.tms_utime + spent.tms_stime);
    Burn(10 * kMs);
  }
  CHECK(Left(timer) > 0 && Left(timer) <= 50 * kMs);
  sigset_t pending;
  do {
    Burn(5 * kMs);
    CHECK_OK(sigpending(&pending));
  } while (!sigismember(&pending, SIGUSR1));
  CHECK_EQ(Wait(SIGUSR1).si_code, SI_TIMER);
  CHECK_OK(timer_delete(timer));
  stage = 1;
  JoinThread(thread);
  Say("processor time");
}

int main(void) {
  BlockSignals(SIGUSR1, SIGUSR2);
  BlockSignals(SIGALRM, 0);
  Remaining();
  Pending();
  Intervals();
  ProcessorTime();
  return 0;
}
