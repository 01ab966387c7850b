// variants: dynamic static
// timer_create and its family: every way to be told, every clock, overruns, pending signals of
// timers that are set anew or deleted, errors. Signals that are missed are counted: none is lost.
// emulated: no, its clocks are those of a slow and uneven machine
#include <sys/syscall.h>
#include <sys/time.h>

#include "tests/guest/guest.h"

#ifndef SIGEV_THREAD_ID
#define SIGEV_THREAD_ID 4
#endif
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static const long kMs = 1000000;

// The kernel's own calls: libc answers for some errors itself.
static int Create(clockid_t clock, int how, int number, int value) {
  struct sigevent event = {.sigev_notify = how, .sigev_signo = number};
  event.sigev_value.sival_int = value;
  int id = -1;
  CHECK_OK(syscall(SYS_timer_create, clock, &event, &id));
  return id;
}

static void Set(int id, int flags, int64_t value, int64_t interval) {
  struct itimerspec wanted = {{interval / 1000000000, interval % 1000000000},
                              {value / 1000000000, value % 1000000000}};
  CHECK_OK(syscall(SYS_timer_settime, id, flags, &wanted, NULL));
}

static struct itimerspec Get(int id) {
  struct itimerspec now;
  CHECK_OK(syscall(SYS_timer_gettime, id, &now));
  return now;
}

static int64_t Left(int id) {
  struct itimerspec now = Get(id);
  return now.it_value.tv_sec * 1000000000ll + now.it_value.tv_nsec;
}

static siginfo_t Wait(int number) {
  sigset_t set = SignalSet(number, 0);
  siginfo_t info = {0};
  CHECK_EQ(sigwaitinfo(&set, &info), number);
  return info;
}

// What a deleted timer has sent is dropped or not, as the kernel's version has it.
static void Drain(int number) {
  sigset_t set = SignalSet(number, 0);
  while (sigtimedwait(&set, NULL, &(struct timespec){0}) == number) {
  }
}

static bool NonePending(int number) {
  sigset_t pending;
  CHECK_OK(sigpending(&pending));
  return !sigismember(&pending, number);
}

static void OneShot(clockid_t clock) {
  int id = Create(clock, SIGEV_SIGNAL, SIGUSR1, 42);
  CHECK_EQ(Left(id), 0);
  int64_t before = NowNs(CLOCK_MONOTONIC);
  Set(id, 0, 20 * kMs, 0);
  CHECK(Left(id) > 0 && Left(id) <= 20 * kMs);
  siginfo_t info = Wait(SIGUSR1);
  CHECK(NowNs(CLOCK_MONOTONIC) - before >= 20 * kMs);
  CHECK_EQ(info.si_code, SI_TIMER);
  CHECK_EQ(info.si_value.sival_int, 42);
  CHECK_EQ(info.si_overrun, 0);
  CHECK_EQ(Left(id), 0);
  Set(id, TIMER_ABSTIME, NowNs(clock) + 10 * kMs, 0);
  Wait(SIGUSR1);
  Set(id, TIMER_ABSTIME, 1, 0);  // long past
  Wait(SIGUSR1);
  Set(id, 0, 3600 * 1000 * kMs, 5 * kMs);
  CHECK(Left(id) > 3500 * 1000 * kMs);
  CHECK_EQ(Get(id).it_interval.tv_nsec, 5 * kMs);
  Set(id, 0, 0, 5 * kMs);
  CHECK_EQ(Left(id), 0);
  CHECK_EQ(Get(id).it_interval.tv_nsec, 0);
  CHECK_OK(syscall(SYS_timer_delete, id));
  CHECK_ERRNO(syscall(SYS_timer_delete, id), EINVAL);
}

// Expiries and overruns add up to the time that has passed.
static void Overruns(void) {
  const int64_t period = 200000;
  int id = Create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 7);
  int64_t start = NowNs(CLOCK_MONOTONIC) + 5 * kMs;
  Set(id, TIMER_ABSTIME, start, period);
  int64_t count = 0, last = 0;
  for (int i = 0; i < 100; i++) {
    if (i % 25 == 0) SleepMs(10);
    siginfo_t info = Wait(SIGUSR1);
    int64_t low = (NowNs(CLOCK_MONOTONIC) - start) / period + 1;
    CHECK_EQ(syscall(SYS_timer_getoverrun, id), info.si_overrun);
    count += 1 + info.si_overrun;
    // Counted at the moment it was taken: not after now, and not before the last one.
    if (count > low) FAIL("%lld expiries in the time of %lld", (long long)count, (long long)low);
    CHECK(count > last);
    last = count;
    if (i == 50) GuestSnapshot();
  }
  // The next one brings what is missing: exactly as many as periods have ended.
  siginfo_t info = Wait(SIGUSR1);
  int64_t taken_before = NowNs(CLOCK_MONOTONIC);
  count += 1 + info.si_overrun;
  int64_t most = (taken_before - start) / period + 1;
  CHECK(count <= most);
  CHECK(most - count < 1000);  // no more than the time since it was taken
  CHECK_OK(syscall(SYS_timer_delete, id));
  Drain(SIGUSR1);
}

// Two timers with the same standard signal, and one sent: three are pending.
static void Same(void) {
  int first = Create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR2, 1);
  int second = Create(CLOCK_REALTIME, SIGEV_SIGNAL, SIGUSR2, 2);
  Set(first, 0, 1 * kMs, 0);
  SleepMs(20);
  Set(second, 0, 1 * kMs, 0);
  SleepMs(20);
  GuestSnapshot();
  CHECK_OK(kill(getpid(), SIGUSR2));  // is merged with those
  CHECK_EQ(Wait(SIGUSR2).si_value.sival_int, 1);
  CHECK_EQ(Wait(SIGUSR2).si_value.sival_int, 2);
  CHECK(NonePending(SIGUSR2));
  CHECK_OK(syscall(SYS_timer_delete, first));
  CHECK_OK(syscall(SYS_timer_delete, second));
}

static atomic_int told, told_by, told_tid;

static void Tell(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  told_by = info->si_value.sival_int;
  told_tid = OwnTid();
  told++;
}

static atomic_int helper_tid, stop;

static void* Helper(void* unused) {
  (void)unused;
  UnblockSignals(SIGRTMIN, 0);
  helper_tid = OwnTid();
  while (!stop) SleepMs(2);
  return NULL;
}

static void ToThread(void) {
  OnSignal(SIGRTMIN, Tell, 0);
  pthread_t thread = StartThread(Helper, NULL);
  AwaitAtLeast(&helper_tid, 1);
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
  event.sigev_notify_thread_id = helper_tid;
  event.sigev_value.sival_int = 99;
  int id = -1;
  CHECK_OK(syscall(SYS_timer_create, CLOCK_BOOTTIME, &event, &id));
  told = 0;
  Set(id, 0, 2 * kMs, 2 * kMs);
  AwaitAtLeast(&told, 3);
  GuestSnapshot();
  AwaitAtLeast(&told, 6);
  CHECK_EQ(told_by, 99);
  CHECK_EQ(told_tid, helper_tid);
  stop = 1;
  JoinThread(thread);
  CHECK_OK(syscall(SYS_timer_delete, id));
  event.sigev_notify_thread_id = getppid();
  CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_REALTIME, &event, &id), EINVAL);
}

static void Silent(void) {
  int id = Create(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0);
  Set(id, 0, 5 * kMs, 0);
  CHECK(Left(id) <= 5 * kMs);
  SleepMs(8);
  CHECK_EQ(Left(id), 0);
  Set(id, 0, 5 * kMs, 1000 * kMs);
  SleepMs(8);
  GuestSnapshot();
  CHECK(Left(id) > 0 && Left(id) <= 1000 * kMs);
  CHECK_EQ(syscall(SYS_timer_getoverrun, id), 0);
  CHECK_OK(syscall(SYS_timer_delete, id));
}

// A pending signal of a timer that is ignored, and of one that is not any more.
static void Ignored(void) {
  signal(SIGUSR1, SIG_IGN);
  UnblockSignals(SIGUSR1, 0);
  int id = Create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 5);
  Set(id, 0, 1 * kMs, 1 * kMs);
  SleepMs(30);
  told = 0;
  OnSignal(SIGUSR1, Tell, 0);
  AwaitAtLeast(&told, 3);
  CHECK_EQ(told_by, 5);
  BlockSignals(SIGUSR1, 0);
  SleepMs(10);
  signal(SIGUSR1, SIG_IGN);
  SleepMs(10);
  OnSignal(SIGUSR1, Tell, 0);
  told = 0;
  UnblockSignals(SIGUSR1, 0);
  AwaitAtLeast(&told, 3);
  BlockSignals(SIGUSR1, 0);
  CHECK_OK(syscall(SYS_timer_delete, id));
  Drain(SIGUSR1);
}

static void Burn(int64_t ns) {
  int64_t end = NowNs(CLOCK_THREAD_CPUTIME_ID) + ns;
  while (NowNs(CLOCK_THREAD_CPUTIME_ID) < end) {
  }
}

static void ProcessorTime(clockid_t clock) {
  BlockSignals(SIGUSR1, 0);
  int id = Create(clock, SIGEV_SIGNAL, SIGUSR1, 3);
  Set(id, 0, 30 * kMs, 0);
  SleepMs(60);  // does not count
  CHECK(NonePending(SIGUSR1));
  CHECK(Left(id) > 0);
  GuestSnapshot();
  Burn(15 * kMs);
  CHECK(Left(id) > 0 && Left(id) <= 20 * kMs);
  for (int i = 0; i < 200 && NonePending(SIGUSR1); i++) Burn(5 * kMs);
  CHECK_EQ(Wait(SIGUSR1).si_value.sival_int, 3);
  CHECK_OK(syscall(SYS_timer_delete, id));
}

static void Errors(void) {
  int id = -1;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65};
  struct itimerspec zero = {{0, 0}, {0, 0}}, bad = {{0, 0}, {0, 1000000000}};
  CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_REALTIME, &event, &id), EINVAL);
  event.sigev_signo = 0;
  CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_REALTIME, &event, &id), EINVAL);
  event.sigev_notify = 77;
  CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_REALTIME, &event, &id), EINVAL);
  CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC_COARSE, &event, &id), EOPNOTSUPP);
  CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_MONOTONIC_RAW, NULL, &id), EOPNOTSUPP);
  CHECK_ERRNO(syscall(SYS_timer_create, 1000, NULL, &id), EINVAL);
  CHECK_ERRNO(syscall(SYS_timer_create, -5, NULL, &id), EOPNOTSUPP);  // of descriptor 0
  CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_REALTIME, (void*)8, &id), EFAULT);
  CHECK_ERRNO(syscall(SYS_timer_create, CLOCK_REALTIME, NULL, (void*)8), EFAULT);
  // By default SIGALRM, and the id.
  CHECK_OK(syscall(SYS_timer_create, CLOCK_REALTIME, NULL, &id));
  BlockSignals(SIGALRM, 0);
  Set(id, 0, 1, 0);
  CHECK_EQ(Wait(SIGALRM).si_value.sival_int, id);
  CHECK_ERRNO(syscall(SYS_timer_settime, id, 0, NULL, NULL), EINVAL);
  CHECK_ERRNO(syscall(SYS_timer_settime, id, 0, (void*)8, NULL), EFAULT);
  CHECK_ERRNO(syscall(SYS_timer_settime, id, 0, &bad, NULL), EINVAL);
  CHECK_ERRNO(syscall(SYS_timer_settime, id, 0, &zero, (void*)8), EFAULT);
  CHECK_ERRNO(syscall(SYS_timer_settime, id + 1000, 0, &zero, NULL), EINVAL);
  CHECK_ERRNO(syscall(SYS_timer_gettime, id, (void*)8), EFAULT);
  CHECK_ERRNO(syscall(SYS_timer_gettime, -1, &bad), EINVAL);
  CHECK_ERRNO(syscall(SYS_timer_getoverrun, -2), EINVAL);
  CHECK_OK(syscall(SYS_timer_delete, id));
  // Ids are not given again at once.
  int next = -1;
  CHECK_OK(syscall(SYS_timer_create, CLOCK_REALTIME, NULL, &next));
  CHECK_EQ(next, id + 1);
  CHECK_OK(syscall(SYS_timer_delete, next));
}

int main(void) {
  BlockSignals(SIGUSR1, SIGUSR2);
  BlockSignals(SIGRTMIN, 0);
  OneShot(CLOCK_REALTIME);
  OneShot(CLOCK_MONOTONIC);
  OneShot(CLOCK_BOOTTIME);
  OneShot(CLOCK_TAI);
  Say("one shot");
  Overruns();
  Say("overruns");
  Same();
  Say("same signal");
  ToThread();
  Say("to a thread");
  Silent();
  Say("silent");
  Ignored();
  Say("ignored");
  BlockSignals(SIGUSR1, 0);
  ProcessorTime(CLOCK_PROCESS_CPUTIME_ID);
  ProcessorTime(CLOCK_THREAD_CPUTIME_ID);
  Say("processor time");
  Errors();
  Say("errors");
  return 0;
}
