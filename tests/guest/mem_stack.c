// The stack grows by itself, down to its limit; MAP_GROWSDOWN; a thread's guard page; a handler on
// another stack sees the overflow.
#include <setjmp.h>
#include <sys/resource.h>

#include "tests/guest/guest.h"

static sigjmp_buf overflow;
static volatile uintptr_t overflow_address;
static volatile int overflow_code;

static void OnOverflow(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)context;
  overflow_address = (uintptr_t)info->si_addr;
  overflow_code = info->si_code;
  siglongjmp(overflow, 1);
}

// Goes down in steps that skip pages, and sums up what the frames hold on the way back.
__attribute__((noinline)) static long Deep(size_t bytes) {
  volatile uint8_t frame[9000];
  frame[0] = (uint8_t)bytes;
  frame[8999] = 1;
  if (bytes <= sizeof frame) {
    GuestSnapshot();
    return 1;
  }
  long below = Deep(bytes - sizeof frame);
  if (frame[0] != (uint8_t)bytes || frame[8999] != 1) FAIL("a stack frame changed");
  return below + 1;
}

__attribute__((noinline)) static long Endless(long depth) {
  volatile uint8_t frame[1000];
  frame[0] = (uint8_t)depth;
  if (depth > 1 << 20) return 0;  // 1 GiB: no limit is that high
  return Endless(depth + 1) + frame[0];
}

static void* OverflowThread(void* unused) {
  (void)unused;
  stack_t stack = {.ss_sp = MapAnonymous(64 * kPage, PROT_READ | PROT_WRITE),
                   .ss_size = 64 * kPage};
  CHECK_OK(sigaltstack(&stack, NULL));
  if (sigsetjmp(overflow, 1) == 0) {
    Endless(0);
    FAIL("the stack never ended");
  }
  return NULL;
}

static void Grow(void) {
  // The first touch far below the stack pointer is allowed since Linux 4.20: only the limit counts.
  uint8_t* area = MapAnonymous(2048 * kPage, PROT_NONE);
  CHECK_OK(munmap(area, 2048 * kPage));
  uint8_t* top = area + 2047 * kPage;
  uint8_t* got = mmap(top, kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN, -1, 0);
  CHECK_EQ((uintptr_t)got, (uintptr_t)top);
  for (int i = 0; i < 200; i++) {
    volatile uint8_t* page = top - i * kPage;
    CHECK_EQ(page[5], 0);
    page[5] = (uint8_t)i;
    if (i == 100) GuestSnapshot();
  }
  for (int i = 0; i < 200; i++) CHECK_EQ(top[5 - i * (long)kPage], (uint8_t)i);
  // Next to another mapping, within the guard gap (1 MiB), it does not grow.
  uint8_t* low = area + 1000 * kPage;
  CHECK_OK(mmap(low, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
  if (sigsetjmp(overflow, 1) == 0) {
    for (volatile uint8_t* page = top - 199 * kPage; page > low; page -= kPage) page[0] = 1;
    FAIL("MAP_GROWSDOWN grew into the gap before another mapping");
  }
  uintptr_t gap = overflow_address - ((uintptr_t)low + kPage);
  if (gap > 256 * kPage) FAIL("growing stopped 0x%lx bytes before the next mapping", (long)gap);
  Say("growsdown");
}

static volatile long handled;

static void OnUser(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  handled++;
}

static void Raise(void) { CHECK_OK(raise(SIGUSR1)); }

// The frame of a signal makes a stack grow as well as the program itself does.
static void Signalled(void) {
  uint8_t* area = MapAnonymous(2048 * kPage, PROT_NONE);
  CHECK_OK(munmap(area, 2048 * kPage));
  uint8_t* low = area + 2047 * kPage;
  CHECK_OK(mmap(low, kPage, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN, -1, 0));
  OnSignal(SIGUSR1, OnUser, 0);
  for (int i = 0; i < 20; i++) {
    uint8_t* top = low + 1024 - i * (long)kPage;
    *(volatile uint8_t*)top = 1;
    asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; call *%1; mov %%rbx, %%rsp"
                 :
                 : "r"(top), "r"(Raise)
                 : "rbx", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory");
    if (i == 10) GuestSnapshot();
  }
  CHECK_EQ(handled, 20);
  // Nothing grows down to where nothing may lie.
  uint8_t* least = mmap((void*)0x10000, kPage, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN, -1, 0);
  CHECK_EQ((uintptr_t)least, 0x10000);
  least[0] = 1;
  if (sigsetjmp(overflow, 1) == 0) {
    *(volatile uint8_t*)(least - 8) = 1;
    FAIL("a stack grew below the lowest address");
  }
  CHECK_OK(munmap(least, kPage));
  Say("signalled");
}

int main(void) {
  OnSignal(SIGSEGV, OnOverflow, SA_ONSTACK);
  struct rlimit limit;
  CHECK_OK(getrlimit(RLIMIT_STACK, &limit));
  CHECK(limit.rlim_cur >= 8ul << 20);
  CHECK_EQ(Deep(6ul << 20), (6ul << 20) / 9000 + 1);
  CHECK_EQ(Deep(6ul << 20), (6ul << 20) / 9000 + 1);
  Say("deep");
  Grow();
  Signalled();

  pthread_attr_t attributes;
  CHECK_ZERO(pthread_attr_init(&attributes));
  CHECK_ZERO(pthread_attr_setstacksize(&attributes, 512 << 10));
  pthread_t thread;
  CHECK_ZERO(pthread_create(&thread, &attributes, OverflowThread, NULL));
  JoinThread(thread);
  CHECK_EQ(overflow_code, SEGV_ACCERR);  // the guard page
  Say("guard");

  if (limit.rlim_cur <= 64ul << 20) {
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    JoinThread(StartThread(OverflowThread, NULL));
    stack_t stack = {.ss_sp = MapAnonymous(64 * kPage, PROT_READ | PROT_WRITE),
                     .ss_size = 64 * kPage};
    CHECK_OK(sigaltstack(&stack, NULL));
    if (sigsetjmp(overflow, 1) == 0) {
      Endless(0);
      FAIL("the main stack never ended");
    }
    uintptr_t used = here - overflow_address;
    if (used > limit.rlim_cur + 64 * kPage || used < limit.rlim_cur / 2) {
      FAIL("the main stack ended after 0x%lx bytes, limit 0x%lx", (long)used, (long)limit.rlim_cur);
    }
  }
  Say("overflow");
  return 0;
}
