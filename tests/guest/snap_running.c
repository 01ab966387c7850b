// variants: dynamic static musl
// A snapshot while threads run: spinning, in the vDSO, in system calls, in page faults, in signal
// handlers on alternate stacks, starting and ending threads. Each checks itself all the time and is
// finished after the last snapshot.
#include "tests/guest/fault.h"

enum { kKinds = 7, kSnapshots = 4 };

static atomic_bool stop;
static atomic_long rounds[kKinds];
static pthread_t threads[kKinds];
static atomic_int in_handler;

static void Handler(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  volatile char frame[256];
  memset((char*)frame, 0x3c, sizeof frame);
  stack_t stack;
  CHECK_OK(sigaltstack(NULL, &stack));
  CHECK_EQ(stack.ss_flags, SS_ONSTACK);
  CHECK((uintptr_t)frame - (uintptr_t)stack.ss_sp < stack.ss_size);
  atomic_store(&in_handler, 1);
  while (!atomic_load(&stop)) {
    for (size_t i = 0; i < sizeof frame; i++) CHECK_EQ(frame[i], 0x3c);
    atomic_fetch_add(&rounds[4], 1);
  }
}

static void Spin(void) {
  volatile uint64_t a = 1, b = 1;
  while (!atomic_load(&stop)) {
    uint64_t x = 88172645463325252ull;
    for (int i = 0; i < 1000; i++) x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    if (rounds[0] == 0) a = x;
    b = x;
    CHECK_EQ(a, b);
    atomic_fetch_add(&rounds[0], 1);
  }
}

static void Clock(void) {
  int64_t last = NowNs(CLOCK_MONOTONIC);
  while (!atomic_load(&stop)) {
    int64_t now = NowNs(CLOCK_MONOTONIC);
    if (now < last) FAIL("CLOCK_MONOTONIC went back by %lld ns", (long long)(last - now));
    if (now - last > 10000000000)
      FAIL("CLOCK_MONOTONIC jumped by %lld ns", (long long)(now - last));
    last = now;
    atomic_fetch_add(&rounds[1], 1);
  }
}

static void Calls(void) {
  pid_t pid = getpid(), tid = OwnTid();
  while (!atomic_load(&stop)) {
    CHECK_EQ(syscall(SYS_getpid), pid);
    CHECK_EQ(syscall(SYS_gettid), tid);
    CHECK_ERRNO(syscall(SYS_close, -1), EBADF);
    atomic_fetch_add(&rounds[2], 1);
  }
}

static void Faults(void) {
  uint8_t* memory = MapAnonymous(64 * kPage, PROT_READ | PROT_WRITE);
  while (!atomic_load(&stop)) {
    for (int i = 0; i < 64; i++) {
      CHECK_EQ(memory[i * kPage], 0);
      memory[i * kPage] = (uint8_t)(i + 1);
    }
    for (int i = 0; i < 64; i++) CHECK_EQ(memory[i * kPage], i + 1);
    CHECK_FAULT(TryRead((void*)0x18), SIGSEGV, SEGV_MAPERR, 0x18);
    CHECK_OK(madvise(memory, 64 * kPage, MADV_DONTNEED));
    atomic_fetch_add(&rounds[3], 1);
  }
}

static void InHandler(void) {
  stack_t stack = {.ss_sp = MapAnonymous(16 * kPage, PROT_READ | PROT_WRITE),
                   .ss_size = 16 * kPage};
  CHECK_OK(sigaltstack(&stack, NULL));
  CHECK_OK(syscall(SYS_tgkill, getpid(), OwnTid(), SIGUSR1));
  CHECK_OK(sigaltstack(NULL, &stack));
  CHECK_EQ(stack.ss_flags, 0);
}

static void* Nothing(void* argument) { return argument; }

static void Threads(void) {
  while (!atomic_load(&stop)) {
    CHECK(JoinThread(StartThread(Nothing, &stop)) == &stop);
    atomic_fetch_add(&rounds[5], 1);
  }
}

static void Mappings(void) {
  while (!atomic_load(&stop)) {
    uint8_t* memory = MapAnonymous(4 * kPage, PROT_READ | PROT_WRITE);
    memory[kPage] = 1;
    CHECK_OK(mprotect(memory, kPage, PROT_READ));
    CHECK_EQ(TryWrite(memory, 1), -1);
    CHECK_OK(munmap(memory, 4 * kPage));
    atomic_fetch_add(&rounds[6], 1);
  }
}

static void* Body(void* argument) {
  static void (*const kBodies[kKinds])(void) = {Spin,      Clock,   Calls,   Faults,
                                                InHandler, Threads, Mappings};
  kBodies[(long)argument]();
  return NULL;
}

int main(void) {
  CatchFaults();
  OnSignal(SIGUSR1, Handler, SA_ONSTACK);
  for (long i = 0; i < kKinds; i++) threads[i] = StartThread(Body, (void*)i);
  AwaitAtLeast(&in_handler, 1);
  for (int i = 0; i < kSnapshots; i++) {
    SleepMs(20 + 7 * i);
    GuestSnapshot();
    long before[kKinds];
    for (int kind = 0; kind < kKinds; kind++) before[kind] = atomic_load(&rounds[kind]);
    for (int kind = 0; kind < kKinds; kind++) {  // each of them goes on
      while (atomic_load(&rounds[kind]) == before[kind]) SleepMs(1);
    }
    Say("snapshot %d", i);
  }
  atomic_store(&stop, true);
  for (int i = 0; i < kKinds; i++) JoinThread(threads[i]);
  Say("all went on");
  return 0;
}
