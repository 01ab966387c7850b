// Thread-directed signals reach that thread; process-directed ones reach a thread that does not
// block them, or stay pending until one unblocks them.
#include "tests/guest/guest.h"

enum { kThreads = 6 };

static pthread_t threads[kThreads];
static atomic_int ready, handled_by[kThreads], process_signals;
static _Thread_local int self = -1;
static atomic_bool stop;
static atomic_int last_handler = -2;

static void OnDirect(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)context;
  CHECK_EQ(info->si_code, SI_TKILL);
  CHECK(self >= 0);
  atomic_fetch_add(&handled_by[self], 1);
}

static void OnProcess(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  atomic_store(&last_handler, self);
  atomic_fetch_add(&process_signals, 1);
}

// One spins, one makes system calls, one sleeps, and so on; the last alone takes SIGUSR2.
static void* Body(void* argument) {
  self = (int)(long)argument;
  if (self == kThreads - 1) UnblockSignals(SIGUSR2, 0);
  atomic_fetch_add(&ready, 1);
  while (!atomic_load(&stop)) {
    if (self % 3 == 0) __builtin_ia32_pause();
    if (self % 3 == 1) syscall(SYS_getppid);
    if (self % 3 == 2) SleepMs(5);
  }
  return NULL;
}

int main(void) {
  OnSignal(SIGUSR1, OnDirect, 0);
  OnSignal(SIGUSR2, OnProcess, 0);
  BlockSignals(SIGUSR2, 0);  // inherited by the threads
  for (long i = 0; i < kThreads; i++) threads[i] = StartThread(Body, (void*)i);
  AwaitAtLeast(&ready, kThreads);
  for (int round = 1; round <= 60; round++) {
    for (int i = 0; i < kThreads; i++) CHECK_ZERO(pthread_kill(threads[i], SIGUSR1));
    for (int i = 0; i < kThreads; i++) AwaitAtLeast(&handled_by[i], round);
    if (round == 30) GuestSnapshot();
  }
  for (int i = 0; i < kThreads; i++) CHECK_EQ(handled_by[i], 60);
  Say("thread-directed");

  for (int round = 1; round <= 60; round++) {
    CHECK_OK(kill(getpid(), SIGUSR2));
    AwaitAtLeast(&process_signals, round);
    CHECK_EQ(atomic_load(&last_handler), kThreads - 1);
    if (round == 30) GuestSnapshot();
  }
  Say("process-directed");

  atomic_store(&stop, true);
  for (int i = 0; i < kThreads; i++) JoinThread(threads[i]);
  CHECK_OK(kill(getpid(), SIGUSR2));  // now nobody takes it
  CHECK_EQ(atomic_load(&process_signals), 60);
  sigset_t pending;
  CHECK_OK(sigpending(&pending));
  CHECK_EQ(sigismember(&pending, SIGUSR2), 1);
  atomic_store(&ready, 0);
  JoinThread(StartThread(Body, (void*)(long)(kThreads - 1)));  // unblocks it
  CHECK_EQ(atomic_load(&process_signals), 61);
  CHECK_OK(sigpending(&pending));
  CHECK_EQ(sigismember(&pending, SIGUSR2), 0);
  Say("taken by the first that can");
  return 0;
}
