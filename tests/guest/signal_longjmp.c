// variants: dynamic static musl
// Out of handlers by siglongjmp, again and again: asynchronous, from faults, from an alternate
// stack.
#include <setjmp.h>
#include <sys/time.h>

#include "tests/guest/guest.h"

static sigjmp_buf place;
static volatile int jumps;
static atomic_bool stop;
static volatile sig_atomic_t inside;

static void Jump(int number, siginfo_t* info, void* context) {
  (void)info;
  (void)context;
  jumps++;
  siglongjmp(place, number);
}

static void JumpIfInside(int number, siginfo_t* info, void* context) {
  (void)info;
  (void)context;
  if (inside) {
    inside = 0;
    siglongjmp(place, number);
  }
}

static void* Sender(void* target) {
  while (!atomic_load(&stop)) {
    pthread_kill(*(pthread_t*)target, SIGUSR1);
    SleepMs(1);
  }
  return NULL;
}

int main(void) {
  OnSignal(SIGSEGV, Jump, 0);
  for (volatile int i = 0; i < 1000; i++) {
    int number = sigsetjmp(place, 1);
    if (number == 0) {
      *(volatile int*)8 = 1;
      FAIL("a write to address 8 went through");
    }
    CHECK_EQ(number, SIGSEGV);
    if (i == 500) GuestSnapshot();
  }
  CHECK_EQ(jumps, 1000);
  sigset_t now;
  CHECK_OK(sigprocmask(SIG_BLOCK, NULL, &now));
  CHECK_EQ(sigismember(&now, SIGSEGV), 0);  // sigsetjmp had saved the mask
  Say("faults");

  stack_t stack = {.ss_sp = MapAnonymous(16 * kPage, PROT_READ | PROT_WRITE),
                   .ss_size = 16 * kPage};
  CHECK_OK(sigaltstack(&stack, NULL));
  OnSignal(SIGHUP, Jump, SA_ONSTACK);
  jumps = 0;
  for (volatile int i = 0; i < 1000; i++) {
    if (sigsetjmp(place, 1) == 0) raise(SIGHUP);
  }
  CHECK_EQ(jumps, 1000);
  CHECK_OK(sigaltstack(NULL, &stack));
  CHECK_EQ(stack.ss_flags, 0);
  Say("alternate stack");

  // Without the mask: the signal stays blocked, and the next one waits.
  if (sigsetjmp(place, 0) == 0) raise(SIGHUP);
  raise(SIGHUP);
  CHECK_OK(sigprocmask(SIG_BLOCK, NULL, &now));
  CHECK_EQ(sigismember(&now, SIGHUP), 1);
  CHECK_EQ(jumps, 1001);
  if (sigsetjmp(place, 0) == 0) UnblockSignals(SIGHUP, 0);
  CHECK_EQ(jumps, 1002);
  Say("mask kept");

  // Asynchronous, in the middle of whatever goes on: spinning, or in a system call.
  OnSignal(SIGUSR1, JumpIfInside, 0);
  pthread_t self = pthread_self(), sender = StartThread(Sender, &self);
  for (volatile int i = 0; i < 200; i++) {
    if (sigsetjmp(place, 1) == 0) {
      inside = 1;
      for (volatile long spins = 0;; spins++) {
        if (i % 2 == 0) syscall(SYS_getppid);
        if (i % 10 == 5) pause();
      }
    }
    if (i == 100) GuestSnapshot();
  }
  atomic_store(&stop, true);
  JoinThread(sender);
  Say("asynchronous");
  return 0;
}
