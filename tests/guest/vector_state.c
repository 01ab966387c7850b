// variants: dynamic static musl
// x87, SSE, AVX and AVX-512 state survives system calls, page faults, signals (with handlers that
// change all of it) and other threads; a handler starts with the default control words.
#include "tests/guest/vector.h"

static volatile int calls;
static volatile uint32_t handler_mxcsr;
static volatile uint16_t handler_control;
static pthread_t target;
static uint8_t flag;
static atomic_bool stop;
static atomic_int ready;

static void Handler(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  uint32_t mxcsr;
  uint16_t control;
  __asm__ volatile("stmxcsr %0\n fnstcw %1" : "=m"(mxcsr), "=m"(control));
  handler_mxcsr = mxcsr;
  handler_control = control;
  int saved_errno = errno;
  RunVectors(1000 + (unsigned)calls, (struct VectorCall){.number = SYS_getppid}, "in the handler");
  errno = saved_errno;
  calls++;
  if (calls >= 200) __atomic_store_n(&flag, 1, __ATOMIC_SEQ_CST);
}

static void* Sender(void* unused) {
  (void)unused;
  while (!atomic_load(&stop)) {
    pthread_kill(target, SIGUSR1);
    for (int i = 0; i < 300; i++) __builtin_ia32_pause();
  }
  return NULL;
}

static void* Spinner(void* seed) {
  atomic_fetch_add(&ready, 1);
  RunVectors((unsigned)(long)seed, (struct VectorCall){kSpin, {(uintptr_t)&flag}},
             "spinning thread");
  return NULL;
}

static void* Sleeper(void* seed) {
  atomic_fetch_add(&ready, 1);
  struct timespec time = TimespecMs(100);
  struct VectorCall call = {SYS_nanosleep, {(uintptr_t)&time}};
  CHECK_EQ(RunVectors((unsigned)(long)seed, call, "sleeping thread"), 0);
  return NULL;
}

int main(void) {
  target = pthread_self();
  OnSignal(SIGUSR1, Handler, 0);
  for (unsigned i = 0; i < 200; i++) {
    RunVectors(i, (struct VectorCall){.number = SYS_getppid}, "getppid");
    CHECK_EQ(RunVectors(i, (struct VectorCall){.number = 100000}, "no such call"), -ENOSYS);
    RunVectors(i, (struct VectorCall){.number = SYS_sched_yield}, "sched_yield");
  }
  Say("system calls");

  uint8_t* pages = MapAnonymous(64 * kPage, PROT_READ | PROT_WRITE);
  for (unsigned i = 0; i < 64; i++) {
    pages[i * kPage] = 0;
    CHECK_OK(madvise(pages + i * kPage, kPage, MADV_DONTNEED));
    struct VectorCall spin = {kSpin, {(uintptr_t)pages + i * kPage}};  // reads a fresh page: zero
    pages[i * kPage] = 1;
    RunVectors(i, spin, "page fault");
    struct timespec* time = (struct timespec*)(pages + i * kPage + 64);
    RunVectors(i, (struct VectorCall){SYS_clock_gettime, {0, (uintptr_t)time}}, "clock_gettime");
  }
  Say("page faults");

  for (unsigned i = 0; i < 100; i++) {
    struct VectorCall call = {SYS_tgkill, {(uint64_t)getpid(), (uint64_t)OwnTid(), SIGUSR1}};
    CHECK_EQ(RunVectors(i * 3 + 1, call, "signal"), 0);
    CHECK_EQ(handler_mxcsr, 0x1f80);
    CHECK_EQ(handler_control, 0x37f);
  }
  CHECK_EQ(calls, 100);
  Say("signals");

  flag = 0;
  calls = 0;
  pthread_t sender = StartThread(Sender, NULL);
  RunVectors(77, (struct VectorCall){kSpin, {(uintptr_t)&flag}}, "asynchronous signals");
  atomic_store(&stop, true);
  JoinThread(sender);
  Say("asynchronous signals");

  flag = 0;
  pthread_t threads[8];
  for (long i = 0; i < 8; i++) threads[i] = StartThread(i % 2 ? Spinner : Sleeper, (void*)(i * 11));
  AwaitAtLeast(&ready, 8);
  struct VectorCall call = {.number = GuestSnapshotWanted() ? HC_snapshot : SYS_getppid};
  long result = RunVectors(5, call, "snapshot");
  if (GuestSnapshotWanted()) CHECK(result == 1 || result == -ENOSYS);
  SleepMs(120);
  __atomic_store_n(&flag, 1, __ATOMIC_SEQ_CST);
  for (int i = 0; i < 8; i++) JoinThread(threads[i]);
  Say("threads");
  return 0;
}
