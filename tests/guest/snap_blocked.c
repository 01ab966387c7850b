// variants: dynamic static musl
// A snapshot while threads are blocked in futex, nanosleep, poll, pause, sigsuspend, sigtimedwait:
// each goes on waiting, for what it waited for, and nothing is lost or done twice. Its registers
// are its own in the handler and behind it: thread-local memory, and the rounding of a vector unit
// that the handler begins without.
#include <immintrin.h>
#include <poll.h>

#include "tests/guest/guest.h"

enum { kKinds = 8 };

static atomic_int ready, handled, handled_rounded, futex_word;
static atomic_int finished[kKinds];
static pthread_t threads[kKinds];
static _Thread_local int own_handled;

static void Handler(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  own_handled++;
  atomic_fetch_add(&handled, 1);
  if (_MM_GET_ROUNDING_MODE() != _MM_ROUND_NEAREST) atomic_fetch_add(&handled_rounded, 1);
}

static void Wait(int kind) {
  sigset_t real_time = SignalSet(SIGRTMIN, 0);
  siginfo_t info;
  struct timespec hour = {.tv_sec = 3600}, left;
  switch (kind) {
    case 0:
      CHECK_OK(Futex(&futex_word, kFutexWait, 0, NULL, NULL, 0));
      break;
    case 1:
      CHECK_OK(Futex(&futex_word, kFutexWait, 0, &hour, NULL, 0));
      break;
    case 2:
      CHECK_ERRNO(nanosleep(&hour, &left), EINTR);
      CHECK(left.tv_sec > 3500 && left.tv_sec < 3600);
      break;
    case 3:
      CHECK_ERRNO(poll(NULL, 0, -1), EINTR);
      break;
    case 4:
      CHECK_ERRNO(poll(NULL, 0, 3600000), EINTR);
      break;
    case 5:
      CHECK_ERRNO(pause(), EINTR);
      break;
    case 6:
      BlockSignals(SIGUSR1, 0);
      CHECK_ERRNO(sigsuspend(&real_time), EINTR);
      CHECK_EQ(own_handled, 1);
      UnblockSignals(SIGUSR1, 0);
      break;
    default:
      CHECK_EQ(sigtimedwait(&real_time, &info, &hour), SIGRTMIN);
      CHECK_EQ(info.si_value.sival_int, 4711);
  }
}

static void* Body(void* argument) {
  int kind = (int)(long)argument;
  volatile uint64_t canary[4] = {1, 2, 3, 4 + (uint64_t)kind};
  const unsigned rounding = kind % 2 == 0 ? _MM_ROUND_UP : _MM_ROUND_DOWN;
  _MM_SET_ROUNDING_MODE(rounding);
  atomic_fetch_add(&ready, 1);
  Wait(kind);
  CHECK_EQ(_MM_GET_ROUNDING_MODE(), rounding);
  CHECK(canary[0] == 1 && canary[1] == 2 && canary[2] == 3 && canary[3] == 4 + (uint64_t)kind);
  atomic_store(&finished[kind], 1);
  return NULL;
}

int main(void) {
  OnSignal(SIGUSR1, Handler, 0);
  BlockSignals(SIGRTMIN, 0);
  for (int round = 0; round < 2; round++) {
    atomic_store(&ready, 0);
    atomic_store(&handled, 0);
    for (long i = 0; i < kKinds; i++) {
      atomic_store(&finished[i], 0);
      threads[i] = StartThread(Body, (void*)i);
    }
    AwaitBlocked(&ready, kKinds);
    GuestSnapshot();
    SleepMs(60);
    for (int i = 0; i < kKinds; i++) {
      if (atomic_load(&finished[i])) FAIL("the wait of kind %d ended by itself", i);
    }
    CHECK_EQ(atomic_load(&handled), 0);
    GuestSnapshot();  // the same threads, still in the same calls
    for (int woken = 0; woken < 2;) {
      long result = Futex(&futex_word, kFutexWake, 2 - woken, NULL, NULL, 0);
      CHECK_OK(result);
      woken += (int)result;
    }
    for (int i = 2; i < 7; i++) {
      CHECK_ZERO(pthread_kill(threads[i], SIGUSR1));
    }
    CHECK_OK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 4711}));
    for (int i = 0; i < kKinds; i++) JoinThread(threads[i]);
    CHECK_EQ(atomic_load(&handled), 5);
    CHECK_EQ(atomic_load(&handled_rounded), 0);
    Say("round %d", round);
  }
  return 0;
}
