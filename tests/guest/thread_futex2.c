// futex_waitv: several words at once, timeouts on both clocks, errors. And futex_wait, futex_wake
// and futex_requeue where the kernel has them.
#include "tests/guest/guest.h"

enum { kWaitv = 449, kWake = 454, kWait = 455, kRequeue = 456, kU32 = 2, kPrivate = 128 };

struct Word {
  uint64_t value, address;
  uint32_t flags, reserved;
};

static atomic_int words[4], ready, woken;

static struct Word On(int i, int value) {
  return (struct Word){(uint64_t)value, (uintptr_t)&words[i], kU32 | kPrivate, 0};
}

// What the kernel has of this: its own words for it.
static bool Has(long number) { return syscall(number, 0, 0, 0, 0, 0, 0) != -1 || errno != ENOSYS; }

static void* WaitForAny(void* unused) {
  (void)unused;
  struct Word all[3] = {On(0, 0), On(1, 0), On(2, 0)};
  ready = 1;
  long which;
  do {
    which = syscall(kWaitv, all, 3, 0, NULL, CLOCK_MONOTONIC);
  } while (which == -1 && errno == EINTR);
  return (void*)which;
}

static void Several(void) {
  pthread_t thread = StartThread(WaitForAny, NULL);
  AwaitBlocked(&ready, 1);
  GuestSnapshot();
  SleepMs(20);
  words[2] = 1;
  Futex(&words[2], kFutexWake, 1, NULL, NULL, 0);
  void* which = JoinThread(thread);
  // It may have come too late to wait.
  CHECK(which == (void*)2 || which == (void*)-1);
  words[2] = 0;
  struct Word one = On(0, 5), far = On(0, 0);
  CHECK_ERRNO(syscall(kWaitv, &one, 1, 0, NULL, CLOCK_MONOTONIC), EAGAIN);
  CHECK_ERRNO(syscall(kWaitv, &one, 0, 0, NULL, CLOCK_MONOTONIC), EINVAL);
  CHECK_ERRNO(syscall(kWaitv, &one, 129, 0, NULL, CLOCK_MONOTONIC), EINVAL);
  CHECK_ERRNO(syscall(kWaitv, &one, 1, 1, NULL, CLOCK_MONOTONIC), EINVAL);
  CHECK_ERRNO(syscall(kWaitv, NULL, 1, 0, NULL, CLOCK_MONOTONIC), EINVAL);
  CHECK_ERRNO(syscall(kWaitv, 8, 1, 0, NULL, CLOCK_MONOTONIC), EFAULT);
  CHECK_ERRNO(syscall(kWaitv, &one, 1, 0, 8, CLOCK_MONOTONIC), EFAULT);
  far.address = 8;
  CHECK_ERRNO(syscall(kWaitv, &far, 1, 0, NULL, CLOCK_MONOTONIC), EFAULT);
  far = On(0, 0);
  far.flags = 77;
  CHECK_ERRNO(syscall(kWaitv, &far, 1, 0, NULL, CLOCK_MONOTONIC), EINVAL);
}

static void Timeout(clockid_t clock) {
  struct Word all[2] = {On(0, 0), On(1, 0)};
  int64_t until = NowNs(clock) + 20000000;
  struct timespec time = {until / 1000000000, until % 1000000000};
  long result;
  do {
    result = syscall(kWaitv, all, 2, 0, &time, clock);
  } while (result == -1 && errno == EINTR);
  CHECK_EQ(result, -1);
  CHECK_EQ(errno, ETIMEDOUT);
  CHECK(NowNs(clock) >= until);
  time.tv_nsec = 1000000000;
  CHECK_ERRNO(syscall(kWaitv, all, 2, 0, &time, clock), EINVAL);
  CHECK_ERRNO(syscall(kWaitv, all, 2, 0, &time, CLOCK_TAI), EINVAL);
}

static void* WaitForOne(void* word) {
  ready++;
  long result = syscall(kWait, word, 0ul, ~0u, kU32 | kPrivate, NULL, CLOCK_MONOTONIC);
  CHECK(result == 0 || errno == EAGAIN);
  woken++;
  return NULL;
}

static void Second(void) {
  CHECK_ERRNO(syscall(kWait, &words[0], 1ul, ~0u, kU32 | kPrivate, NULL, 0), EAGAIN);
  CHECK_ERRNO(syscall(kWait, 8, 1ul, ~0u, kU32 | kPrivate, NULL, 0), EFAULT);
  CHECK_ERRNO(syscall(kWait, &words[0], 0ul, 0u, kU32 | kPrivate, NULL, 0), EINVAL);
  CHECK_EQ(syscall(kWake, &words[0], ~0u, 1, kU32 | kPrivate), 0);
  CHECK_ERRNO(syscall(kWake, &words[0], ~0u, 1, 77), EINVAL);
  ready = 0;
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) threads[i] = StartThread(WaitForOne, &words[0]);
  AwaitBlocked(&ready, 2);
  words[0] = 1;
  struct Word both[2] = {On(0, 1), On(1, 0)};
  CHECK(syscall(kRequeue, both, 0, 1, 1) <= 2);
  while (woken < 2) {
    CHECK(syscall(kWake, &words[0], ~0u, 2, kU32 | kPrivate) >= 0);
    CHECK(syscall(kWake, &words[1], ~0u, 2, kU32 | kPrivate) >= 0);
    SleepMs(1);
  }
  for (int i = 0; i < 2; i++) JoinThread(threads[i]);
  words[0] = 0;
  CHECK_ERRNO(syscall(kRequeue, both, 0, 1, 1), EAGAIN);
  CHECK_ERRNO(syscall(kRequeue, both, 1, 1, 1), EINVAL);
  CHECK_ERRNO(syscall(kRequeue, 8, 0, 1, 1), EFAULT);
}

int main(void) {
  if (Has(kWaitv)) {
    Several();
    Timeout(CLOCK_MONOTONIC);
    Timeout(CLOCK_REALTIME);
  }
  Say("several");
  if (Has(kWait)) Second();
  Say("second");
  return 0;
}
