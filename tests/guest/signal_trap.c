// The trap flag: a SIGTRAP after each instruction, none lost over a system call or a signal's
// return.
#include <ucontext.h>

#include "tests/guest/guest.h"

enum { kTrapFlag = 0x100 };

static volatile int steps, wrong_code;
static volatile uintptr_t first_rip, last_rip;

static void Step(int number, siginfo_t* info, void* context) {
  (void)number;
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  uintptr_t rip = (uintptr_t)registers[REG_RIP];
  if (info->si_code != TRAP_TRACE) wrong_code = info->si_code;
  if (steps++ == 0) first_rip = rip;
  last_rip = rip;
  if ((uintptr_t)info->si_addr != rip) wrong_code = 1000;
}

static void StopAtOnce(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  ((ucontext_t*)context)->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)kTrapFlag;
  steps++;
}

// Sets TF, runs five instructions, clears it. popf's own trap comes after the instruction behind
// it.
__asm__(
    ".text\n"
    "stepped: pushfq\n orq $0x100, (%rsp)\n popfq\n"
    "  nop\n"
    "stepped_first: nop\n"
    "  nop\n"
    "  movl $39, %eax\n"  // getpid
    "  syscall\n"
    "  pushfq\n"
    "  andq $~0x100, (%rsp)\n"
    "  popfq\n"
    "stepped_last: nop\n"
    "  ret\n");
extern long stepped(void);
extern char stepped_first[], stepped_last[];

int main(void) {
  OnSignal(SIGTRAP, Step, 0);
  for (int round = 0; round < 3; round++) {
    steps = 0;
    long pid = stepped();
    CHECK_EQ(pid, getpid());
    CHECK_EQ(wrong_code, 0);
    CHECK_EQ(first_rip - (uintptr_t)stepped_first, 0);
    CHECK_EQ(last_rip - (uintptr_t)stepped_last, 0);
    CHECK_EQ(steps, 7);  // a system call counts with the instruction behind it
    if (round == 1) GuestSnapshot();
  }
  Say("stepped");
  OnSignal(SIGTRAP, StopAtOnce, 0);
  steps = 0;
  __asm__ volatile(
      "sub $128, %%rsp\n pushfq\n orq $0x100, (%%rsp)\n popfq\n nop\n nop\n nop\n add $128, "
      "%%rsp" ::
          : "cc", "memory");
  CHECK_EQ(steps, 1);
  Say("stopped by the handler");
  return 0;
}
