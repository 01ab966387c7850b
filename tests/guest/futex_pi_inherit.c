// Priority inheritance: who owns a futex runs with the priority of whoever waits for it, and the
// waiters get it in order of their priorities; across snapshots. All threads but the first run in
// real time on one processor, none of them for long.
#include "tests/guest/pi.h"

enum { kLow = 10, kMedium = 20, kHigh = 30, kSpinMs = 200 };

static pthread_mutex_t mutex;
static atomic_int first, second;  // futexes
static atomic_int ready, owner, started, spinning, served;
static atomic_bool go, spun_out, stop;

static void Reset(void) {
  atomic_store(&ready, 0);
  atomic_store(&started, 0);
  atomic_store(&spinning, 0);
  atomic_store(&served, 0);
  atomic_store(&go, false);
  atomic_store(&spun_out, false);
  atomic_store(&stop, false);
}

// ---- A thread of medium priority does not keep one of high priority waiting ----

static void* HoldUntilWanted(void* unused) {
  (void)unused;
  RunInRealTime(kLow);
  CHECK_ZERO(pthread_mutex_lock(&mutex));
  atomic_store(&ready, 1);
  // With its own priority it would not come back from this sleep as long as the other one spins.
  while (atomic_load(&started) == 0) SleepMs(1);
  CHECK_ZERO(pthread_mutex_unlock(&mutex));
  return NULL;
}

static void* Spin(void* unused) {
  (void)unused;
  RunInRealTime(kMedium);
  int64_t end = NowNs(CLOCK_MONOTONIC) + (GuestEmulated() ? 10 : 1) * kSpinMs * 1000000ll;
  atomic_store(&spinning, 1);
  while (!atomic_load(&stop)) {
    if (NowNs(CLOCK_MONOTONIC) > end) atomic_store(&spun_out, true);
    if (atomic_load(&spun_out)) break;
  }
  return NULL;
}

static void* WantMutex(void* unused) {
  (void)unused;
  RunInRealTime(kHigh);
  atomic_store(&ready, 1);
  while (atomic_load(&spinning) == 0) SleepMs(1);
  atomic_store(&started, 1);
  CHECK_ZERO(pthread_mutex_lock(&mutex));
  // A snapshot in between stops them all, for longer than that.
  if (atomic_load(&spun_out) && !GuestInjected()) FAIL("it waited for the one that spins");
  atomic_store(&stop, true);
  CHECK_ZERO(pthread_mutex_unlock(&mutex));
  return NULL;
}

static void Inversion(void) {
  for (int i = 0; i < 5; i++) {
    Reset();
    pthread_t low = StartThread(HoldUntilWanted, NULL);
    AwaitAtLeast(&ready, 1);
    atomic_store(&ready, 0);
    pthread_t high = StartThread(WantMutex, NULL);
    AwaitAtLeast(&ready, 1);
    pthread_t medium = StartThread(Spin, NULL);
    JoinThread(high);
    JoinThread(medium);
    JoinThread(low);
  }
  Say("no inversion");
}

// ---- What /proc says ----

struct Lock {
  atomic_int *held, *wanted;
  int priority;
  long timeout_ms;
};

// Takes `held`, if it is to, waits for `wanted`, if it is to, and goes when told.
static void* LockBoth(void* argument) {
  struct Lock lock = *(struct Lock*)argument;
  RunInRealTime(lock.priority);
  if (lock.held != NULL) CHECK_OK(LockPi(lock.held));
  atomic_store(&owner, OwnTid());
  struct timespec until = In(CLOCK_REALTIME, lock.timeout_ms);
  if (lock.timeout_ms != 0) {
    CHECK_ERRNO(Futex(lock.wanted, kFutexLockPi, 0, &until, NULL, 0), ETIMEDOUT);
  } else if (lock.wanted != NULL) {
    CHECK_OK(LockPi(lock.wanted));
    CHECK_OK(UnlockPi(lock.wanted));
  } else {
    while (!atomic_load(&go)) SleepMs(1);
  }
  if (lock.held != NULL) CHECK_OK(UnlockPi(lock.held));
  if (lock.held != NULL) CHECK_EQ(PriorityOf(OwnTid()), lock.priority);
  return NULL;
}

// Returns with the thread's id in *tid.
static pthread_t StartLock(struct Lock* lock, pid_t* tid) {
  atomic_store(&owner, 0);
  pthread_t thread = StartThread(LockBoth, lock);
  AwaitAtLeast(&owner, 1);
  *tid = atomic_load(&owner);
  return thread;
}

static void Boost(void) {
  Reset();
  struct Lock holds = {&first, NULL, kLow, 0}, wants = {NULL, &first, kHigh, 0};
  struct Lock wants_less = {NULL, &first, kMedium, 0};
  pid_t low, other;
  pthread_t threads[3];
  threads[0] = StartLock(&holds, &low);
  AwaitPriority(low, kLow);
  threads[1] = StartLock(&wants_less, &other);
  AwaitPriority(low, kMedium);
  threads[2] = StartLock(&wants, &other);
  AwaitPriority(low, kHigh);
  GuestSnapshot();
  AwaitPriority(low, kHigh);
  atomic_store(&go, true);
  for (int i = 0; i < 3; i++) JoinThread(threads[i]);
  CHECK_EQ(atomic_load(&first) & kPiTidMask, 0);
  Say("inherited");
}

static void BoostEnds(void) {
  Reset();
  struct Lock holds = {&first, NULL, kLow, 0}, wants = {NULL, &first, kHigh, 100};
  pid_t low, high;
  pthread_t threads[2];
  threads[0] = StartLock(&holds, &low);
  threads[1] = StartLock(&wants, &high);
  JoinThread(threads[1]);
  AwaitPriority(low, kLow);
  atomic_store(&go, true);
  JoinThread(threads[0]);
  Say("given back");
}

static void Chain(void) {
  Reset();
  struct Lock end = {&first, NULL, kLow, 0}, middle = {&second, &first, kLow + 1, 0};
  struct Lock begin = {NULL, &second, kHigh, 0};
  pid_t tids[3];
  pthread_t threads[3];
  threads[0] = StartLock(&end, &tids[0]);
  threads[1] = StartLock(&middle, &tids[1]);
  AwaitPriority(tids[0], kLow + 1);
  threads[2] = StartLock(&begin, &tids[2]);
  AwaitPriority(tids[1], kHigh);
  AwaitPriority(tids[0], kHigh);
  GuestSnapshot();
  AwaitPriority(tids[1], kHigh);
  AwaitPriority(tids[0], kHigh);
  atomic_store(&go, true);
  for (int i = 0; i < 3; i++) JoinThread(threads[i]);
  Say("inherited over two");
}

// ---- Who is served first ----

static void* WantInOrder(void* priority) {
  RunInRealTime((int)(long)priority);
  atomic_store(&owner, OwnTid());
  CHECK_OK(LockPi(&first));
  // The highest first, whenever they came. A snapshot just now makes all of them come again.
  int place = atomic_fetch_add(&served, 1);
  if (!GuestInjected()) CHECK_EQ(place, kHigh - (int)(long)priority);
  CHECK_EQ(atomic_load(&first) & kPiTidMask, OwnTid());
  CHECK_OK(UnlockPi(&first));
  return NULL;
}

static void Order(void) {
  static const int kOrder[] = {kHigh - 3, kHigh - 1, kHigh, kHigh - 4, kHigh - 2};
  Reset();
  struct Lock holds = {&first, NULL, kLow, 0};
  pid_t low;
  pthread_t owner_thread = StartLock(&holds, &low), threads[5];
  for (int i = 0, top = kLow; i < 5; i++) {
    threads[i] = StartThread(WantInOrder, (void*)(long)kOrder[i]);
    top = kOrder[i] > top ? kOrder[i] : top;
    AwaitPriority(low, top);
    SleepMs(20);  // those that change nothing are not seen to wait
  }
  GuestSnapshot();
  AwaitPriority(low, kHigh);
  SleepMs(60);
  atomic_store(&go, true);
  JoinThread(owner_thread);
  for (int i = 0; i < 5; i++) JoinThread(threads[i]);
  Say("in order of priority");
}

int main(void) {
  if (!MayUseRealTime()) {
    Say("left out: no right to schedule in real time");
    return 0;
  }
  pthread_mutexattr_t attributes;
  CHECK_ZERO(pthread_mutexattr_init(&attributes));
  CHECK_ZERO(pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT));
  CHECK_ZERO(pthread_mutex_init(&mutex, &attributes));
  Inversion();
  Boost();
  BoostEnds();
  Chain();
  Order();
  return 0;
}
