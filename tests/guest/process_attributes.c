// prctl, arch_prctl and personality: what is answered, what is inherited, what is refused.
#include <asm/prctl.h>
#include <sys/auxv.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/utsname.h>

#include "tests/guest/guest.h"

// From all of these natively, too, with what an x86-64 processor has.
static void OfOtherProcessors(void) {
  unsigned long value;
  static const int options[] = {PR_GET_UNALIGN, PR_GET_FPEMU,  PR_GET_FPEXC,     PR_GET_ENDIAN,
                                PR_GET_FP_MODE, PR_SVE_GET_VL, PR_PAC_RESET_KEYS};
  for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
    CHECK_ERRNO(prctl(options[i], &value, 0, 0, 0), EINVAL);
  }
  CHECK_ERRNO(prctl(0x7fffffff, 0, 0, 0, 0), EINVAL);
  CHECK_ERRNO(prctl(-1, 0, 0, 0, 0), EINVAL);
}

static void* Inherits(void* unused) {
  char name[16];
  CHECK_OK(prctl(PR_GET_NAME, name));
  CHECK(strcmp(name, "123456789012345") == 0);
  CHECK_EQ(prctl(PR_GET_TIMERSLACK), 70000);
  CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
  CHECK_EQ(personality(0xffffffff) & ADDR_NO_RANDOMIZE, ADDR_NO_RANDOMIZE);
  // Not this one.
  int sig = -1;
  CHECK_OK(prctl(PR_GET_PDEATHSIG, &sig));
  CHECK_EQ(sig, 0);
  CHECK_OK(prctl(PR_SET_NAME, "other"));
  return unused;
}

static void OfThread(void) {
  char name[16];
  int sig = -1, *address = NULL;
  CHECK_OK(prctl(PR_SET_NAME, "12345678901234567890"));
  CHECK_OK(prctl(PR_GET_NAME, name));
  CHECK(strcmp(name, "123456789012345") == 0);
  CHECK_ERRNO(prctl(PR_SET_NAME, 8), EFAULT);
  CHECK_ERRNO(prctl(PR_GET_NAME, 8), EFAULT);
  CHECK_OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
  CHECK_OK(prctl(PR_GET_PDEATHSIG, &sig));
  CHECK_EQ(sig, SIGUSR1);
  CHECK_ERRNO(prctl(PR_SET_PDEATHSIG, 65), EINVAL);
  CHECK_ERRNO(prctl(PR_GET_PDEATHSIG, 8), EFAULT);
  CHECK_OK(prctl(PR_SET_TIMERSLACK, 70000));
  CHECK_EQ(prctl(PR_GET_TIMERSLACK), 70000);
  CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
  CHECK_ERRNO(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0), EINVAL);
  CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  CHECK_OK(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
  CHECK_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_EARLY);
  CHECK_ERRNO(prctl(PR_MCE_KILL, 7, 0, 0, 0), EINVAL);
  CHECK_EQ(prctl(PR_GET_TIMING), PR_TIMING_STATISTICAL);
  CHECK_ERRNO(prctl(PR_SET_TIMING, PR_TIMING_TIMESTAMP), EINVAL);
  CHECK_OK(prctl(PR_TASK_PERF_EVENTS_DISABLE));
  CHECK_OK(prctl(PR_TASK_PERF_EVENTS_ENABLE));
  // libc's thread descriptor, which set_tid_address told the kernel.
  if (prctl(PR_GET_TID_ADDRESS, &address) == 0) CHECK_EQ(*address, OwnTid());
  int tsc = 0;
  CHECK_OK(prctl(PR_GET_TSC, &tsc));
  CHECK_EQ(tsc, PR_TSC_ENABLE);
  CHECK_OK(prctl(PR_SET_TSC, PR_TSC_ENABLE));
  CHECK_ERRNO(prctl(PR_SET_TSC, 7), EINVAL);
  Say("of a thread");
}

static void OfProcess(void) {
  int value = -1;
  CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
  CHECK_OK(prctl(PR_SET_DUMPABLE, 0));
  CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
  CHECK_ERRNO(prctl(PR_SET_DUMPABLE, 2), EINVAL);
  CHECK_OK(prctl(PR_SET_DUMPABLE, 1));
  CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
  CHECK_OK(prctl(PR_GET_CHILD_SUBREAPER, &value));
  CHECK_EQ(value, 1);
  CHECK_ERRNO(prctl(PR_GET_CHILD_SUBREAPER, 8), EFAULT);
  CHECK_OK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
  CHECK_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
  CHECK_OK(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0));
  CHECK_ERRNO(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0), EINVAL);
  CHECK_ERRNO(prctl(PR_SET_SECCOMP, 77, 0), EINVAL);
  Say("of the process");
}

static void Architecture(void) {
  unsigned long fs = 0, other = 0, supported = 0;
  CHECK_OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
  CHECK(fs != 0);
  CHECK_OK(syscall(SYS_arch_prctl, ARCH_SET_GS, &other));
  CHECK_OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &fs));
  CHECK_EQ(fs, &other);
  asm volatile("mov %%gs:0, %0" : "=r"(fs));
  CHECK_EQ(fs, 0);
  CHECK_ERRNO(syscall(SYS_arch_prctl, ARCH_SET_GS, 1ul << 47), EPERM);
  CHECK_ERRNO(syscall(SYS_arch_prctl, ARCH_SET_FS, ~0ul), EPERM);
  CHECK_ERRNO(syscall(SYS_arch_prctl, ARCH_GET_FS, 8), EFAULT);
  CHECK_ERRNO(syscall(SYS_arch_prctl, 0x7777, 0), EINVAL);
  CHECK_EQ(syscall(SYS_arch_prctl, ARCH_GET_CPUID, 0), 1);
  if (syscall(SYS_arch_prctl, 0x1021, &supported) == 0) CHECK_EQ(supported & 3, 3);
  Say("of the processor");
}

static void Personality(void) {
  int before = personality(0xffffffff);
  CHECK_EQ(personality((unsigned)before | ADDR_NO_RANDOMIZE), before);
  CHECK_EQ(personality(0xffffffff), before | ADDR_NO_RANDOMIZE);
  struct utsname name, old;
  CHECK_OK(uname(&name));
  CHECK_OK(personality((unsigned)before | ADDR_NO_RANDOMIZE | UNAME26));
  CHECK_OK(uname(&old));
  CHECK(strncmp(old.release, "2.6.", 4) == 0);
  CHECK_OK(personality((unsigned)before | ADDR_NO_RANDOMIZE));
  CHECK_OK(uname(&old));
  CHECK(strcmp(old.release, name.release) == 0);
  Say("personality");
}

int main(void) {
  OfOtherProcessors();
  OfThread();
  OfProcess();
  Architecture();
  Personality();
  JoinThread(StartThread(Inherits, NULL));
  char name[16];
  CHECK_OK(prctl(PR_GET_NAME, name));
  Say("still %s", name);
  return 0;
}
