// FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI: a condition variable whose waiters come back with
// the mutex, which is a futex with an owner; across snapshots.
#include "tests/guest/pi.h"

enum { kWaiters = 5 };

static atomic_int condition, mutex, other;
static atomic_int begun, done, requeued_away, handled;

// The mutex as libc takes it: a call only where another one has it.
static void Lock(void) {
  int none = 0;
  if (!atomic_compare_exchange_strong(&mutex, &none, OwnTid())) CHECK_OK(LockPi(&mutex));
  CHECK_EQ(atomic_load(&mutex) & kPiTidMask, OwnTid());
}

static void Unlock(void) {
  int own = OwnTid();
  if (!atomic_compare_exchange_strong(&mutex, &own, 0)) CHECK_OK(UnlockPi(&mutex));
}

static long WaitRequeue(int value, const struct timespec* until) {
  return Futex(&condition, kFutexWaitRequeuePi, value, until, &mutex, 0);
}

// Wakes one, or gives it the mutex, and moves `more` others to it.
static long Requeue(int more, int value) {
  return Futex(&condition, kFutexCmpRequeuePi, 1, (void*)(long)more, &mutex, value);
}

// Waits with the mutex held, as pthread_cond_wait would. A snapshot or signal that finds the thread
// at the mutex already makes the kernel say EAGAIN.
static void AwaitCondition(int value, const struct timespec* until, int wanted) {
  Unlock();
  int error = WaitRequeue(value, until) == 0 ? 0 : errno;
  if (error != wanted && (error != EAGAIN || !(GuestInjected() || GuestSnapshotWanted()))) {
    FAIL("errno %d, wanted %d", error, wanted);
  }
  if (error != 0) Lock();
  CHECK_EQ(atomic_load(&mutex) & kPiTidMask, OwnTid());
}

static void Reset(void) {
  atomic_store(&condition, 0);
  atomic_store(&mutex, 0);
  atomic_store(&begun, 0);
  atomic_store(&done, 0);
}

static void* Wait(void* unused) {
  (void)unused;
  Lock();
  atomic_fetch_add(&begun, 1);
  AwaitCondition(0, NULL, 0);
  atomic_fetch_add(&done, 1);
  Unlock();
  return NULL;
}

static void StartWaiters(pthread_t* threads) {
  Reset();
  for (int i = 0; i < kWaiters; i++) threads[i] = StartThread(Wait, NULL);
  AwaitBlocked(&begun, kWaiters);
}

static void JoinAll(pthread_t* threads) {
  for (int i = 0; i < kWaiters; i++) JoinThread(threads[i]);
  CHECK_EQ(atomic_load(&done), kWaiters);
  CHECK_EQ(atomic_load(&mutex) & kPiTidMask, 0);
}

static void CountSignal(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  atomic_fetch_add(&handled, 1);
}

// Returns when its handler has run: whatever the thread was in has been interrupted.
static void Interrupt(pthread_t thread) {
  int before = atomic_load(&handled);
  CHECK_ZERO(pthread_kill(thread, SIGUSR1));
  AwaitAtLeast(&handled, before + 1);
}

// ---- What is refused ----

static void Errors(void) {
  Reset();
  atomic_int* odd = (atomic_int*)((char*)&other + 1);
  struct timespec bad = {.tv_nsec = 1000000000};
  CHECK_ERRNO(WaitRequeue(1, NULL), EAGAIN);
  CHECK_ERRNO(WaitRequeue(0, &bad), EINVAL);
  CHECK_ERRNO(WaitRequeue(0, (void*)1), EFAULT);
  CHECK_ERRNO(Futex(&mutex, kFutexWaitRequeuePi, 0, NULL, &mutex, 0), EINVAL);
  CHECK_ERRNO(Futex(NULL, kFutexWaitRequeuePi, 0, NULL, &mutex, 0), EFAULT);
  CHECK_ERRNO(Futex(odd, kFutexWaitRequeuePi, 0, NULL, &mutex, 0), EINVAL);
  CHECK_ERRNO(Futex(&condition, kFutexWaitRequeuePi, 0, NULL, odd, 0), EINVAL);
  CHECK_EQ(Requeue(100, 0), 0);
  CHECK_ERRNO(Requeue(100, 1), EAGAIN);
  CHECK_ERRNO(Requeue(-1, 0), EINVAL);
  for (int count = 0; count < 3; count += 2) {
    CHECK_ERRNO(Futex(&condition, kFutexCmpRequeuePi, count, (void*)5l, &mutex, 0), EINVAL);
  }
  CHECK_ERRNO(Futex(&mutex, kFutexCmpRequeuePi, 1, (void*)5l, &mutex, 0), EINVAL);
  CHECK_ERRNO(Futex(NULL, kFutexCmpRequeuePi, 1, (void*)5l, &mutex, 0), EFAULT);
  CHECK_ERRNO(Futex(&condition, kFutexCmpRequeuePi, 1, (void*)5l, NULL, 0), EFAULT);
  CHECK_ERRNO(Futex(odd, kFutexCmpRequeuePi, 1, (void*)5l, &mutex, 0), EINVAL);
  CHECK_ERRNO(Futex(&condition, kFutexCmpRequeuePi, 1, (void*)5l, odd, 0), EINVAL);
  CHECK_ERRNO(Futex(&condition, kFutexCmpRequeuePi | kFutexClockRealtime, 1, (void*)5l, &mutex, 0),
              ENOSYS);
  CHECK_EQ(atomic_load(&mutex), 0);
  Say("errors");
}

static void Timeouts(void) {
  for (int i = 0; i < 2; i++) {
    Reset();
    clockid_t clock = i == 0 ? CLOCK_MONOTONIC : CLOCK_REALTIME;
    struct timespec until = In(clock, 60), past = {.tv_sec = 1};
    int operation = kFutexWaitRequeuePi | (i == 0 ? 0 : kFutexClockRealtime);
    CHECK_ERRNO(Futex(&condition, operation, 0, &until, &mutex, 0), ETIMEDOUT);
    if (NowNs(clock) < until.tv_sec * 1000000000ll + until.tv_nsec) FAIL("too early");
    CHECK_ERRNO(Futex(&condition, operation, 0, &past, &mutex, 0), ETIMEDOUT);
    CHECK_EQ(atomic_load(&mutex), 0);
  }
  Say("timeouts");
}

static void* WaitForOther(void* unused) {
  atomic_store(&requeued_away, 1);
  CHECK_EQ(Futex(&condition, kFutexWaitRequeuePi, 0, NULL, &other, 0), 0);
  CHECK_EQ(atomic_load(&other) & kPiTidMask, OwnTid());
  CHECK_OK(UnlockPi(&other));
  return unused;
}

// A waiter is for the mutex that it named, and for no plain call.
static void Mismatches(void) {
  Reset();
  pthread_t thread = StartThread(WaitForOther, NULL);
  AwaitBlocked(&requeued_away, 1);
  AwaitQueued(&condition);
  CHECK_ERRNO(Futex(&condition, kFutexRequeue, 1, (void*)5l, &mutex, 0), EINVAL);
  CHECK_ERRNO(Futex(&condition, kFutexCmpRequeue, 1, (void*)5l, &mutex, 0), EINVAL);
  CHECK_ERRNO(Requeue(5, 0), EINVAL);
  CHECK_ERRNO(Requeue(5, 1), EAGAIN);
  atomic_store(&other, kNoThread);
  CHECK_ERRNO(Futex(&condition, kFutexCmpRequeuePi, 1, (void*)0l, &other, 0), ESRCH);
  atomic_store(&other, 0);
  CHECK_EQ(Futex(&condition, kFutexCmpRequeuePi, 1, (void*)0l, &other, 0), 1);
  JoinThread(thread);
  CHECK_EQ(atomic_load(&other) & kPiTidMask, 0);
  Say("mismatches");
}

// Whoever has the mutex waits with it, which it should not.
static void* WaitWithMutex(void* unused) {
  CHECK_OK(LockPi(&mutex));
  atomic_store(&begun, 1);
  CHECK_ERRNO(WaitRequeue(0, NULL), EAGAIN);
  CHECK_OK(UnlockPi(&mutex));
  return unused;
}

static void Deadlock(void) {
  Reset();
  pthread_t thread = StartThread(WaitWithMutex, NULL);
  AwaitAtLeast(&begun, 1);
  while (Requeue(0, 0) == 0) SleepMs(1);
  CHECK_EQ(errno, EDEADLK);
  // It is still where it was: made again, the call finds another value.
  atomic_store(&condition, 1);
  Interrupt(thread);
  JoinThread(thread);
  CHECK_EQ(atomic_load(&mutex) & kPiTidMask, 0);
  Say("deadlock");
}

// ---- Waiters that come back with the mutex ----

static void Broadcast(void) {
  pthread_t threads[kWaiters];
  StartWaiters(threads);
  GuestSnapshot();
  SleepMs(60);
  Lock();
  int moved = 0;
  while (moved < kWaiters) {
    long result = Requeue(100, 0);
    CHECK_OK(result);
    moved += (int)result;
    if (result == 0) SleepMs(1);
  }
  CHECK_EQ(moved, kWaiters);
  SleepMs(20);
  CHECK_EQ(atomic_load(&done), 0);
  CHECK_EQ(atomic_load(&mutex), kPiWaiters | OwnTid());
  atomic_store(&condition, 1);  // none of them waits there again
  GuestSnapshot();
  CHECK_EQ(atomic_load(&done), 0);
  Unlock();
  JoinAll(threads);
  Say("broadcast");
}

// One by one, the mutex being free: each is handed it by the call.
static void Signal(void) {
  pthread_t threads[kWaiters];
  StartWaiters(threads);
  for (int i = 0; i < kWaiters; i++) {
    long result;
    while ((result = Requeue(0, 0)) == 0) SleepMs(1);
    CHECK_EQ(result, 1);
    AwaitAtLeast(&done, i + 1);
  }
  JoinAll(threads);
  // The same with two at a time.
  StartWaiters(threads);
  for (int moved = 0; moved < kWaiters;) {
    long result = Requeue(1, 0);
    CHECK(result >= 0 && result <= 2);
    moved += (int)result;
    if (result == 0) SleepMs(1);
  }
  JoinAll(threads);
  Say("signal");
}

static void* TimeOutAtMutex(void* unused) {
  struct timespec until = In(CLOCK_MONOTONIC, 200);
  atomic_store(&begun, 1);
  int error = WaitRequeue(0, &until) == 0 ? 0 : errno;
  if (!GuestInjected()) CHECK_EQ(error, ETIMEDOUT);
  if (NowNs(CLOCK_MONOTONIC) < until.tv_sec * 1000000000ll + until.tv_nsec && !GuestInjected()) {
    FAIL("too early");
  }
  atomic_store(&done, 1);
  return unused;
}

static void* BeInterrupted(void* away) {
  atomic_store(&begun, 1);
  int error = WaitRequeue(0, NULL) == 0 ? 0 : errno;
  // Before it was moved a signal does not end it; afterwards it does, whatever the handler's flags.
  if (!GuestInjected()) CHECK_EQ(error, away != NULL ? EAGAIN : 0);
  if (error != 0) CHECK_OK(LockPi(&mutex));
  CHECK_OK(UnlockPi(&mutex));
  atomic_store(&done, 1);
  return NULL;
}

static void AtMutex(void) {
  Reset();
  Lock();
  pthread_t thread = StartThread(TimeOutAtMutex, NULL);
  AwaitAtLeast(&begun, 1);
  long moved = 0;
  while (moved == 0 && atomic_load(&done) == 0) {
    moved = Requeue(100, 0);
    SleepMs(1);
  }
  if (moved == 1) CHECK_EQ(atomic_load(&mutex), kPiWaiters | OwnTid());
  JoinThread(thread);
  Unlock();
  Say("timeout at the mutex");

  for (int away = 0; away < 2; away++) {
    Reset();
    Lock();
    thread = StartThread(BeInterrupted, away == 1 ? &mutex : NULL);
    AwaitBlocked(&begun, 1);
    if (away == 0) Interrupt(thread);
    while (Requeue(100, 0) == 0) SleepMs(1);
    atomic_store(&condition, 1);
    if (away == 1) Interrupt(thread);
    CHECK_EQ(atomic_load(&done), 0);
    Unlock();
    JoinThread(thread);
  }
  Say("interrupted");
}

// ---- Priorities ----

static void* WaitInRealTime(void* priority) {
  RunInRealTime((int)(long)priority);
  atomic_fetch_add(&begun, 1);
  CHECK_EQ(WaitRequeue(0, NULL), 0);
  // The highest first.
  CHECK_EQ(atomic_fetch_add(&done, 1), 14 - (int)(long)priority);
  CHECK_OK(UnlockPi(&mutex));
  return NULL;
}

static void* RequeueThem(void* threads) {
  RunInRealTime(2);
  Lock();
  long moved = 0;
  while (moved < kWaiters) {
    long result = Requeue(100, 0);
    CHECK_OK(result);
    moved += result;
    if (result == 0) SleepMs(1);
  }
  // By its being waited for, without their having run.
  CHECK_EQ(PriorityOf(OwnTid()), 14);
  Unlock();
  CHECK_EQ(PriorityOf(OwnTid()), 2);
  return threads;
}

static void Priorities(void) {
  static const int kOrder[kWaiters] = {12, 14, 10, 13, 11};
  pthread_t threads[kWaiters];
  Reset();
  for (int i = 0; i < kWaiters; i++) {
    threads[i] = StartThread(WaitInRealTime, (void*)(long)kOrder[i]);
    AwaitBlocked(&begun, i + 1);
  }
  JoinThread(StartThread(RequeueThem, NULL));
  JoinAll(threads);
  // One by one: the highest first as well.
  Reset();
  for (int i = 0; i < kWaiters; i++) {
    threads[i] = StartThread(WaitInRealTime, (void*)(long)kOrder[i]);
    AwaitBlocked(&begun, i + 1);
  }
  for (int i = 0; i < kWaiters; i++) {
    CHECK_EQ(Requeue(0, 0), 1);
    AwaitAtLeast(&done, i + 1);
    SleepMs(5);
  }
  JoinAll(threads);
}

// ---- Many ----

static atomic_int round_trips;

static void* WaitOften(void* unused) {
  for (int i = 0; i < 100; i++) {
    Lock();
    int value = atomic_load(&condition);
    atomic_fetch_add(&begun, 1);
    Unlock();
    struct timespec until = In(CLOCK_MONOTONIC, 2);
    int error = WaitRequeue(value, &until) == 0 ? 0 : errno;
    CHECK(error == 0 || error == EAGAIN || error == ETIMEDOUT);
    if (error != 0) Lock();
    CHECK_EQ(atomic_load(&mutex) & kPiTidMask, OwnTid());
    atomic_fetch_add(&round_trips, 1);
    Unlock();
  }
  atomic_fetch_add(&done, 1);
  return unused;
}

static void Many(void) {
  Reset();
  pthread_t threads[kWaiters];
  for (int i = 0; i < kWaiters; i++) threads[i] = StartThread(WaitOften, NULL);
  while (atomic_load(&done) < kWaiters) {
    Lock();
    int value = atomic_fetch_add(&condition, 1) + 1;
    long result = Requeue(100, value);
    CHECK(result >= 0 || errno == EAGAIN);
    Unlock();
    SleepMs(1);
  }
  JoinAll(threads);
  CHECK_EQ(atomic_load(&round_trips), kWaiters * 100);
  Say("many");
}

int main(void) {
  OnSignal(SIGUSR1, CountSignal, SA_RESTART);
  Errors();
  Timeouts();
  if (!GuestInjected()) {
    Mismatches();
    Deadlock();
  }
  Broadcast();
  Signal();
  AtMutex();
  if (MayUseRealTime() && !GuestInjected()) {
    Priorities();
    Say("in order of priority");
  } else {
    Say("left out: no right to schedule in real time");
  }
  Many();
  return 0;
}
