// A day's worth of timers compressed: 86,400 expirations of every kind of
// periodic timer, taken at a slow pace by their overrun counts, while others
// arm one-shots and sleep. Every count is what the clock says, over a snapshot
// too.
//
// No signal is taken by a handler faster than every few milliseconds: a timer
// that is not taken costs nothing, so that nothing here can starve.
// emulated: no, its clocks are those of a slow and uneven machine
#include <sys/time.h>
#include <sys/timerfd.h>

#include "tests/guest/guest.h"

enum { kExpirations = 86400, kTimers = 4, kTimerFds = 2, kPeriodic = kTimers + kTimerFds };
enum { kAlarms = 250, kNaps = 250, kNapMs = 4, kPaceMs = 2 };

// The fastest makes a day's seconds in 2.6 s.
static const long kIntervals[kPeriodic] = {30000, 37500, 51000, 75000, 31000, 44000};  // ns
static const clockid_t kClocks[kPeriodic] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME,  CLOCK_MONOTONIC,
                                             CLOCK_MONOTONIC, CLOCK_MONOTONIC, CLOCK_MONOTONIC};

static timer_t timers[kTimers];
static int timer_fds[kTimerFds];
static int64_t starts[kPeriodic], counts[kPeriodic];
static atomic_int alarms, naps;
static int resumed;

static struct itimerspec Every(int64_t start, long interval) {
  return (struct itimerspec){{0, interval}, {start / 1000000000, start % 1000000000}};
}

static void StartPeriodic(void) {
  for (int i = 0; i < kPeriodic; i++) {
    starts[i] = NowNs(kClocks[i]) + 5000000;
    struct itimerspec when = Every(starts[i], kIntervals[i]);
    if (i >= kTimers) {
      int fd = timerfd_create(kClocks[i], TFD_NONBLOCK);
      CHECK_OK(fd);
      CHECK_OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL));
      timer_fds[i - kTimers] = fd;
      continue;
    }
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + i};
    event.sigev_value.sival_int = i;
    CHECK_OK(timer_create(kClocks[i], &event, &timers[i]));
    CHECK_OK(timer_settime(timers[i], TIMER_ABSTIME, &when, NULL));
  }
}

// What has expired since it was last asked for; 0: nothing has.
static int64_t TakeSignal(int i) {
  sigset_t set = SignalSet(SIGRTMIN + i, 0);
  siginfo_t info;
  int number = sigtimedwait(&set, &info, &(struct timespec){0});
  if (number < 0) {
    CHECK_EQ(errno, EAGAIN);
    return 0;
  }
  CHECK_EQ(number, SIGRTMIN + i);
  CHECK_EQ(info.si_code, SI_TIMER);
  CHECK_EQ(info.si_value.sival_int, i);
  CHECK(info.si_overrun >= 0);
  return 1 + (int64_t)info.si_overrun;
}

static int64_t TakeRead(int i) {
  uint64_t expirations = 0;
  ssize_t got = read(timer_fds[i - kTimers], &expirations, sizeof expirations);
  if (got < 0) {
    CHECK_EQ(errno, EAGAIN);
    return 0;
  }
  CHECK_EQ(got, sizeof expirations);
  return (int64_t)expirations;
}

// Whoever took something has had all until then, and nothing that is still to
// come.
static void Take(int i) {
  int64_t earliest = NowNs(kClocks[i]);
  int64_t taken = i < kTimers ? TakeSignal(i) : TakeRead(i);
  int64_t latest = NowNs(kClocks[i]);
  counts[i] += taken;
  if (taken == 0) return;
  // The host does not tell to the nanosecond when a timerfd expires that is to
  // go on elsewhere.
  int slack = i >= kTimers && resumed ? 1 : 0;
  long long least = (earliest - starts[i]) / kIntervals[i] + 1 - slack;
  long long most = (latest - starts[i]) / kIntervals[i] + 1 + slack;
  if (counts[i] < least || counts[i] > most) {
    FAIL("timer %d: %lld expirations, between %lld and %lld are due", i, (long long)counts[i],
         least, most);
  }
}

// One-shots, each armed when the one before has come.
static void OnAlarm(int number, siginfo_t *info, void *context) {
  (void)number, (void)info, (void)context;
  if (atomic_fetch_add(&alarms, 1) + 1 == kAlarms) return;
  struct itimerval next = {{0, 0}, {0, 1000 * kNapMs}};
  CHECK_OK(setitimer(ITIMER_REAL, &next, NULL));
}

static void *Alarms(void *unused) {
  (void)unused;
  UnblockSignals(SIGALRM, 0);
  struct itimerval first = {{0, 0}, {0, 1000}};
  CHECK_OK(setitimer(ITIMER_REAL, &first, NULL));
  while (atomic_load(&alarms) < kAlarms) SleepMs(20);
  struct itimerval left;
  CHECK_OK(getitimer(ITIMER_REAL, &left));
  CHECK_EQ(left.it_value.tv_sec, 0);
  CHECK_EQ(left.it_value.tv_usec, 0);
  return NULL;
}

// Sleeps, in turn for a time and until a time, none of which ends early.
static void *Naps(void *unused) {
  for (int i = 0; i < kNaps; i++) {
    int64_t wake = NowNs(CLOCK_MONOTONIC) + kNapMs * 1000000;
    struct timespec until = {wake / 1000000000, wake % 1000000000};
    if (i % 2 == 0) {
      CHECK_ZERO(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL));
    } else {
      SleepMs(kNapMs);
    }
    CHECK(NowNs(CLOCK_MONOTONIC) >= wake);
    atomic_fetch_add(&naps, 1);
  }
  return unused;
}

static void TakeUntil(int expirations) {
  while (counts[0] < expirations) {
    for (int i = 0; i < kPeriodic; i++) Take(i);
    SleepMs(kPaceMs);
  }
}

int main(void) {
  for (int i = 0; i < kTimers; i++) BlockSignals(SIGRTMIN + i, SIGALRM);
  OnSignal(SIGALRM, OnAlarm, SA_RESTART);
  StartPeriodic();
  pthread_t alarm_thread = StartThread(Alarms, NULL), nap_thread = StartThread(Naps, NULL);
  TakeUntil(kExpirations / 4);
  // All in flight: some pending, some taken, one-shots and sleeps under way.
  resumed = GuestSnapshot();
  TakeUntil(kExpirations);
  JoinThread(alarm_thread);
  JoinThread(nap_thread);
  CHECK_EQ(alarms, kAlarms);
  CHECK_EQ(naps, kNaps);
  // At rest nothing is left behind: what comes last is all that was still due.
  for (int i = 0; i < kPeriodic; i++) {
    SleepMs(1);
    Take(i);
    CHECK(counts[i] > kExpirations / 3);
  }
  Say("none of %d lost", kExpirations);
  return 0;
}
