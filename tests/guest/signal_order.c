// variants: dynamic static musl
// The order in which handlers run when many signals become deliverable at once, by number, by
// kind and by target; what sigwaitinfo takes first; the same across a snapshot.
#include "tests/guest/guest.h"

static int first_realtime;

static void Handler(int number, siginfo_t* info, void* context) {
  (void)context;
  if (number >= first_realtime) {
    Say("  rt+%d value %d", number - first_realtime, info->si_value.sival_int);
  } else {
    Say("  %d code %d", number, info->si_code);
  }
}

static void Install(bool all_masked, int flags) {
  struct sigaction action = {.sa_sigaction = Handler, .sa_flags = SA_SIGINFO | flags};
  if (all_masked) sigfillset(&action.sa_mask);
  int numbers[] = {SIGHUP,
                   SIGUSR1,
                   SIGSEGV,
                   SIGUSR2,
                   SIGALRM,
                   SIGTERM,
                   SIGCHLD,
                   SIGIO,
                   first_realtime,
                   first_realtime + 1,
                   first_realtime + 5};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    CHECK_OK(sigaction(numbers[i], &action, NULL));
  }
}

static void Queue(int number, int value) {
  CHECK_OK(sigqueue(getpid(), number, (union sigval){.sival_int = value}));
}

static void ToThread(int number, int value) {
  siginfo_t info = {.si_code = SI_QUEUE};
  info.si_value.sival_int = value;
  CHECK_OK(syscall(SYS_rt_tgsigqueueinfo, getpid(), OwnTid(), number, &info));
}

static void SendAll(void) {
  Queue(first_realtime + 5, 1);
  kill(getpid(), SIGTERM);
  Queue(first_realtime, 2);
  syscall(SYS_tgkill, getpid(), OwnTid(), SIGIO);
  Queue(first_realtime + 5, 3);
  ToThread(first_realtime + 1, 4);
  kill(getpid(), SIGUSR1);
  kill(getpid(), SIGCHLD);
  Queue(first_realtime + 1, 5);
  kill(getpid(), SIGUSR1);  // one of these is lost
  syscall(SYS_tgkill, getpid(), OwnTid(), SIGHUP);
  kill(getpid(), SIGSEGV);
  ToThread(first_realtime + 1, 6);
  Queue(first_realtime, 7);
  kill(getpid(), SIGHUP);  // pending twice: for the thread and for the process
}

int main(void) {
  sigset_t all, none, old;
  sigfillset(&all);
  sigemptyset(&none);
  first_realtime = SIGRTMIN;
  for (int masked = 0; masked < 2; masked++) {
    Install(masked != 0, 0);
    CHECK_OK(sigprocmask(SIG_SETMASK, &all, &old));
    SendAll();
    GuestSnapshot();
    Say(masked ? "one handler at a time:" : "handlers upon handlers:");
    CHECK_OK(sigprocmask(SIG_SETMASK, &none, NULL));
  }
  CHECK_OK(sigprocmask(SIG_SETMASK, &all, NULL));
  SendAll();
  Say("taken one by one:");
  siginfo_t info;
  while (sigtimedwait(&all, &info, &(struct timespec){0, 0}) > 0)
    Handler(info.si_signo, &info, NULL);
  SendAll();
  sigset_t some = SignalSet(SIGTERM, first_realtime + 5);
  Say("only some:");
  while (sigtimedwait(&some, &info, &(struct timespec){0, 0}) > 0) {
    Handler(info.si_signo, &info, NULL);
  }
  some = SignalSet(SIGHUP, 0);
  CHECK_EQ(sigtimedwait(&some, &info, &(struct timespec){0, 0}), SIGHUP);
  Say("the rest, and the handler only once:");
  Install(true, SA_RESETHAND | SA_NODEFER);
  for (int number = 1; number < 32; number++) {
    struct sigaction action;
    if (sigismember(&old, number) == 0 && sigpending(&some) == 0 &&
        sigismember(&some, number) == 1) {
      sigset_t one = SignalSet(number, 0);
      CHECK_OK(sigprocmask(SIG_UNBLOCK, &one, NULL));
      CHECK_OK(sigprocmask(SIG_BLOCK, &one, NULL));
      CHECK_OK(sigaction(number, NULL, &action));
      Say("  %s", action.sa_handler == SIG_DFL ? "reset" : "kept");
      signal(number, SIG_IGN);
    }
  }
  CHECK_OK(sigpending(&some));
  for (int number = 1; number < 64; number++) {
    if (sigismember(&some, number) == 1) Say("pending still: %d", number);
  }
  return 0;
}
