// Futexes with an owner whose owner ends: by a robust list or without one, waited for or not,
// across snapshots.
#include "tests/guest/pi.h"

enum { kWaiters = 3 };

static pthread_mutex_t mutex;
static atomic_int word, held, waiting, served;
static atomic_bool go;

static void Reset(void) {
  atomic_store(&held, 0);
  atomic_store(&waiting, 0);
  atomic_store(&served, 0);
  atomic_store(&go, false);
}

// ---- Without a robust list ----

static void* EndWithWord(void* unused) {
  (void)unused;
  CHECK_OK(LockPi(&word));
  atomic_store(&held, OwnTid());
  while (!atomic_load(&go)) SleepMs(1);
  return NULL;
}

static void* InheritWord(void* unused) {
  (void)unused;
  atomic_fetch_add(&waiting, 1);
  CHECK_OK(LockPi(&word));
  // The first to get it is told that the owner died; it need not tell the next one.
  int value = atomic_load(&word);
  bool first = atomic_fetch_add(&served, 1) == 0;
  // A snapshot may come between the owner's end and a waiter's return.
  if (!GuestInjected()) CHECK_EQ((value & kPiOwnerDied) != 0, first);
  CHECK_EQ(value & kPiTidMask, OwnTid());
  CHECK_OK(UnlockPi(&word));
  return NULL;
}

static void WithWaiters(void) {
  Reset();
  atomic_store(&word, 0);
  pthread_t owner = StartThread(EndWithWord, NULL), threads[kWaiters];
  AwaitAtLeast(&held, 1);
  for (int i = 0; i < kWaiters; i++) threads[i] = StartThread(InheritWord, NULL);
  AwaitBlocked(&waiting, kWaiters);
  AwaitQueued(&word);
  GuestSnapshot();
  AwaitQueued(&word);
  atomic_store(&go, true);
  JoinThread(owner);
  for (int i = 0; i < kWaiters; i++) JoinThread(threads[i]);
  CHECK_EQ(atomic_load(&served), kWaiters);
  CHECK_EQ(atomic_load(&word) & kPiTidMask, 0);
  Say("left to waiters");
}

static void WithoutWaiters(void) {
  Reset();
  atomic_store(&word, 0);
  pthread_t owner = StartThread(EndWithWord, NULL);
  AwaitAtLeast(&held, 1);
  atomic_store(&go, true);
  JoinThread(owner);
  CHECK_EQ(atomic_load(&word), atomic_load(&held));
  // pthread_join returns before the kernel has forgotten the thread.
  while (LockPi(&word) != -1 || errno != ESRCH) CHECK_EQ(errno, ESRCH);
  CHECK_EQ(atomic_load(&word), kPiWaiters | atomic_load(&held));
  GuestSnapshot();
  CHECK_ERRNO(Futex(&word, kFutexTrylockPi, 0, NULL, NULL, 0), ESRCH);
  CHECK_ERRNO(UnlockPi(&word), EPERM);
  Say("left to nobody");
}

// ---- Robust mutexes ----

static void* EndWithMutex(void* unused) {
  (void)unused;
  CHECK_ZERO(pthread_mutex_lock(&mutex));
  atomic_store(&held, 1);
  while (!atomic_load(&go)) SleepMs(1);
  return NULL;
}

static void* InheritMutex(void* repairs) {
  atomic_fetch_add(&waiting, 1);
  int error = pthread_mutex_lock(&mutex);
  int place = atomic_fetch_add(&served, 1);
  if (repairs != NULL) {
    CHECK_EQ(error, place == 0 ? EOWNERDEAD : 0);
    if (place == 0) CHECK_ZERO(pthread_mutex_consistent(&mutex));
  } else {
    CHECK_EQ(error, place == 0 ? EOWNERDEAD : ENOTRECOVERABLE);
    if (place != 0) return NULL;
  }
  CHECK_ZERO(pthread_mutex_unlock(&mutex));
  return NULL;
}

static void Robust(bool repairs) {
  pthread_mutexattr_t attributes;
  CHECK_ZERO(pthread_mutexattr_init(&attributes));
  CHECK_ZERO(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST));
  CHECK_ZERO(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT));
  CHECK_ZERO(pthread_mutex_init(&mutex, &attributes));
  Reset();
  pthread_t owner = StartThread(EndWithMutex, NULL), threads[kWaiters];
  AwaitAtLeast(&held, 1);
  for (int i = 0; i < kWaiters; i++) {
    threads[i] = StartThread(InheritMutex, repairs ? &mutex : NULL);
  }
  AwaitBlocked(&waiting, kWaiters);
  GuestSnapshot();
  atomic_store(&go, true);
  JoinThread(owner);
  for (int i = 0; i < kWaiters; i++) JoinThread(threads[i]);
  CHECK_EQ(atomic_load(&served), kWaiters);
  CHECK_EQ(pthread_mutex_lock(&mutex), repairs ? 0 : ENOTRECOVERABLE);
  Say(repairs ? "repaired" : "not repaired");
}

// ---- Many owners and ends ----

static void* LockAndEnd(void* unused) {
  (void)unused;
  int error = pthread_mutex_lock(&mutex);
  if (error == EOWNERDEAD) {
    CHECK_ZERO(pthread_mutex_consistent(&mutex));
    atomic_fetch_add(&served, 1);
  } else {
    CHECK_ZERO(error);
  }
  return NULL;  // with the mutex
}

static void Many(void) {
  Reset();
  for (int round = 0; round < 50; round++) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) threads[i] = StartThread(LockAndEnd, NULL);
    for (int i = 0; i < 4; i++) JoinThread(threads[i]);
  }
  CHECK_EQ(atomic_load(&served), 199);
  Say("many");
}

int main(void) {
  WithWaiters();
  WithoutWaiters();
  Robust(false);
  Robust(true);
  CHECK_ZERO(pthread_mutex_unlock(&mutex));
  Many();
  return 0;
}
