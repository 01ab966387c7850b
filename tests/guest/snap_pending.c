// Pending signals, dispositions and masks in a snapshot: process- and thread-directed, queued with
// data, 64 bits of mask, blocked in one thread and not in another.
#include "tests/guest/guest.h"

static atomic_int ready, delivered;
static atomic_bool go;
static volatile int first_values[8], count;
static _Thread_local volatile int own_signals, own_value;

static void Process(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)context;
  CHECK_EQ(info->si_code, SI_QUEUE);
  if (count < 8) first_values[count] = info->si_value.sival_int;
  count++;
  atomic_fetch_add(&delivered, 1);
}

static void Thread(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)context;
  own_signals++;
  own_value = info->si_pid;
  CHECK_EQ(info->si_code, SI_TKILL);
}

static sigset_t MaskOf(uint64_t bits) {
  sigset_t set;
  sigemptyset(&set);
  memcpy(&set, &bits, 8);
  return set;
}

static uint64_t OwnMask(void) {
  uint64_t bits = 0;
  CHECK_OK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &bits, 8));
  return bits;
}

// Every thread has a mask of its own and a thread-directed signal pending that it blocks.
static void* Body(void* argument) {
  long index = (long)argument;
  uint64_t bits = 0xaaaa5555aaaa5555ull << index;
  bits |= 1ull << (SIGUSR1 - 1) | 1ull << (SIGUSR2 - 1) | 1ull << (SIGRTMIN - 1);
  bits &= ~(1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1));
  sigset_t set = MaskOf(bits);
  CHECK_OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &set, NULL, 8));
  CHECK_OK(syscall(SYS_tgkill, getpid(), OwnTid(), SIGUSR2));
  CHECK_EQ(own_signals, 0);
  atomic_fetch_add(&ready, 1);
  while (!atomic_load(&go)) SleepMs(1);
  if (OwnMask() != bits) {
    FAIL("thread %ld: mask 0x%llx, expected 0x%llx", index, (long long)OwnMask(), (long long)bits);
  }
  CHECK_EQ(own_signals, 0);
  uint64_t pending = 0;
  CHECK_OK(syscall(SYS_rt_sigpending, &pending, 8));
  CHECK_EQ(pending >> (SIGUSR2 - 1) & 1, 1);
  UnblockSignals(SIGUSR2, 0);
  CHECK_EQ(own_signals, 1);
  CHECK_EQ(own_value, getpid());
  return NULL;
}

int main(void) {
  struct sigaction action = {.sa_sigaction = Process,
                             .sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER};
  sigemptyset(&action.sa_mask);
  sigaddset(&action.sa_mask, SIGRTMAX);
  sigaddset(&action.sa_mask, SIGRTMIN);
  CHECK_OK(sigaction(SIGRTMIN, &action, NULL));
  OnSignal(SIGUSR2, Thread, 0);
  signal(SIGHUP, SIG_IGN);
  BlockSignals(SIGRTMIN, SIGUSR1);
  pthread_t threads[4];
  for (long i = 0; i < 4; i++) threads[i] = StartThread(Body, (void*)i);
  AwaitAtLeast(&ready, 4);
  for (int i = 0; i < 5; i++) {
    CHECK_OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 100 + i}));
  }
  CHECK_OK(kill(getpid(), SIGUSR1));
  uint64_t mask = OwnMask();
  for (int round = 0; round < 2; round++) {
    GuestSnapshot();
    CHECK_EQ(OwnMask(), mask);
    CHECK_EQ(count, 0);
    uint64_t pending = 0;
    CHECK_OK(syscall(SYS_rt_sigpending, &pending, 8));
    CHECK_EQ(pending, 1ull << (SIGRTMIN - 1) | 1ull << (SIGUSR1 - 1));
    struct sigaction now;
    CHECK_OK(sigaction(SIGRTMIN, NULL, &now));
    CHECK(now.sa_sigaction == Process);
    CHECK_EQ(now.sa_flags & ~0x04000000, SA_SIGINFO | SA_RESTART | SA_NODEFER);
    CHECK_EQ(sigismember(&now.sa_mask, SIGRTMAX), 1);
    CHECK_EQ(sigismember(&now.sa_mask, SIGTERM), 0);
    CHECK_OK(sigaction(SIGHUP, NULL, &now));
    CHECK(now.sa_handler == SIG_IGN);
    CHECK_OK(sigaction(SIGTERM, NULL, &now));
    CHECK(now.sa_handler == SIG_DFL);
  }
  atomic_store(&go, true);
  for (int i = 0; i < 4; i++) JoinThread(threads[i]);
  Say("thread-directed");
  UnblockSignals(SIGRTMIN, 0);
  CHECK_EQ(count, 5);
  for (int i = 0; i < 5; i++) CHECK_EQ(first_values[i], 100 + i);
  sigset_t user = SignalSet(SIGUSR1, 0);
  siginfo_t info;
  CHECK_EQ(sigwaitinfo(&user, &info), SIGUSR1);
  CHECK_EQ(info.si_code, SI_USER);
  CHECK_EQ(info.si_pid, getpid());
  Say("process-directed");
  return 0;
}
