// What futexes with an owner refuse, and what they leave in the word: raw system calls against the
// kernel's own answers.
#include "tests/guest/pi.h"

static atomic_int word, locks[3];
static atomic_int holders, links[2];
static atomic_bool go;
static pid_t holder_tid;

// ---- One thread ----

static void Arguments(void) {
  struct timespec odd = {.tv_nsec = 1000000000}, past = {.tv_sec = 1};
  CHECK_ERRNO(LockPi(NULL), EFAULT);
  CHECK_ERRNO(UnlockPi(NULL), EFAULT);
  CHECK_ERRNO(LockPi((atomic_int*)((char*)&word + 1)), EINVAL);
  CHECK_ERRNO(UnlockPi((atomic_int*)((char*)&word + 1)), EPERM);  // no owner there: looked at first
  CHECK_ERRNO(Futex(&word, kFutexLockPi, 0, &odd, NULL, 0), EINVAL);
  CHECK_ERRNO(Futex(&word, kFutexLockPi, 0, (void*)1, NULL, 0), EFAULT);
  CHECK_ERRNO(Futex(&word, kFutexLockPi | kFutexClockRealtime, 0, NULL, NULL, 0), ENOSYS);
  CHECK_ERRNO(Futex(&word, kFutexTrylockPi | kFutexClockRealtime, 0, NULL, NULL, 0), ENOSYS);
  CHECK_ERRNO(Futex(&word, kFutexUnlockPi | kFutexClockRealtime, 0, NULL, NULL, 0), ENOSYS);
  CHECK_ERRNO(Futex(&word, kFutexWake | kFutexClockRealtime, 1, NULL, NULL, 0), ENOSYS);
  CHECK_EQ(atomic_load(&word), 0);
  // A time that is over does not matter to whom need not wait.
  CHECK_OK(Futex(&word, kFutexLockPi, 0, &past, NULL, 0));
  CHECK_OK(UnlockPi(&word));
  CHECK_OK(Futex(&word, kFutexLockPi2, 0, &past, NULL, 0));
  CHECK_OK(UnlockPi(&word));
  CHECK_OK(Futex(&word, kFutexLockPi2 | kFutexClockRealtime, 0, &past, NULL, 0));
  CHECK_OK(UnlockPi(&word));
  Say("arguments");
}

static void Rights(void) {
  uint8_t* page = MapAnonymous(kPage, PROT_READ | PROT_WRITE);
  atomic_int* lock = (atomic_int*)page;
  atomic_store(lock, OwnTid());
  CHECK_OK(mprotect(page, kPage, PROT_READ));
  CHECK_ERRNO(UnlockPi(lock), EFAULT);
  CHECK_ERRNO(LockPi(lock), EDEADLK);
  CHECK_OK(mprotect(page, kPage, PROT_READ | PROT_WRITE));
  atomic_store(lock, 0);
  CHECK_OK(mprotect(page, kPage, PROT_READ));
  CHECK_ERRNO(LockPi(lock), EFAULT);
  CHECK_ERRNO(Futex(lock, kFutexTrylockPi, 0, NULL, NULL, 0), EFAULT);
  CHECK_ERRNO(UnlockPi(lock), EPERM);
  CHECK_OK(mprotect(page, kPage, PROT_NONE));
  CHECK_ERRNO(LockPi(lock), EFAULT);
  CHECK_OK(munmap(page, kPage));
  Say("rights");
}

// Each word, what it is asked, the error (0: none) and the word afterwards. -1: the caller's id.
static void Words(void) {
  static const struct {
    int before, operation, error, after;
    bool own_before, own_after;
  } kCases[] = {
      {0, kFutexLockPi, 0, 0, false, true},
      {kPiWaiters, kFutexLockPi, 0, 0, false, true},
      {kPiOwnerDied, kFutexLockPi, 0, kPiOwnerDied, false, true},
      {kPiWaiters | kPiOwnerDied, kFutexLockPi, 0, kPiOwnerDied, false, true},
      {0, kFutexLockPi, EDEADLK, 0, true, true},
      {kPiWaiters, kFutexLockPi, EDEADLK, kPiWaiters, true, true},
      {kPiOwnerDied, kFutexLockPi, EDEADLK, kPiOwnerDied, true, true},
      {kNoThread, kFutexLockPi, ESRCH, kNoThread | kPiWaiters, false, false},
      {kNoThread | kPiOwnerDied, kFutexLockPi, ESRCH, kNoThread | kPiWaiters | kPiOwnerDied, false,
       false},
      {0, kFutexTrylockPi, 0, 0, false, true},
      {kPiWaiters | kPiOwnerDied, kFutexTrylockPi, 0, kPiOwnerDied, false, true},
      {0, kFutexTrylockPi, EDEADLK, 0, true, true},
      {kNoThread, kFutexTrylockPi, ESRCH, kNoThread | kPiWaiters, false, false},
      {0, kFutexLockPi2, 0, 0, false, true},
      {0, kFutexUnlockPi, EPERM, 0, false, false},
      {kPiWaiters | kPiOwnerDied, kFutexUnlockPi, EPERM, kPiWaiters | kPiOwnerDied, false, false},
      {kNoThread, kFutexUnlockPi, EPERM, kNoThread, false, false},
      {0, kFutexUnlockPi, 0, 0, true, false},
      {kPiWaiters, kFutexUnlockPi, 0, 0, true, false},
      {kPiWaiters | kPiOwnerDied, kFutexUnlockPi, 0, 0, true, false},
  };
  for (size_t i = 0; i < sizeof kCases / sizeof kCases[0]; i++) {
    atomic_store(&word, kCases[i].before | (kCases[i].own_before ? OwnTid() : 0));
    int error = Futex(&word, kCases[i].operation, 0, NULL, NULL, 0) == 0 ? 0 : errno;
    int after = kCases[i].after | (kCases[i].own_after ? OwnTid() : 0);
    if (error != kCases[i].error || atomic_load(&word) != after) {
      FAIL("case %zu: error %d, word %#x", i, error, atomic_load(&word));
    }
  }
  atomic_store(&word, 0);
  Say("words");
}

// ---- A word that another thread holds, and a third one waits for ----

static void* Hold(void* unused) {
  (void)unused;
  int tid = OwnTid(), none = 0;
  CHECK(atomic_compare_exchange_strong(&word, &none, tid));  // as libc does: without a call
  holder_tid = tid;
  atomic_store(&holders, 1);
  while (!atomic_load(&go)) SleepMs(1);
  CHECK_OK(UnlockPi(&word));
  return NULL;
}

static void* WaitForIt(void* unused) {
  (void)unused;
  CHECK_OK(LockPi(&word));
  CHECK_OK(UnlockPi(&word));
  return NULL;
}

static void Timeouts(void) {
  static const struct {
    int operation;
    clockid_t clock;
  } kCases[] = {{kFutexLockPi, CLOCK_REALTIME},
                {kFutexLockPi2, CLOCK_MONOTONIC},
                {kFutexLockPi2 | kFutexClockRealtime, CLOCK_REALTIME}};
  for (int i = 0; i < 3; i++) {
    struct timespec until = In(kCases[i].clock, 60), past = {.tv_sec = 1};
    CHECK_ERRNO(Futex(&word, kCases[i].operation, 0, &until, NULL, 0), ETIMEDOUT);
    if (NowNs(kCases[i].clock) < until.tv_sec * 1000000000ll + until.tv_nsec) FAIL("too early");
    CHECK_ERRNO(Futex(&word, kCases[i].operation, 0, &past, NULL, 0), ETIMEDOUT);
    CHECK_EQ(atomic_load(&word), kPiWaiters | holder_tid);
  }
}

// What nobody should do: the word says something else than the kernel knows.
static void Tampered(void) {
  int value = kPiWaiters | holder_tid;
  CHECK_EQ(atomic_load(&word), value);
  CHECK_ERRNO(Futex(&word, kFutexRequeue, 1, (void*)1, &locks[0], 0), EINVAL);
  static const int kValues[] = {0, kPiWaiters, kNoThread, kPiWaiters | kNoThread};
  for (int i = 0; i < 4; i++) {
    atomic_store(&word, kValues[i]);
    CHECK_ERRNO(LockPi(&word), EINVAL);
    CHECK_ERRNO(Futex(&word, kFutexTrylockPi, 0, NULL, NULL, 0), EINVAL);
    CHECK_EQ(atomic_load(&word), kValues[i]);
  }
  atomic_store(&word, kPiWaiters | OwnTid());
  CHECK_ERRNO(UnlockPi(&word), EINVAL);
  CHECK_ERRNO(LockPi(&word), EDEADLK);
  atomic_store(&word, value);
}

static void Contended(void) {
  pthread_t holder = StartThread(Hold, NULL);
  AwaitAtLeast(&holders, 1);
  CHECK_ERRNO(UnlockPi(&word), EPERM);
  CHECK_EQ(atomic_load(&word), holder_tid);
  CHECK_ERRNO(Futex(&word, kFutexTrylockPi, 0, NULL, NULL, 0), EAGAIN);
  CHECK_EQ(atomic_load(&word), kPiWaiters | holder_tid);  // natively it looks like a waiter
  Timeouts();
  pthread_t waiter = StartThread(WaitForIt, NULL);
  // With one that waits the kernel has something to compare the word with; before, it has nothing.
  AwaitQueued(&word);
  CHECK_ERRNO(Futex(&word, kFutexTrylockPi, 0, NULL, NULL, 0), EAGAIN);
  CHECK_ERRNO(UnlockPi(&word), EPERM);
  if (!GuestInjected()) Tampered();
  atomic_store(&go, true);
  JoinThread(holder);
  JoinThread(waiter);
  CHECK_EQ(atomic_load(&word), 0);
  Say("contended");
}

// ---- Deadlocks ----

// Holds its lock, waits for the next one's.
static void* Link(void* argument) {
  int i = (int)(long)argument;
  CHECK_OK(LockPi(&locks[i]));
  atomic_fetch_add(&holders, 1);
  AwaitAtLeast(&holders, 3);
  atomic_store(&links[i], OwnTid());
  CHECK_OK(LockPi(&locks[i + 1]));
  CHECK_OK(UnlockPi(&locks[i + 1]));
  CHECK_OK(UnlockPi(&locks[i]));
  return NULL;
}

static void Deadlock(void) {
  atomic_store(&holders, 0);
  CHECK_OK(LockPi(&locks[2]));
  pthread_t threads[2];
  for (long i = 0; i < 2; i++) threads[i] = StartThread(Link, (void*)i);
  AwaitAtLeast(&holders, 2);
  atomic_fetch_add(&holders, 1);
  struct timespec never = In(CLOCK_REALTIME, 20000);
  for (int round = 0; round < 2; round++) {
    // The loop is closed by whoever comes last: it must be this thread.
    for (int i = 0; i < 2; i++) {
      AwaitAtLeast(&links[i], 1);
      AwaitQueued(&locks[i + 1]);
      AwaitAsleep(atomic_load(&links[i]));
    }
    for (int i = 0; i < 2; i++) {
      CHECK_ERRNO(Futex(&locks[i], kFutexLockPi, 0, &never, NULL, 0), EDEADLK);
      CHECK((atomic_load(&locks[i]) & kPiWaiters) != 0);
    }
    if (round == 0) GuestSnapshot();
  }
  CHECK_OK(UnlockPi(&locks[2]));
  for (int i = 0; i < 2; i++) JoinThread(threads[i]);
  for (int i = 0; i < 3; i++) CHECK_EQ(atomic_load(&locks[i]), 0);
  Say("deadlock");
}

int main(void) {
  Arguments();
  Rights();
  Words();
  Contended();
  if (!GuestInjected()) Deadlock();
  return 0;
}
