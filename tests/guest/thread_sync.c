// variants: dynamic static musl
// Mutexes, condition variables, barriers, read-write locks, semaphores and once, contended, with a
// snapshot while threads stand in all of them.
#include <semaphore.h>

#include "tests/guest/guest.h"

enum { kThreads = 8, kRounds = 3000 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static sem_t semaphore;
static long counter, pair[2], items, taken, once_count;
static atomic_int arrived;

static void CountOnce(void) { once_count++; }

static void* Mutex(void* unused) {
  (void)unused;
  for (int i = 0; i < kRounds; i++) {
    pthread_mutex_lock(&mutex);
    counter++;
    pthread_mutex_unlock(&mutex);
    if (i == kRounds / 2) atomic_fetch_add(&arrived, 1);
  }
  return NULL;
}

static void* Consumer(void* unused) {
  (void)unused;
  pthread_mutex_lock(&mutex);
  for (;;) {
    while (items == 0) pthread_cond_wait(&changed, &mutex);
    if (items < 0) break;
    items--;
    taken++;
    pthread_cond_broadcast(&changed);
  }
  pthread_mutex_unlock(&mutex);
  return NULL;
}

static void* Barrier(void* argument) {
  long serial = 0;
  for (int i = 0; i < 200; i++) {
    int result = pthread_barrier_wait(&barrier);
    if (result == PTHREAD_BARRIER_SERIAL_THREAD)
      serial++;
    else
      CHECK_ZERO(result);
  }
  atomic_fetch_add((_Atomic long*)argument, serial);
  return NULL;
}

static void* ReadersWriters(void* argument) {
  bool writer = argument != NULL;
  for (int i = 0; i < kRounds / 3; i++) {
    if (writer) {
      CHECK_ZERO(pthread_rwlock_wrlock(&rwlock));
      pair[0]++;
      pair[1]++;
    } else {
      CHECK_ZERO(pthread_rwlock_rdlock(&rwlock));
      CHECK_EQ(pair[0], pair[1]);
    }
    CHECK_ZERO(pthread_rwlock_unlock(&rwlock));
  }
  return NULL;
}

static void* Semaphore(void* unused) {
  (void)unused;
  pthread_once(&once, CountOnce);
  for (int i = 0; i < 100; i++) CHECK_OK(sem_wait(&semaphore));
  return NULL;
}

int main(void) {
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = StartThread(Mutex, NULL);
  AwaitAtLeast(&arrived, 1);
  GuestSnapshot();  // somewhere in the middle of it
  for (int i = 0; i < kThreads; i++) JoinThread(threads[i]);
  CHECK_EQ(counter, kThreads * kRounds);
  Say("mutex");

  for (int i = 0; i < kThreads; i++) threads[i] = StartThread(Consumer, NULL);
  SleepMs(60);
  GuestSnapshot();  // all of them wait
  for (int i = 0; i < 500; i++) {
    pthread_mutex_lock(&mutex);
    while (items > 3) pthread_cond_wait(&changed, &mutex);
    items++;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
  }
  pthread_mutex_lock(&mutex);
  while (items != 0) pthread_cond_wait(&changed, &mutex);
  items = -1;
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&mutex);
  for (int i = 0; i < kThreads; i++) JoinThread(threads[i]);
  CHECK_EQ(taken, 500);
  Say("condition");

  _Atomic long serial = 0;
  CHECK_ZERO(pthread_barrier_init(&barrier, NULL, kThreads + 1));
  for (int i = 0; i < kThreads; i++) threads[i] = StartThread(Barrier, &serial);
  SleepMs(60);
  GuestSnapshot();  // all but this one have arrived
  Barrier(&serial);
  for (int i = 0; i < kThreads; i++) JoinThread(threads[i]);
  CHECK_EQ(serial, 200);
  Say("barrier");

  CHECK_ZERO(pthread_rwlock_wrlock(&rwlock));
  for (long i = 0; i < kThreads; i++) {
    threads[i] = StartThread(ReadersWriters, i % 4 == 0 ? &rwlock : NULL);
  }
  SleepMs(60);
  GuestSnapshot();  // held for writing, the others wait
  CHECK_ZERO(pthread_rwlock_unlock(&rwlock));
  for (int i = 0; i < kThreads; i++) JoinThread(threads[i]);
  CHECK_EQ(pair[0], 2 * (kRounds / 3));
  Say("rwlock");

  CHECK_OK(sem_init(&semaphore, 0, 0));
  for (int i = 0; i < kThreads; i++) threads[i] = StartThread(Semaphore, NULL);
  for (int i = 0; i < kThreads * 100; i++) {
    if (i == 50) GuestSnapshot();
    CHECK_OK(sem_post(&semaphore));
  }
  for (int i = 0; i < kThreads; i++) JoinThread(threads[i]);
  CHECK_EQ(once_count, 1);
  struct timespec soon;
  CHECK_OK(clock_gettime(CLOCK_REALTIME, &soon));
  CHECK_ERRNO(sem_timedwait(&semaphore, &soon), ETIMEDOUT);
  Say("semaphore");
  return 0;
}
