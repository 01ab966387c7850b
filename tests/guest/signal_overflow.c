// variants: dynamic
// status: 139
// An alternate stack that ends: a handler that runs over it faults, a frame that finds no room is a
// fault of its own, and where that has no room either the program is killed.
#include <setjmp.h>
#include <sys/resource.h>

#include "tests/guest/guest.h"

static uint8_t* area;
static sigjmp_buf way_out;
static volatile int depth;
static int own_pid, own_tid;

static __attribute__((noinline)) int Deeper(int level) {
  volatile char room[512];
  room[level % 512] = (char)level;
  depth = level;
  if (level < 1000000) Deeper(level + 1);
  return room[0];
}

static void OnUsr1(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  Deeper(0);
}

static void OnSegv(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  uint8_t* at = info->si_addr;
  bool below = info->si_code > 0 && at >= area && at < area + kPage;
  Say("fault: code %d, %s", info->si_code, below ? "below the alternate stack" : "elsewhere");
  siglongjmp(way_out, 1);
}

// Fills the alternate stack up to where no frame fits any more.
static void OnUsr2(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  uint8_t here;
  // No frame is smaller than a page's quarter: the legacy state alone takes 512 bytes.
  volatile uint8_t* room = __builtin_alloca((uintptr_t)&here - (uintptr_t)area - kPage - 700);
  room[0] = 1;
  syscall(SYS_tgkill, own_pid, own_tid, SIGUSR1);
  _exit(1);
}

int main(void) {
  CHECK_OK(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}));
  own_pid = getpid();
  own_tid = OwnTid();  // and syscall() is bound: ld.so would need the room that is none
  area = MapAnonymous(32 * kPage, PROT_READ | PROT_WRITE);
  CHECK_OK(mprotect(area, kPage, PROT_NONE));
  stack_t stack = {.ss_sp = area + kPage, .ss_size = 16 * kPage}, old;
  CHECK_OK(sigaltstack(&stack, NULL));
  OnSignal(SIGUSR1, OnUsr1, SA_ONSTACK);
  OnSignal(SIGUSR2, OnUsr2, SA_ONSTACK);

  // Beyond its end one is no longer on it: the fault's handler starts at its top again.
  OnSignal(SIGSEGV, OnSegv, SA_ONSTACK);
  if (sigsetjmp(way_out, 1) == 0) raise(SIGUSR1);
  CHECK(depth > 50);
  CHECK_OK(sigaltstack(NULL, &old));
  Say("afterwards: flags %d", old.ss_flags);

  // Too small a stack is refused; one that cannot be written is a fault in delivery.
  stack.ss_size = 1024;
  CHECK_ERRNO(sigaltstack(&stack, NULL), ENOMEM);
  CHECK_OK(mprotect(area, 17 * kPage, PROT_NONE));
  stack.ss_size = 16 * kPage;
  CHECK_OK(sigaltstack(&stack, NULL));
  OnSignal(SIGSEGV, OnSegv, 0);
  if (sigsetjmp(way_out, 1) == 0) raise(SIGUSR1);

  // On it, and it is full: neither the signal's frame nor that of the fault about it fits.
  CHECK_OK(mprotect(area + kPage, 16 * kPage, PROT_READ | PROT_WRITE));
  OnSignal(SIGSEGV, OnSegv, SA_ONSTACK);
  Say("%s", "killed now");
  if (sigsetjmp(way_out, 1) == 0) raise(SIGUSR2);
  return 0;
}
