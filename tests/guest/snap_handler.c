// A snapshot asked for inside a signal handler, and others caught in theirs, nested, on alternate
// stacks and on ordinary ones: all return to what was interrupted, with every register.
#include "tests/guest/vector.h"

static atomic_int in_handler;
static atomic_bool go;
static volatile int depth;

// Ends when the snapshot has been taken; the thread it interrupted has its vector registers loaded.
static void Stay(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  RunVectors(500, (struct VectorCall){.number = SYS_getppid}, "in a handler");
  atomic_fetch_add(&in_handler, 1);
  while (!atomic_load(&go)) __builtin_ia32_pause();
}

static void Ask(int number, siginfo_t* info, void* context) {
  (void)context;
  if (number == SIGUSR2) {
    CHECK_EQ(info->si_value.sival_int, 99);
    depth++;
    GuestSnapshot();
    depth++;
  } else {
    raise(SIGHUP);  // deeper, on the other stack
  }
  sigset_t mask;
  CHECK_OK(sigprocmask(SIG_BLOCK, NULL, &mask));
  CHECK_EQ(sigismember(&mask, number), 1);
}

static void Nested(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  stack_t stack;
  CHECK_OK(sigaltstack(NULL, &stack));
  CHECK_EQ(stack.ss_flags, SS_ONSTACK);
  CHECK_OK(sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 99}));
}

static void* Caught(void* argument) {
  long seed = (long)argument;
  stack_t stack = {.ss_sp = MapAnonymous(16 * kPage, PROT_READ | PROT_WRITE),
                   .ss_size = 16 * kPage};
  if (seed % 2 == 0) CHECK_OK(sigaltstack(&stack, NULL));
  struct VectorCall call = {SYS_tgkill, {(uint64_t)getpid(), (uint64_t)OwnTid(), SIGUSR1}};
  RunVectors((unsigned)seed, call, "interrupted by a handler");
  return NULL;
}

int main(void) {
  OnSignal(SIGUSR1, Stay, SA_ONSTACK);
  OnSignal(SIGUSR2, Ask, SA_ONSTACK);
  OnSignal(SIGTERM, Ask, 0);
  OnSignal(SIGHUP, Nested, SA_ONSTACK);
  stack_t stack = {.ss_sp = MapAnonymous(32 * kPage, PROT_READ | PROT_WRITE),
                   .ss_size = 32 * kPage};
  CHECK_OK(sigaltstack(&stack, NULL));
  pthread_t threads[4];
  BlockSignals(SIGUSR2, 0);  // the others do not take it
  for (long i = 0; i < 4; i++) threads[i] = StartThread(Caught, (void*)(i + 40));
  UnblockSignals(SIGUSR2, 0);
  AwaitAtLeast(&in_handler, 4);
  struct VectorCall call = {SYS_tgkill, {(uint64_t)getpid(), (uint64_t)OwnTid(), SIGTERM}};
  RunVectors(7, call, "interrupted by nested handlers");
  CHECK_EQ(depth, 2);
  Say("nested");
  atomic_store(&go, true);
  for (int i = 0; i < 4; i++) JoinThread(threads[i]);
  CHECK_OK(sigaltstack(NULL, &stack));
  CHECK_EQ(stack.ss_flags, 0);
  sigset_t mask;
  CHECK_OK(sigprocmask(SIG_BLOCK, NULL, &mask));
  CHECK_EQ(sigismember(&mask, SIGUSR2) + sigismember(&mask, SIGHUP) + sigismember(&mask, SIGTERM),
           0);
  Say("all returned");
  return 0;
}
