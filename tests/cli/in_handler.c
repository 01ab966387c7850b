// Is in a handler of SIGUSR2, on an alternate stack, inside one of SIGUSR1, which has cut off a
// calculation. in_handler busy|blocked prints "ready" from there, stays until there is a file `go`,
// in a loop or in system calls, and goes all the way back. It prints "right" where the calculation,
// its floating-point registers, the masks and the stacks are as they were.
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { kStack = 256 << 10 };

static volatile sig_atomic_t handled, wrong;
static char *stack;
static int blocked;

static void must(int condition, const char *what) {
  if (condition) return;
  wrong = 1;
  dprintf(1, "wrong: %s\n", what);
}

static int blocks(int sig) {
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  return sigismember(&mask, sig);
}

static void inner(int sig, siginfo_t *info, void *context) {
  char here;
  must(&here >= stack && &here < stack + kStack, "the stack of the inner handler");
  must(sig == SIGUSR2 && info->si_pid == getpid(), "who has sent the inner signal");
  dprintf(1, "ready\n");
  double sum = 0;
  uint64_t rounds = 0;
  while (access("go", F_OK) != 0) {
    const struct timespec moment = {0, 50000000};
    if (blocked) nanosleep(&moment, NULL);
    for (int i = 0; !blocked && i < 20000000; ++i) sum += 0.5;
    rounds += 1;
  }
  must(sum == (blocked ? 0.0 : 1e7 * (double)rounds), "the sum of the inner handler");
  must(blocks(SIGUSR1) && blocks(SIGUSR2) && blocks(SIGTERM), "the mask of the inner handler");
  must(sigismember(&((ucontext_t *)context)->uc_sigmask, SIGUSR1), "the mask that it goes back to");
  ++handled;
}

static void outer(int sig) {
  double before = 1.0 / 3.0;
  raise(SIGUSR2);
  must(sig == SIGUSR1 && before == 1.0 / 3.0, "the variables of the outer handler");
  must(blocks(SIGUSR1) && !blocks(SIGUSR2), "the mask of the outer handler");
  ++handled;
}

// The same number each time (which the compiler need not know), if nothing that it has in registers
// is lost.
__attribute__((noipa)) static double calculate(void) {
  double sum = 1;
  uint64_t state = 1;
  for (int i = 0; i < 100000000; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    sum = sum * 0.999999 + (double)(state >> 40);
  }
  return sum;
}

int main(int argc, char **argv) {
  blocked = argc > 1 && strcmp(argv[1], "blocked") == 0;
  double wanted = calculate();
  stack = malloc(kStack);
  stack_t alternate = {.ss_sp = stack, .ss_size = kStack};
  struct sigaction action = {.sa_handler = outer, .sa_flags = SA_ONSTACK};
  if (sigaltstack(&alternate, NULL) != 0 || sigaction(SIGUSR1, &action, NULL) != 0) return 2;
  action.sa_sigaction = inner;
  action.sa_flags = SA_ONSTACK | SA_SIGINFO;
  sigaddset(&action.sa_mask, SIGTERM);
  if (sigaction(SIGUSR2, &action, NULL) != 0) return 2;
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
  const struct itimerspec soon = {.it_value = {0, 20000000}};
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) return 2;
  if (timer_settime(timer, 0, &soon, NULL) != 0) return 2;
  double got = calculate();
  must(got == wanted, "the calculation");
  must(handled == 2, "how many handlers have run");
  must(!blocks(SIGUSR1) && !blocks(SIGUSR2) && !blocks(SIGTERM), "the mask in the end");
  if (!wrong) printf("right\n");
  return wrong;
}
