// The futex system call itself: wait, wake, requeue, wake-op, bitsets, timeouts, errors, EINTR.
#include "tests/guest/guest.h"

enum { kWaiters = 6 };

static atomic_int word, other, sleeping, woken, interrupted;

static void* Wait(void* unused) {
  (void)unused;
  atomic_fetch_add(&sleeping, 1);
  while (Futex(&word, kFutexWait, 0, NULL, NULL, 0) != 0) {
    if (errno == EAGAIN) break;
    CHECK_EQ(errno, EINTR);
  }
  atomic_fetch_add(&woken, 1);
  return NULL;
}

static void* WaitBitset(void* mask) {
  atomic_fetch_add(&sleeping, 1);
  CHECK_OK(Futex(&word, kFutexWaitBitset, 0, NULL, NULL, (int)(long)mask));
  atomic_fetch_add(&woken, 1);
  return NULL;
}

static void OnSignalNote(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  atomic_fetch_add(&interrupted, 1);
}

static void* WaitInterrupted(void* unused) {
  (void)unused;
  struct timespec long_time = TimespecMs(60000);
  atomic_fetch_add(&sleeping, 1);
  // With a timeout a handler without SA_RESTART ends it, and so does one with it (signal(7)).
  CHECK_ERRNO(Futex(&word, kFutexWait, 0, &long_time, NULL, 0), EINTR);
  return NULL;
}

static void StartWaiters(pthread_t* threads, void* (*body)(void*), void* argument) {
  atomic_store(&sleeping, 0);
  atomic_store(&woken, 0);
  for (int i = 0; i < kWaiters; i++) threads[i] = StartThread(body, argument);
  AwaitAtLeast(&sleeping, kWaiters);
}

// Wakes until `count` in all have been woken: a thread that says it sleeps may not do so yet.
static void WakeUntil(atomic_int* futex, int count) {
  for (int done = 0; done < count;) {
    long result = Futex(futex, kFutexWake, count - done, NULL, NULL, 0);
    CHECK_OK(result);
    done += (int)result;
    if (result == 0) SleepMs(1);
  }
}

static void JoinAll(pthread_t* threads) {
  for (int i = 0; i < kWaiters; i++) JoinThread(threads[i]);
}

static void Errors(void) {
  struct timespec negative = {.tv_sec = -1}, odd = {.tv_nsec = 1000000000};
  CHECK_ERRNO(Futex(&word, kFutexWait, 1, NULL, NULL, 0), EAGAIN);
  CHECK_ERRNO(Futex(&word, kFutexWait, 0, &negative, NULL, 0), EINVAL);
  CHECK_ERRNO(Futex(&word, kFutexWait, 0, &odd, NULL, 0), EINVAL);
  CHECK_ERRNO(Futex((atomic_int*)((char*)&word + 1), kFutexWait, 0, NULL, NULL, 0), EINVAL);
  CHECK_ERRNO(Futex(&word, kFutexWaitBitset, 0, NULL, NULL, 0), EINVAL);
  CHECK_ERRNO(Futex(&word, 99 | 128, 0, NULL, NULL, 0), ENOSYS);
  CHECK_ERRNO(Futex(&word, kFutexCmpRequeue, 1, (void*)1, &other, 5), EAGAIN);
  CHECK_ERRNO(Futex(NULL, kFutexWait, 0, NULL, NULL, 0), EFAULT);
  CHECK_EQ(Futex(&word, kFutexWake, 5, NULL, NULL, 0), 0);
  Say("errors");
}

static void Timeouts(void) {
  int64_t start = NowNs(CLOCK_MONOTONIC);
  struct timespec relative = TimespecMs(60);
  CHECK_ERRNO(Futex(&word, kFutexWait, 0, &relative, NULL, 0), ETIMEDOUT);
  int64_t elapsed = NowNs(CLOCK_MONOTONIC) - start;
  if (elapsed < 60000000) FAIL("a wait of 60 ms ended after %lld ns", (long long)elapsed);
  int clocks[2] = {CLOCK_MONOTONIC, CLOCK_REALTIME};
  for (int i = 0; i < 2; i++) {
    int64_t end = NowNs(clocks[i]) + 60000000;
    struct timespec absolute = {end / 1000000000, end % 1000000000};
    int operation = kFutexWaitBitset | (i == 1 ? kFutexClockRealtime : 0);
    CHECK_ERRNO(Futex(&word, operation, 0, &absolute, NULL, -1), ETIMEDOUT);
    if (NowNs(clocks[i]) < end) FAIL("clock %d: an absolute wait ended too early", clocks[i]);
    absolute.tv_sec -= 10;  // in the past: at once
    CHECK_ERRNO(Futex(&word, operation, 0, &absolute, NULL, -1), ETIMEDOUT);
  }
  Say("timeouts");
}

int main(void) {
  pthread_t threads[kWaiters];
  Errors();
  Timeouts();

  StartWaiters(threads, Wait, NULL);
  WakeUntil(&word, 2);
  AwaitAtLeast(&woken, 2);
  GuestSnapshot();
  CHECK_EQ(atomic_load(&woken), 2);
  WakeUntil(&word, kWaiters - 2);
  JoinAll(threads);
  Say("wake");

  // All move to `other`, and only a wake there reaches them.
  StartWaiters(threads, Wait, NULL);
  for (int moved = 0; moved < kWaiters;) {
    long result = Futex(&word, kFutexCmpRequeue, 0, (void*)100, &other, 0);
    CHECK_OK(result);
    moved += (int)result;
    if (result == 0) SleepMs(1);
  }
  CHECK_EQ(Futex(&word, kFutexWake, 100, NULL, NULL, 0), 0);
  CHECK_EQ(atomic_load(&woken), 0);
  CHECK_EQ(Futex(&other, kFutexWake, 100, NULL, NULL, 0), kWaiters);
  JoinAll(threads);
  StartWaiters(threads, Wait, NULL);
  SleepMs(60);
  long result = Futex(&word, kFutexRequeue, 1, (void*)100, &other, 0);  // one woken, the rest moved
  CHECK(result >= 1 && result <= kWaiters);
  atomic_store(&word, 1);  // whoever comes late does not sleep
  Futex(&word, kFutexWake, 100, NULL, NULL, 0);
  Futex(&other, kFutexWake, 100, NULL, NULL, 0);
  JoinAll(threads);
  atomic_store(&word, 0);
  Say("requeue");

  // Wake-op: other = 5 (was 0), and since the old value was 0, its waiters are woken too.
  StartWaiters(threads, Wait, NULL);
  int operation = 0 << 28 | 0 << 24 | 5 << 12 | 0;  // set to 5; compare equal with 0
  for (int done = 0; done < kWaiters;) {
    result = Futex(&word, kFutexWakeOp, 100, (void*)100, &other, operation);
    CHECK_OK(result);
    done += (int)result;
    CHECK_EQ(atomic_load(&other), 5);
    atomic_store(&other, 0);
  }
  JoinAll(threads);
  Say("wake-op");

  StartWaiters(threads, WaitBitset, (void*)4l);
  for (int i = 0; i < 3; i++) CHECK_EQ(Futex(&word, kFutexWakeBitset, 100, NULL, NULL, 3), 0);
  CHECK_EQ(atomic_load(&woken), 0);
  GuestSnapshot();
  for (int done = 0; done < kWaiters;) {
    result = Futex(&word, kFutexWakeBitset, 100, NULL, NULL, 6);
    CHECK_OK(result);
    done += (int)result;
  }
  JoinAll(threads);
  Say("bitset");

  OnSignal(SIGUSR1, OnSignalNote, 0);
  StartWaiters(threads, WaitInterrupted, NULL);
  SleepMs(60);
  for (int i = 0; i < kWaiters; i++) CHECK_ZERO(pthread_kill(threads[i], SIGUSR1));
  JoinAll(threads);
  CHECK_EQ(atomic_load(&interrupted), kWaiters);
  Say("interrupted");
  return 0;
}
