// Registers and flags through thousands of asynchronous signals: RCX, R11 and all the others are
// what they were, wherever the signal came in: between any two instructions or in a system call.
#include "tests/guest/guest.h"

static volatile int calls;
static pthread_t target;
static atomic_bool stop;

// Everything a handler may clobber by mistake is clobbered on purpose.
static void Handler(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  calls++;
  __asm__ volatile(
      "mov $0xdead, %%eax\n mov %%rax, %%rcx\n mov %%rax, %%rdx\n mov %%rax, %%rsi\n mov %%rax, "
      "%%rdi\n"
      "mov %%rax, %%r8\n mov %%rax, %%r9\n mov %%rax, %%r10\n mov %%rax, %%r11\n stc" ::
          : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc", "memory");
}

// Loops with known values in all registers and verifies them each time round; with `syscalls`,
// makes getppid in between, which may change RAX, RCX and R11 only. Returns 0, or the number of the
// check.
__asm__(
    ".text\n"
    "async_loop: push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "  push %rdi\n push %rsi\n"  // 8(%rsp): rounds, (%rsp): syscalls
    "  mov $0x1001, %ebx\n mov $0x1002, %ebp\n mov $0x1008, %r8d\n mov $0x1009, %r9d\n"
    "  mov $0x100a, %r10d\n mov $0x100c, %r12d\n mov $0x100d, %r13d\n mov $0x100e, %r14d\n"
    "  mov $0x100f, %r15d\n mov $0x1003, %edx\n mov $0x1004, %esi\n mov $0x1005, %edi\n"
    "1: mov $0x1006, %ecx\n mov $0x100b, %r11d\n mov $0x1007, %eax\n"
    "  .rept 16\n nop\n .endr\n"
    "  cmp $0x1006, %rcx\n jne 9f\n cmp $0x100b, %r11\n jne 9f\n cmp $0x1007, %rax\n jne 9f\n"
    "  cmpq $0, (%rsp)\n je 2f\n"
    "  mov $110, %eax\n syscall\n"
    "  cmp $0, %rax\n jl 9f\n"
    "2: cmp $0x1001, %rbx\n jne 9f\n cmp $0x1002, %rbp\n jne 9f\n cmp $0x1003, %rdx\n jne 9f\n"
    "  cmp $0x1004, %rsi\n jne 9f\n cmp $0x1005, %rdi\n jne 9f\n cmp $0x1008, %r8\n jne 9f\n"
    "  cmp $0x1009, %r9\n jne 9f\n cmp $0x100a, %r10\n jne 9f\n cmp $0x100c, %r12\n jne 9f\n"
    "  cmp $0x100d, %r13\n jne 9f\n cmp $0x100e, %r14\n jne 9f\n cmp $0x100f, %r15\n jne 9f\n"
    "  decq 8(%rsp)\n jnz 1b\n"
    "  xor %eax, %eax\n jmp 8f\n"
    "9: mov $1, %eax\n"
    "8: pop %rsi\n pop %rdi\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n "
    "ret\n");
extern long async_loop(uint64_t rounds, uint64_t syscalls);

static void* Sender(void* unused) {
  (void)unused;
  while (!atomic_load(&stop)) {
    int before = calls;
    pthread_kill(target, SIGUSR1);
    // One after the other: a target that is slower than the sender would do nothing but handle.
    while (calls == before && !atomic_load(&stop)) __builtin_ia32_pause();
    for (int i = 0; i < 300; i++) __builtin_ia32_pause();
  }
  return NULL;
}

static void Run(uint64_t rounds, uint64_t syscalls, int wanted) {
  calls = 0;
  atomic_store(&stop, false);
  pthread_t sender = StartThread(Sender, NULL);
  int64_t end = NowNs(CLOCK_MONOTONIC) + 2000000000;
  while (calls < wanted && NowNs(CLOCK_MONOTONIC) < end) {
    if (async_loop(rounds, syscalls) != 0) FAIL("a register changed (after %d signals)", calls);
  }
  GuestSnapshot();  // with the sender at work
  if (async_loop(rounds, syscalls) != 0) FAIL("a register changed (after %d signals)", calls);
  atomic_store(&stop, true);
  JoinThread(sender);
  CHECK(calls > 0);
}

int main(void) {
  target = pthread_self();
  OnSignal(SIGUSR1, Handler, 0);
  Run(20000, 0, 5000);
  Say("user code");
  Run(1000, 1, 5000);
  Say("system calls");
  return 0;
}
