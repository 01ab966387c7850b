// A day of seconds, compressed: timers that expire 86,400 times, by signals that come late and say
// how many they stand for. The sum is what the clock says, to the last one.
#include "tests/guest/guest.h"

enum { kExpirations = 86400, kTimers = 4 };

static atomic_long counted[kTimers];
static atomic_int handled[kTimers];

static void OnTimer(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  CHECK_EQ(info->si_code, SI_TIMER);
  int which = info->si_value.sival_int;
  atomic_fetch_add(&counted[which], 1 + info->si_overrun);
  atomic_fetch_add(&handled[which], 1);
}

int main(void) {
  static const long kIntervals[kTimers] = {10000, 12500, 17000, 25000};  // ns
  int signal_number = SIGRTMIN;
  OnSignal(signal_number, OnTimer, SA_RESTART);
  BlockSignals(signal_number, 0);
  timer_t timers[kTimers];
  int64_t start = NowNs(CLOCK_MONOTONIC) + 10000000;
  for (int i = 0; i < kTimers; i++) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = signal_number};
    event.sigev_value.sival_int = i;
    CHECK_OK(timer_create(CLOCK_MONOTONIC, &event, &timers[i]));
    struct itimerspec when = {{0, kIntervals[i]}, {start / 1000000000, start % 1000000000}};
    CHECK_OK(timer_settime(timers[i], TIMER_ABSTIME, &when, NULL));
  }
  // For a while nobody takes them; then they come in between everything else.
  while (NowNs(CLOCK_MONOTONIC) < start + 100000000) sched_yield();
  UnblockSignals(signal_number, 0);
  int64_t day = start + kExpirations * kIntervals[0];
  while (NowNs(CLOCK_MONOTONIC) < day) SleepMs(1);
  BlockSignals(signal_number, 0);
  int64_t seen_before[kTimers], before = NowNs(CLOCK_MONOTONIC);
  for (int i = 0; i < kTimers; i++) seen_before[i] = atomic_load(&counted[i]);
  // The last of each: pending now, or about to be.
  SleepMs(20);
  sigset_t set = SignalSet(signal_number, 0);
  for (int left = kTimers; left > 0; left--) {
    siginfo_t info;
    int64_t earliest = NowNs(CLOCK_MONOTONIC);
    CHECK_EQ(sigwaitinfo(&set, &info), signal_number);
    int64_t latest = NowNs(CLOCK_MONOTONIC);
    int which = info.si_value.sival_int;
    CHECK_OK(timer_delete(timers[which]));
    int64_t total = seen_before[which] + 1 + info.si_overrun;
    CHECK(total >= (earliest - start) / kIntervals[which] + 1);
    CHECK(total <= (latest - start) / kIntervals[which] + 1);
    CHECK(seen_before[which] <= (before - start) / kIntervals[which] + 1);
    CHECK(handled[which] > 1);
  }
  Say("none lost of %d", kExpirations);
  return 0;
}
