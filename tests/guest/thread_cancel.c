// Cancellation: threads blocked in read, pause, nanosleep and a condition variable run their
// cleanups.
#include "tests/guest/guest.h"

static atomic_int cleaned, ready;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static int pipe_ends[2];

static void Cleanup(void* amount) { atomic_fetch_add(&cleaned, (int)(long)amount); }
static void Unlock(void* unused) {
  (void)unused;
  CHECK_ZERO(pthread_mutex_unlock(&mutex));
}

static void* Body(void* argument) {
  long how = (long)argument;
  pthread_cleanup_push(Cleanup, (void*)(how == 0 ? 1l : how == 1 ? 10l : how == 2 ? 100l : 1000l));
  atomic_fetch_add(&ready, 1);
  char byte;
  switch (how) {
    case 0:
      CHECK_OK(read(pipe_ends[0], &byte, 1));
      break;
    case 1:
      pause();
      break;
    case 2:
      SleepMs(60000);
      break;
    default:
      CHECK_ZERO(pthread_mutex_lock(&mutex));
      pthread_cleanup_push(Unlock, NULL);
      for (;;) pthread_cond_wait(&never, &mutex);
      pthread_cleanup_pop(1);
  }
  pthread_cleanup_pop(0);
  FAIL("thread %ld was not cancelled", how);
}

static void Round(long first) {
  pthread_t threads[4];
  atomic_store(&ready, 0);
  atomic_store(&cleaned, 0);
  for (long i = first; i < 4; i++) threads[i] = StartThread(Body, (void*)i);
  AwaitBlocked(&ready, 4 - (int)first);
  if (first != 0) GuestSnapshot();  // no pipe is open then
  for (long i = first; i < 4; i++) CHECK_ZERO(pthread_cancel(threads[i]));
  for (long i = first; i < 4; i++) CHECK(JoinThread(threads[i]) == PTHREAD_CANCELED);
  CHECK_EQ(atomic_load(&cleaned), first == 0 ? 1111 : 1110);
  CHECK_ZERO(pthread_mutex_trylock(&mutex));
  CHECK_ZERO(pthread_mutex_unlock(&mutex));
}

int main(void) {
  CHECK_OK(pipe(pipe_ends));
  Round(0);
  CHECK_OK(close(pipe_ends[0]));
  CHECK_OK(close(pipe_ends[1]));
  Say("cancelled");
  Round(1);
  Say("cancelled later");
  return 0;
}
