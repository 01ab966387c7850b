// A process that shares the program's memory, descriptors and directory: clone(2) with CLONE_VM and
// without CLONE_THREAD, as sanitizers make one to look at the program's threads. It shares errno as
// well, so it makes its system calls with Raw.
#ifndef TESTS_GUEST_COMPANION_H_
#define TESTS_GUEST_COMPANION_H_

#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "tests/guest/guest.h"

enum { kCompanionFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_UNTRACED, kSkip = 77 };

static uint8_t companion_stack[64 << 10] __attribute__((aligned(16)));

__attribute__((unused)) static long Raw(long number, long a, long b, long c, long d) {
  long result;
  register long r10 __asm__("r10") = d;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                   : "rcx", "r11", "memory");
  return result;
}

__attribute__((unused)) static pid_t StartCompanion(int (*body)(void*), void* argument) {
  pid_t pid = clone(body, companion_stack + sizeof companion_stack, kCompanionFlags, argument);
  CHECK_OK(pid);
  prctl(PR_SET_PTRACER, pid, 0, 0, 0);  // for hosts that restrict who may trace
  return pid;
}

__attribute__((unused)) static int AwaitCompanion(pid_t pid) {
  int status = 0;
  CHECK_EQ(waitpid(pid, &status, __WALL), pid);
  return status;
}

__attribute__((unused)) static int TryToAttach(void* begun) {
  while (!atomic_load((atomic_int*)begun)) __builtin_ia32_pause();
  pid_t parent = (pid_t)Raw(SYS_getppid, 0, 0, 0, 0);
  int result = (int)-Raw(SYS_ptrace, PTRACE_ATTACH, parent, 0, 0);
  if (result == 0) {
    Raw(SYS_wait4, parent, 0, __WALL, 0);
    Raw(SYS_ptrace, PTRACE_DETACH, parent, 0, 0);
  }
  return result;
}

// Ends the program where this machine lets nobody trace: there is nothing to compare with.
__attribute__((unused)) static void NeedTrace(void) {
  atomic_int begun = 0;
  pid_t pid = StartCompanion(TryToAttach, &begun);
  atomic_store(&begun, 1);
  if (AwaitCompanion(pid) == W_EXITCODE(EPERM, 0)) exit(kSkip);
}

#endif  // TESTS_GUEST_COMPANION_H_
