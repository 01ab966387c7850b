// Signals across eight threads, none lost, none twice, in order: realtime signals from each to the
// next and to whoever takes them, and a queue that four threads empty with sigwaitinfo. STRESS=400
// makes a million of them.
#include "tests/guest/guest.h"

enum { kThreads = 8, kEach = 240 };

static long each;
static int direct_signal, shared_signal, waited_signal;
static pid_t tids[kThreads];
static atomic_int ready, done_sending;
static _Thread_local long self;
static atomic_long expected[kThreads];  // the next value of the sender before this thread
static atomic_long shared_count, shared_sum, waited_count, waited_sum;

static void OnDirect(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  long value = (long)info->si_value.sival_ptr;
  if (value != atomic_fetch_add(&expected[self], 1)) FAIL("thread %ld got %ld", self, value);
}

static void OnShared(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  atomic_fetch_add(&shared_sum, (long)info->si_value.sival_ptr);
  atomic_fetch_add(&shared_count, 1);
}

// Until the queue has room.
static void Send(pid_t tid, int number, long value) {
  siginfo_t info = {.si_code = SI_QUEUE};
  info.si_value.sival_ptr = (void*)value;
  while ((tid != 0 ? syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, number, &info)
                   : syscall(SYS_rt_sigqueueinfo, getpid(), number, &info)) != 0) {
    CHECK_EQ(errno, EAGAIN);
    sched_yield();
  }
}

static void* Ring(void* index) {
  self = (long)index;
  tids[self] = OwnTid();
  atomic_fetch_add(&ready, 1);
  AwaitAtLeast(&ready, kThreads);
  for (long i = 0; i < each; i++) {
    Send(tids[(self + 1) % kThreads], direct_signal, i);
    if (i % 4 == 0) Send(0, shared_signal, i);
  }
  atomic_fetch_add(&done_sending, 1);
  while (atomic_load(&expected[self]) < each) usleep(1000);
  AwaitAtLeast(&done_sending, kThreads);
  return NULL;
}

static void* Taker(void* unused) {
  sigset_t set = SignalSet(waited_signal, 0);
  siginfo_t info;
  while (true) {
    int number = sigwaitinfo(&set, &info);
    if (number < 0) {
      CHECK_EQ(errno, EINTR);
      continue;
    }
    long value = (long)info.si_value.sival_ptr;
    if (value < 0) return unused;
    atomic_fetch_add(&waited_sum, value);
    atomic_fetch_add(&waited_count, 1);
  }
}

int main(void) {
  const char* stress = getenv("STRESS");
  each = kEach * (stress != NULL ? atol(stress) : 1);
  direct_signal = SIGRTMIN;
  shared_signal = SIGRTMIN + 1;
  waited_signal = SIGRTMIN + 2;
  OnSignal(direct_signal, OnDirect, SA_RESTART);
  OnSignal(shared_signal, OnShared, SA_RESTART);
  BlockSignals(waited_signal, 0);
  // The main thread takes none of the first two.
  BlockSignals(direct_signal, shared_signal);
  pthread_t threads[kThreads];
  for (long i = 0; i < kThreads; i++) {
    UnblockSignals(direct_signal, shared_signal);
    threads[i] = StartThread(Ring, (void*)i);
    BlockSignals(direct_signal, shared_signal);
  }
  for (int i = 0; i < kThreads; i++) JoinThread(threads[i]);
  // What is still pending for the process finds the main thread.
  UnblockSignals(shared_signal, 0);
  for (int i = 0; i < kThreads; i++) CHECK_EQ(atomic_load(&expected[i]), each);
  long shared = (each + 3) / 4;
  CHECK_EQ(atomic_load(&shared_count), kThreads * shared);
  CHECK_EQ(atomic_load(&shared_sum), kThreads * 4 * (shared * (shared - 1) / 2));
  Say("%s", "from thread to thread");

  for (int i = 0; i < 4; i++) threads[i] = StartThread(Taker, NULL);
  for (long i = 0; i < each; i++) Send(0, waited_signal, i);
  for (int i = 0; i < 4; i++) Send(0, waited_signal, -1);
  for (int i = 0; i < 4; i++) JoinThread(threads[i]);
  CHECK_EQ(atomic_load(&waited_count), each);
  CHECK_EQ(atomic_load(&waited_sum), each * (each - 1) / 2);
  Say("%s", "taken by sigwaitinfo");
  return 0;
}
