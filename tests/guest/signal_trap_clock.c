// A program that steps itself through clock_gettime, in the vDSO, while other signals come there:
// it loses no trap, and its trap flag stays.
//
// emulated: no, its clock ticks more often than the program can step through reading it
#include <sys/auxv.h>
#include <ucontext.h>

#include "tests/guest/guest.h"

enum { kTrapFlag = 0x100, kRounds = 12, kVdsoSize = 0x4000, kEvery = 5 };

void set_trap_flag(void);
void clear_trap_flag(void);
// popf's own trap comes behind the instruction that follows.
__asm__(
    ".text\n"
    "set_trap_flag: pushfq\n orq $0x100, (%rsp)\n popfq\n ret\n"
    "clear_trap_flag: pushfq\n andq $~0x100, (%rsp)\n popfq\n"
    "cleared: ret\n");
extern char cleared[];

static uintptr_t vdso;
static int steps, in_vdso, wrong, disturb, raised, other;
static uintptr_t last_rip;

static bool InVdso(uintptr_t rip) { return rip >= vdso && rip < vdso + kVdsoSize; }

static void Step(int number, siginfo_t* info, void* context) {
  (void)number;
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  last_rip = (uintptr_t)registers[REG_RIP];
  steps++;
  if (info->si_code != TRAP_TRACE) wrong++;
  if ((registers[REG_EFL] & kTrapFlag) == 0 && last_rip != (uintptr_t)cleared) wrong++;
  if (!InVdso(last_rip)) return;
  // Blocked here: it comes where this one returns to.
  if (in_vdso++ % kEvery == 0 && disturb) {
    raised++;
    raise(SIGUSR1);
  }
}

static void Other(int number, siginfo_t* info, void* context) {
  (void)number, (void)info;
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  other++;
  if ((registers[REG_EFL] & kTrapFlag) == 0) wrong++;
}

// How many traps came in the vDSO.
static int StepThroughClock(void) {
  struct timespec time;
  steps = in_vdso = 0;
  set_trap_flag();
  int result = clock_gettime(CLOCK_MONOTONIC, &time);
  clear_trap_flag();
  CHECK_EQ(result, 0);
  CHECK_EQ(wrong, 0);
  // The last trap is that of the popf which ends it, or of the instruction behind.
  CHECK_EQ(last_rip - (uintptr_t)cleared, 0);
  CHECK(steps > in_vdso + 4);
  return in_vdso;
}

int main(void) {
  vdso = getauxval(AT_SYSINFO_EHDR);
  CHECK(vdso != 0);
  struct sigaction action = {.sa_sigaction = Step, .sa_flags = SA_SIGINFO};
  sigaddset(&action.sa_mask, SIGUSR1);
  CHECK_OK(sigaction(SIGTRAP, &action, NULL));
  OnSignal(SIGUSR1, Other, 0);
  for (int part = 0; part < 2; part++) {
    int least = 1 << 30;
    disturb = 0;
    for (int round = 0; round < kRounds; round++) {
      int here = StepThroughClock();
      if (here < least) least = here;
    }
    CHECK(least > 5);
    disturb = 1;
    for (int round = 0; round < kRounds; round++) {
      int before = other;
      int here = StepThroughClock();
      // Which way it takes depends on the time; a lost trap would be many.
      CHECK(here + kEvery > least);
      // Where in the vDSO they come is not said, and several may come as one.
      CHECK(other > before);
    }
    CHECK(other <= raised);
    Say("stepped");
    if (part == 0) GuestSnapshot();
  }
  return 0;
}
