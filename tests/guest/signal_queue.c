// Real-time signals queue with their data: order of sending within a number, lowest number first,
// process-directed and thread-directed, across a snapshot.
#include "tests/guest/guest.h"

static volatile int numbers[300], values[300], codes[300], count;

static void Note(int number, siginfo_t* info, void* context) {
  (void)context;
  if (count < 300) {
    numbers[count] = number;
    values[count] = info->si_value.sival_int;
    codes[count] = info->si_code;
  }
  count++;
}

static void Expect(int index, int number, int value) {
  if (numbers[index] != number || values[index] != value || codes[index] != SI_QUEUE) {
    FAIL("delivery %d: signal %d value %d code %d, expected signal %d value %d code %d", index,
         numbers[index], values[index], codes[index], number, value, SI_QUEUE);
  }
}

static void Queue(int number, int value) {
  CHECK_OK(sigqueue(getpid(), number, (union sigval){.sival_int = value}));
}

// rt_tgsigqueueinfo to the calling thread.
static void QueueOwn(int number, int value) {
  siginfo_t info = {0};
  info.si_signo = number;
  info.si_code = SI_QUEUE;
  info.si_pid = getpid();
  info.si_uid = getuid();
  info.si_value.sival_int = value;
  CHECK_OK(syscall(SYS_rt_tgsigqueueinfo, getpid(), OwnTid(), number, &info));
}

int main(void) {
  struct sigaction action = {.sa_sigaction = Note, .sa_flags = SA_SIGINFO};
  sigfillset(&action.sa_mask);  // handlers do not interrupt each other: the order can be seen
  sigset_t all, old;
  sigemptyset(&all);
  for (int i = SIGRTMIN; i <= SIGRTMAX; i++) {
    CHECK_OK(sigaction(i, &action, NULL));
    sigaddset(&all, i);
  }
  CHECK_OK(sigaction(SIGUSR1, &action, NULL));
  sigaddset(&all, SIGUSR1);
  CHECK_OK(sigprocmask(SIG_BLOCK, &all, &old));
  for (int i = 0; i < 50; i++) {
    Queue(SIGRTMIN + 2, 1000 + i);
    Queue(SIGRTMIN + 1, 2000 + i);
    Queue(SIGRTMAX, 3000 + i);
  }
  Queue(SIGUSR1, 1);
  Queue(SIGUSR1, 2);  // lost: a standard signal is pending once, with the first one's data
  CHECK_EQ(count, 0);
  GuestSnapshot();
  CHECK_EQ(count, 0);
  CHECK_OK(sigprocmask(SIG_SETMASK, &old, NULL));
  // All are delivered before the call returns. Frames stack up, so the handlers run in reverse
  // order of the kernel's picking unless they mask each other, as here.
  CHECK_EQ(count, 151);
  Expect(0, SIGUSR1, 1);
  for (int i = 0; i < 50; i++) {
    Expect(1 + i, SIGRTMIN + 1, 2000 + i);
    Expect(51 + i, SIGRTMIN + 2, 1000 + i);
    Expect(101 + i, SIGRTMAX, 3000 + i);
  }
  Say("order");

  count = 0;
  CHECK_OK(sigprocmask(SIG_BLOCK, &all, &old));
  Queue(SIGRTMIN + 5, 1);     // to the process
  QueueOwn(SIGRTMIN + 5, 2);  // to the thread: delivered before the process's
  QueueOwn(SIGRTMIN + 4, 3);
  Queue(SIGRTMIN + 4, 4);
  GuestSnapshot();
  CHECK_OK(sigprocmask(SIG_SETMASK, &old, NULL));
  CHECK_EQ(count, 4);
  Expect(0, SIGRTMIN + 4, 3);
  Expect(1, SIGRTMIN + 5, 2);
  Expect(2, SIGRTMIN + 4, 4);
  Expect(3, SIGRTMIN + 5, 1);
  Say("thread first");

  count = 0;
  siginfo_t info = {0};
  info.si_code = SI_USER;  // only for oneself
  info.si_signo = SIGRTMIN;
  CHECK_OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN, &info));
  CHECK_EQ(count, 1);
  CHECK_EQ(codes[0], SI_USER);
  info.si_code = -60;  // any negative code
  CHECK_OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN, &info));
  CHECK_EQ(codes[1], -60);
  CHECK_ERRNO(sigqueue(getpid(), 65, (union sigval){0}), EINVAL);
  Say("codes");
  return 0;
}
