// Priority-inheritance mutexes and futexes, held and waited for across a snapshot.
#include "tests/guest/guest.h"

static pthread_mutex_t mutex;
static atomic_int word, waiting;
static long counter;

static void* Count(void* unused) {
  (void)unused;
  atomic_fetch_add(&waiting, 1);
  for (int i = 0; i < 500; i++) {
    CHECK_ZERO(pthread_mutex_lock(&mutex));
    counter++;
    if (i % 64 == 0) sched_yield();
    CHECK_ZERO(pthread_mutex_unlock(&mutex));
  }
  return NULL;
}

static void* LockRaw(void* unused) {
  (void)unused;
  atomic_fetch_add(&waiting, 1);
  CHECK_OK(Futex(&word, kFutexLockPi, 0, NULL, NULL, 0));
  CHECK_EQ(atomic_load(&word) & 0x3fffffff, OwnTid());
  CHECK_OK(Futex(&word, kFutexUnlockPi, 0, NULL, NULL, 0));
  return NULL;
}

static void* TryHeld(void* unused) {
  (void)unused;
  CHECK_ERRNO(Futex(&word, kFutexTrylockPi, 0, NULL, NULL, 0), EAGAIN);
  CHECK_ERRNO(Futex(&word, kFutexUnlockPi, 0, NULL, NULL, 0), EPERM);
  int64_t end = NowNs(CLOCK_REALTIME) + 60000000;
  struct timespec absolute = {end / 1000000000, end % 1000000000};
  CHECK_ERRNO(Futex(&word, kFutexLockPi, 0, &absolute, NULL, 0), ETIMEDOUT);
  if (NowNs(CLOCK_REALTIME) < end) FAIL("a timed PI lock ended too early");
  return NULL;
}

int main(void) {
  pthread_mutexattr_t attributes;
  CHECK_ZERO(pthread_mutexattr_init(&attributes));
  CHECK_ZERO(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT));
  CHECK_ZERO(pthread_mutex_init(&mutex, &attributes));
  pthread_t threads[4];
  CHECK_ZERO(pthread_mutex_lock(&mutex));
  for (int i = 0; i < 4; i++) threads[i] = StartThread(Count, NULL);
  AwaitBlocked(&waiting, 4);
  GuestSnapshot();
  CHECK_EQ(counter, 0);
  CHECK_ZERO(pthread_mutex_unlock(&mutex));
  for (int i = 0; i < 4; i++) JoinThread(threads[i]);
  CHECK_EQ(counter, 2000);
  Say("mutex");

  CHECK_OK(Futex(&word, kFutexLockPi, 0, NULL, NULL, 0));
  CHECK_EQ(atomic_load(&word), OwnTid());
  CHECK_ERRNO(Futex(&word, kFutexLockPi, 0, NULL, NULL, 0), EDEADLK);
  JoinThread(StartThread(TryHeld, NULL));
  atomic_store(&waiting, 0);
  for (int i = 0; i < 4; i++) threads[i] = StartThread(LockRaw, NULL);
  AwaitBlocked(&waiting, 4);
  GuestSnapshot();
  CHECK_EQ(atomic_load(&word) & 0x3fffffff, OwnTid());
  CHECK_OK(Futex(&word, kFutexUnlockPi, 0, NULL, NULL, 0));
  for (int i = 0; i < 4; i++) JoinThread(threads[i]);
  CHECK_EQ(atomic_load(&word) & 0x3fffffff, 0);
  Say("raw");
  return 0;
}
