// Blocked calls with a time limit, relative or absolute, go on after a resume with what remained:
// not from the beginning, and not for the time that the process did not exist.
#include <poll.h>
#include <sys/select.h>

#include "tests/guest/guest.h"

enum { kKinds = 9, kWaitMs = 1500, kSnapshotMs = 700 };

static atomic_int ready, futex_word;

static void Wait(int kind, int64_t start) {
  sigset_t set = SignalSet(SIGRTMIN, 0);
  struct timespec time = TimespecMs(kWaitMs);
  int64_t end = start + kWaitMs * 1000000ll;
  struct timespec absolute = {end / 1000000000, end % 1000000000};
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t never;
  pthread_condattr_t attributes;
  switch (kind) {
    case 0:
      CHECK_OK(nanosleep(&time, NULL));
      break;
    case 1:
      CHECK_ZERO(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &absolute, NULL));
      break;
    case 2:
      CHECK_ERRNO(Futex(&futex_word, kFutexWait, 0, &time, NULL, 0), ETIMEDOUT);
      break;
    case 3:
      CHECK_ERRNO(Futex(&futex_word, kFutexWaitBitset, 0, &absolute, NULL, -1), ETIMEDOUT);
      break;
    case 4:
      CHECK_EQ(poll(NULL, 0, kWaitMs), 0);
      break;
    case 5:
      CHECK_EQ(ppoll(NULL, 0, &time, NULL), 0);
      break;
    case 6:
      CHECK_EQ(select(0, NULL, NULL, NULL, &(struct timeval){1, kWaitMs % 1000 * 1000}), 0);
      break;
    case 7:
      CHECK_ERRNO(sigtimedwait(&set, NULL, &time), EAGAIN);
      break;
    default:
      CHECK_ZERO(pthread_condattr_init(&attributes));
      CHECK_ZERO(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC));
      CHECK_ZERO(pthread_cond_init(&never, &attributes));
      CHECK_ZERO(pthread_mutex_lock(&mutex));
      CHECK_EQ(pthread_cond_timedwait(&never, &mutex, &absolute), ETIMEDOUT);
  }
}

static void* Body(void* argument) {
  int kind = (int)(long)argument;
  int64_t start = NowNs(CLOCK_MONOTONIC);
  atomic_fetch_add(&ready, 1);
  Wait(kind, start);
  int64_t ms = (NowNs(CLOCK_MONOTONIC) - start) / 1000000;
  if (ms < kWaitMs) FAIL("wait %d of %d ms ended after %lld ms", kind, kWaitMs, (long long)ms);
  // From the beginning again it would be kWaitMs + kSnapshotMs.
  if (ms > kWaitMs + kSnapshotMs - 50) {
    FAIL("wait %d of %d ms took %lld ms of CLOCK_MONOTONIC", kind, kWaitMs, (long long)ms);
  }
  return NULL;
}

int main(void) {
  BlockSignals(SIGRTMIN, 0);
  pthread_t threads[kKinds];
  for (long i = 0; i < kKinds; i++) threads[i] = StartThread(Body, (void*)i);
  AwaitAtLeast(&ready, kKinds);
  SleepMs(kSnapshotMs);
  GuestSnapshot();
  for (int i = 0; i < kKinds; i++) JoinThread(threads[i]);
  Say("timeouts");
  return 0;
}
