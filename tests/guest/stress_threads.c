// 200 threads at once, each with its own stack, thread-local data, memory and turns at a lock; then
// threads that come and go. STRESS=N: N times as many rounds.
#include <semaphore.h>

#include "tests/guest/guest.h"

enum { kThreads = 200 };

static long rounds = 1;
static pthread_barrier_t barrier;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t turns[kThreads];
static long turn, locked, sum;
static atomic_int alive;
static _Thread_local long own = -1;

static void* Body(void* index) {
  CHECK_EQ(own, -1);
  own = (long)index;
  atomic_fetch_add(&alive, 1);
  pthread_barrier_wait(&barrier);
  CHECK_EQ(atomic_load(&alive), kThreads);
  volatile char stack[20000];
  for (size_t i = 0; i < sizeof stack; i += 1000) stack[i] = (char)own;
  uint8_t* page = MapAnonymous(kPage, PROT_READ | PROT_WRITE);
  memset(page, (int)own & 0xff, kPage);
  for (long round = 0; round < rounds; round++) {
    pthread_mutex_lock(&mutex);
    locked++;
    sum += own;
    pthread_mutex_unlock(&mutex);
    // One after the other.
    while (sem_wait(&turns[own]) != 0) CHECK_EQ(errno, EINTR);
    CHECK_EQ(turn++, round * kThreads + own);
    sem_post(&turns[(own + 1) % kThreads]);
  }
  for (size_t i = 0; i < sizeof stack; i += 1000) CHECK_EQ(stack[i], (char)own);
  for (size_t i = 0; i < kPage; i += 100) CHECK_EQ(page[i], own & 0xff);
  CHECK_OK(munmap(page, kPage));
  pthread_barrier_wait(&barrier);
  return (void*)(own * 2);
}

static void* Short(void* value) { return value; }

int main(void) {
  const char* stress = getenv("STRESS");
  if (stress != NULL) rounds = atol(stress);
  pthread_barrier_init(&barrier, NULL, kThreads);
  for (int i = 0; i < kThreads; i++) sem_init(&turns[i], 0, i == 0 ? 1 : 0);
  pthread_t threads[kThreads];
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 128 << 10);
  for (long i = 0; i < kThreads; i++) {
    CHECK_ZERO(pthread_create(&threads[i], &small, Body, (void*)i));
  }
  for (long i = 0; i < kThreads; i++) CHECK_EQ((long)JoinThread(threads[i]), i * 2);
  CHECK_EQ(locked, kThreads * rounds);
  CHECK_EQ(sum, kThreads * (kThreads - 1) / 2 * rounds);
  CHECK_EQ(turn, kThreads * rounds);
  Say("%d threads", kThreads);
  for (long i = 0; i < 200 * rounds; i++) {
    CHECK_EQ((long)JoinThread(StartThread(Short, (void*)i)), i);
  }
  Say("%s", "threads that come and go");
  return 0;
}
