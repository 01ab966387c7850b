// sigsuspend, pause, sigtimedwait, sigwaitinfo, sigwait: wake-ups, data, time limits, masks put
// back; what is ignored by default is waited for, too.
#include "tests/guest/guest.h"

static volatile int calls;
static atomic_int turn, progress;

static void Count(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  calls++;
}

// Sends SIGUSR1 to the main thread each time it says it is about to wait.
static void* Sender(void* argument) {
  pthread_t target = *(pthread_t*)argument;
  for (int i = 1; i <= 2000; i++) {
    AwaitAtLeast(&turn, i);
    CHECK_ZERO(pthread_kill(target, SIGUSR1));
  }
  return NULL;
}

static void* Waiter(void* argument) {
  sigset_t set = SignalSet(SIGRTMIN, SIGRTMIN + 1);
  siginfo_t info;
  int sum = 0;
  for (int i = 0; i < 20; i++) {
    atomic_fetch_add(&progress, 1);
    int number = sigwaitinfo(&set, &info);
    CHECK(number == SIGRTMIN || number == SIGRTMIN + 1);
    CHECK_EQ(info.si_signo, number);
    CHECK_EQ(info.si_code, SI_QUEUE);
    sum += info.si_value.sival_int;
  }
  *(int*)argument = sum;
  return NULL;
}

static void Suspend(void) {
  OnSignal(SIGUSR1, Count, 0);
  BlockSignals(SIGUSR1, 0);
  sigset_t none;
  sigemptyset(&none);
  raise(SIGUSR1);
  CHECK_EQ(calls, 0);
  CHECK_ERRNO(sigsuspend(&none), EINTR);  // pending already: at once
  CHECK_EQ(calls, 1);
  sigset_t now;
  CHECK_OK(sigprocmask(SIG_BLOCK, NULL, &now));
  CHECK_EQ(sigismember(&now, SIGUSR1), 1);  // put back
  // Thousands of hand-overs: a lost wake-up hangs.
  calls = 0;
  pthread_t self = pthread_self(), sender = StartThread(Sender, &self);
  for (int i = 1; i <= 2000; i++) {
    atomic_store(&turn, i);
    CHECK_ERRNO(sigsuspend(&none), EINTR);
    CHECK_EQ(calls, i);
    if (i == 1000) GuestSnapshot();
  }
  JoinThread(sender);
  Say("sigsuspend");
}

static void* Interrupt(void* argument) {
  pthread_t target = *(pthread_t*)argument;
  while (calls == 0) {  // pause() may begin after the first signal
    CHECK_ZERO(pthread_kill(target, SIGUSR2));
    SleepMs(5);
  }
  for (int i = 0; i < 100 && atomic_load(&progress) == 0; i++) {
    SleepMs(20);
    CHECK_ZERO(pthread_kill(target, SIGUSR2));
  }
  return NULL;
}

static void Pause(void) {
  OnSignal(SIGUSR2, Count, SA_RESTART);  // pause is never restarted
  calls = 0;
  atomic_store(&progress, 0);
  pthread_t self = pthread_self(), other = StartThread(Interrupt, &self);
  CHECK_ERRNO(pause(), EINTR);
  CHECK(calls > 0);
  atomic_store(&progress, 1);
  JoinThread(other);
  Say("pause");
}

static void TimedWait(void) {
  sigset_t set = SignalSet(SIGRTMIN, SIGRTMIN + 1);
  siginfo_t info;
  CHECK_ZERO(pthread_sigmask(SIG_BLOCK, &set, NULL));
  struct timespec limit = TimespecMs(60), zero = {0};
  int64_t start = NowNs(CLOCK_MONOTONIC);
  CHECK_ERRNO(sigtimedwait(&set, &info, &limit), EAGAIN);
  if (NowNs(CLOCK_MONOTONIC) - start < 60000000) FAIL("sigtimedwait of 60 ms ended too early");
  CHECK_ERRNO(sigtimedwait(&set, &info, &zero), EAGAIN);
  CHECK_OK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 11}));
  CHECK_OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 10}));
  GuestSnapshot();
  CHECK_EQ(sigtimedwait(&set, &info, &zero), SIGRTMIN);
  CHECK_EQ(info.si_value.sival_int, 10);
  CHECK_EQ(sigwaitinfo(&set, &info), SIGRTMIN + 1);
  CHECK_EQ(info.si_value.sival_int, 11);
  CHECK_EQ(info.si_pid, getpid());
  int number;
  raise(SIGRTMIN);
  CHECK_ZERO(sigwait(&set, &number));
  CHECK_EQ(number, SIGRTMIN);
  int sum = 0;
  atomic_store(&progress, 0);
  pthread_t waiter = StartThread(Waiter, &sum);
  AwaitBlocked(&progress, 1);
  GuestSnapshot();
  for (int i = 1; i <= 20; i++) {
    CHECK_OK(sigqueue(getpid(), SIGRTMIN + i % 2, (union sigval){.sival_int = i}));
  }
  JoinThread(waiter);
  CHECK_EQ(sum, 210);
  // A signal that is not waited for but caught ends the wait.
  calls = 0;
  pthread_t self = pthread_self(), other = StartThread(Interrupt, &self);
  atomic_store(&progress, 0);
  CHECK_ERRNO(sigwaitinfo(&set, &info), EINTR);
  atomic_store(&progress, 1);
  JoinThread(other);
  Say("sigtimedwait");
}

static void* Bystander(void* unused) {
  UnblockSignals(SIGWINCH, 0);
  // Where the main thread does not wait just then it comes here, and is gone.
  while (!atomic_load(&progress)) {
    CHECK_OK(kill(getpid(), SIGWINCH));
    SleepMs(5);
  }
  return unused;
}

// What is ignored by default is received by a main thread that waits for it, whatever the other
// threads block.
static void IgnoredByDefault(void) {
  sigset_t set = SignalSet(SIGWINCH, 0);
  BlockSignals(SIGWINCH, 0);
  atomic_store(&progress, 0);
  pthread_t other = StartThread(Bystander, NULL);
  for (int i = 0; i < 20; i++) {
    CHECK_EQ(sigtimedwait(&set, NULL, &(struct timespec){.tv_sec = 10}), SIGWINCH);
  }
  atomic_store(&progress, 1);
  JoinThread(other);
  UnblockSignals(SIGWINCH, 0);
  Say("ignored by default");
}

int main(void) {
  Suspend();
  Pause();
  TimedWait();
  IgnoredByDefault();
  return 0;
}
