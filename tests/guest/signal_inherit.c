// variants: dynamic musl
// What a new thread has of its maker: the mask, but neither what is pending nor the alternate
// stack; what a handler's thread has in the meantime; and the mask that each way out of a handler
// leaves.
#include <setjmp.h>

#include "tests/guest/guest.h"

static void SayMask(const char* what) {
  sigset_t mask;
  CHECK_ZERO(pthread_sigmask(SIG_SETMASK, NULL, &mask));
  printf("%s:", what);
  // libc keeps 32 and 33 (and musl 34) for itself.
  for (int number = 1; number <= 64; number++) {
    if ((number < 32 || number > 34) && sigismember(&mask, number)) printf(" %d", number);
  }
  Say("%s", "");
}

static void* Child(void* what) {
  SayMask(what);
  sigset_t pending;
  CHECK_OK(sigpending(&pending));
  Say("  pending: for the thread %d, for the process %d", sigismember(&pending, SIGUSR1),
      sigismember(&pending, SIGUSR2));
  stack_t stack;
  CHECK_OK(sigaltstack(NULL, &stack));
  Say("  alternate stack: flags %d size %zu", stack.ss_flags, stack.ss_size);
  // Its own mask is nobody else's.
  BlockSignals(SIGTERM, 0);
  return NULL;
}

static sigjmp_buf way_out;
static volatile int kind;

static void Handler(int number, siginfo_t* info, void* context) {
  (void)number, (void)info;
  ucontext_t* from = context;
  switch (kind) {
    case 0:
      SayMask("in the handler");
      JoinThread(StartThread(Child, "thread made in the handler"));
      BlockSignals(SIGALRM, 0);  // over when it returns
      break;
    case 1:
      siglongjmp(way_out, 1);
    case 2:
      sigaddset(&from->uc_sigmask, SIGCHLD);  // holds when it returns
      break;
  }
}

int main(void) {
  stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
  CHECK_OK(sigaltstack(&stack, NULL));
  BlockSignals(SIGUSR1, SIGUSR2);
  CHECK_OK(syscall(SYS_tgkill, getpid(), OwnTid(), SIGUSR1));
  CHECK_OK(kill(getpid(), SIGUSR2));
  JoinThread(StartThread(Child, "thread"));
  SayMask("its maker");

  struct sigaction action = {.sa_sigaction = Handler, .sa_flags = SA_SIGINFO};
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGWINCH);
  CHECK_OK(sigaction(SIGHUP, &action, NULL));
  CHECK_OK(raise(SIGHUP));
  SayMask("after the handler");
  action.sa_flags |= SA_NODEFER;
  CHECK_OK(sigaction(SIGHUP, &action, NULL));
  CHECK_OK(raise(SIGHUP));
  SayMask("after one with SA_NODEFER");
  kind = 1;
  if (sigsetjmp(way_out, 0) == 0) raise(SIGHUP);
  SayMask("after a jump that keeps the mask");
  if (sigsetjmp(way_out, 1) == 0) raise(SIGHUP);
  SayMask("after a jump that puts back the same");
  kind = 2;
  UnblockSignals(SIGWINCH, 0);
  CHECK_OK(raise(SIGHUP));
  SayMask("after a handler that changed its context's mask");
  GuestSnapshot();
  SayMask("later");
  sigset_t all;
  sigfillset(&all);
  CHECK_OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8));
  uint64_t mask;
  CHECK_OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &mask, 8));
  Say("everything: %lx", mask);  // but SIGKILL and SIGSTOP
  return 0;
}
