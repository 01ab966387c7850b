// variants: dynamic static musl
// Handlers with siginfo by origin, masks, pending, nesting, NODEFER, RESETHAND, ignoring,
// sigaction.
#include "tests/guest/guest.h"

static volatile int calls, depth, deepest, order[16], ordered;
static volatile siginfo_t last;  // volatile: libc declares raise() as if no handler could run
static sigset_t mask_in_handler;

static void Note(int number, siginfo_t* info, void* context) {
  (void)context;
  last = *info;
  CHECK_EQ(number, info->si_signo);
  CHECK_OK(sigprocmask(SIG_BLOCK, NULL, &mask_in_handler));
  calls++;
}

static void Nest(int number, siginfo_t* info, void* context) {
  (void)info;
  (void)context;
  depth++;
  if (depth > deepest) deepest = depth;
  if (ordered < 16) order[ordered++] = number;
  if (calls++ < 3) raise(number);
  depth--;
}

static void RaiseOther(int number, siginfo_t* info, void* context) {
  (void)info;
  (void)context;
  order[ordered++] = number;
  raise(SIGUSR2);
  order[ordered++] = -number;
}

static void Origins(void) {
  OnSignal(SIGUSR1, Note, 0);
  CHECK_OK(kill(getpid(), SIGUSR1));
  CHECK_EQ(calls, 1);  // delivered before kill returns
  CHECK_EQ(last.si_code, SI_USER);
  CHECK_EQ(last.si_pid, getpid());
  CHECK_EQ(last.si_uid, getuid());
  CHECK_OK(raise(SIGUSR1));
  CHECK_EQ(last.si_code, SI_TKILL);
  CHECK_EQ(last.si_pid, getpid());
  CHECK_OK(syscall(SYS_tgkill, getpid(), OwnTid(), SIGUSR1));
  CHECK_EQ(last.si_code, SI_TKILL);
  CHECK_OK(syscall(SYS_tkill, OwnTid(), SIGUSR1));
  CHECK_EQ(last.si_code, SI_TKILL);
  union sigval value = {.sival_ptr = (void*)0x123456789abc};
  CHECK_OK(sigqueue(getpid(), SIGUSR1, value));
  CHECK_EQ(last.si_code, SI_QUEUE);
  CHECK_EQ((uintptr_t)last.si_value.sival_ptr, 0x123456789abc);
  CHECK_EQ(calls, 5);
  CHECK_ERRNO(kill(getpid(), 65), EINVAL);
  CHECK_ZERO(kill(getpid(), 0));
  CHECK_EQ(calls, 5);
  GuestSnapshot();
  CHECK_OK(kill(getpid(), SIGUSR1));
  CHECK_EQ(calls, 6);
  CHECK_EQ(last.si_pid, getpid());
  Say("origins");
}

static void Masks(void) {
  struct sigaction action = {.sa_sigaction = Note, .sa_flags = SA_SIGINFO};
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGHUP);
  sigaddset(&action.sa_mask, SIGRTMAX);
  CHECK_OK(sigaction(SIGUSR1, &action, NULL));
  BlockSignals(SIGTERM, SIGRTMIN + 3);
  raise(SIGUSR1);
  for (int i = 1; i <= 64; i++) {
    bool expected =
        i == SIGUSR1 || i == SIGHUP || i == SIGRTMAX || i == SIGTERM || i == SIGRTMIN + 3;
    int got = sigismember(&mask_in_handler, i);
    if (i >= 32 && i < SIGRTMIN) continue;  // libc's own
    if (got != expected) FAIL("signal %d in the handler's mask: %d, expected %d", i, got, expected);
  }
  sigset_t now;
  CHECK_OK(sigprocmask(SIG_BLOCK, NULL, &now));
  CHECK_EQ(sigismember(&now, SIGUSR1), 0);
  CHECK_EQ(sigismember(&now, SIGRTMAX), 0);
  CHECK_EQ(sigismember(&now, SIGTERM), 1);
  // KILL and STOP cannot be blocked; asking for it is no error.
  sigset_t all;
  sigfillset(&all);
  CHECK_OK(sigprocmask(SIG_SETMASK, &all, NULL));
  CHECK_OK(sigprocmask(SIG_BLOCK, NULL, &all));
  CHECK_EQ(sigismember(&all, SIGKILL), 0);
  CHECK_EQ(sigismember(&all, SIGSTOP), 0);
  CHECK_EQ(sigismember(&all, SIGSEGV), 1);
  GuestSnapshot();
  sigset_t later;
  CHECK_OK(sigprocmask(SIG_SETMASK, &now, &later));
  for (int i = 1; i <= 64; i++) CHECK_EQ(sigismember(&later, i), sigismember(&all, i));
  UnblockSignals(SIGTERM, SIGRTMIN + 3);
  CHECK_ERRNO(syscall(SYS_rt_sigprocmask, 77, &now, NULL, 8), EINVAL);
  CHECK_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &now, NULL, 16), EINVAL);
  Say("masks");
}

static void Pending(void) {
  calls = 0;
  BlockSignals(SIGUSR1, SIGUSR2);
  for (int i = 0; i < 5; i++) kill(getpid(), SIGUSR1);
  sigset_t pending;
  CHECK_OK(sigpending(&pending));
  CHECK_EQ(sigismember(&pending, SIGUSR1), 1);
  CHECK_EQ(sigismember(&pending, SIGUSR2), 0);
  CHECK_EQ(calls, 0);
  GuestSnapshot();
  CHECK_EQ(calls, 0);
  CHECK_OK(sigpending(&pending));
  CHECK_EQ(sigismember(&pending, SIGUSR1), 1);
  UnblockSignals(SIGUSR1, SIGUSR2);
  CHECK_EQ(calls, 1);  // standard signals do not queue
  CHECK_OK(sigpending(&pending));
  CHECK_EQ(sigismember(&pending, SIGUSR1), 0);
  // Ignored while pending: gone.
  BlockSignals(SIGUSR1, 0);
  raise(SIGUSR1);
  signal(SIGUSR1, SIG_IGN);
  OnSignal(SIGUSR1, Note, 0);
  UnblockSignals(SIGUSR1, 0);
  CHECK_EQ(calls, 1);
  Say("pending");
}

static void Nesting(void) {
  calls = depth = deepest = ordered = 0;
  OnSignal(SIGUSR1, Nest, 0);
  raise(SIGUSR1);
  CHECK_EQ(calls, 4);
  CHECK_EQ(deepest, 1);  // blocked meanwhile: one after the other
  calls = depth = deepest = 0;
  OnSignal(SIGUSR1, Nest, SA_NODEFER);
  raise(SIGUSR1);
  CHECK_EQ(calls, 4);
  CHECK_EQ(deepest, 4);
  OnSignal(SIGUSR1, RaiseOther, 0);
  OnSignal(SIGUSR2, Nest, 0);
  calls = 10;
  ordered = 0;
  raise(SIGUSR1);
  CHECK_EQ(ordered, 3);
  CHECK_EQ(order[0], SIGUSR1);
  CHECK_EQ(order[1], SIGUSR2);
  CHECK_EQ(order[2], -SIGUSR1);
  Say("nesting");
}

static void Dispositions(void) {
  struct sigaction old;
  calls = 0;
  OnSignal(SIGUSR1, Note, SA_RESETHAND | SA_RESTART);
  CHECK_OK(sigaction(SIGUSR1, NULL, &old));
  CHECK_EQ(old.sa_flags & (SA_SIGINFO | SA_RESETHAND | SA_RESTART | SA_NODEFER),
           SA_SIGINFO | SA_RESETHAND | SA_RESTART);
  CHECK(old.sa_sigaction == Note);
  raise(SIGUSR1);
  CHECK_EQ(calls, 1);
  CHECK_OK(sigaction(SIGUSR1, NULL, &old));
  CHECK(old.sa_handler == SIG_DFL);
  signal(SIGUSR1, SIG_IGN);
  raise(SIGUSR1);
  // Those whose default is to be ignored.
  raise(SIGCHLD);
  raise(SIGURG);
  raise(SIGWINCH);
  raise(SIGCONT);
  CHECK_EQ(calls, 1);
  GuestSnapshot();
  raise(SIGUSR1);
  CHECK_OK(sigaction(SIGUSR1, NULL, &old));
  CHECK(old.sa_handler == SIG_IGN);
  CHECK_ERRNO(sigaction(SIGKILL, &old, NULL), EINVAL);
  CHECK_ERRNO(sigaction(SIGSTOP, &old, NULL), EINVAL);
  CHECK_ERRNO(sigaction(65, NULL, &old), EINVAL);
  CHECK_ERRNO(sigaction(0, NULL, &old), EINVAL);
  CHECK_OK(sigaction(SIGKILL, NULL, &old));
  Say("dispositions");
}

int main(void) {
  Origins();
  Masks();
  Pending();
  Nesting();
  Dispositions();
  return 0;
}
