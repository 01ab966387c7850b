// variants: dynamic static musl musl-dynamic
// 64 threads at once: arguments and results, own stacks, own TLS, joined and detached, many in a
// row.
#include "tests/guest/guest.h"

enum { kThreads = 64 };

static atomic_int started, finished;
static atomic_bool go;
static _Thread_local long own = 7;
static _Thread_local char zeros[5000];

static void* Body(void* argument) {
  long index = (long)argument;
  volatile long local[100];
  for (int i = 0; i < 100; i++) local[i] = index * 1000 + i;
  CHECK_EQ(own, 7);
  for (size_t i = 0; i < sizeof zeros; i++) CHECK_EQ(zeros[i], 0);
  own = index;
  zeros[index] = (char)(index + 1);
  errno = (int)index + 1;
  atomic_fetch_add(&started, 1);
  for (unsigned spins = 0; !atomic_load(&go); spins++) {
    if (spins % 64 == 63) sched_yield();
  }
  CHECK_EQ(errno, index + 1);
  CHECK_EQ(own, index);
  for (int i = 0; i < (int)sizeof zeros; i++) CHECK_EQ(zeros[i], i == index ? index + 1 : 0);
  for (int i = 0; i < 100; i++) CHECK_EQ(local[i], index * 1000 + i);
  return (void*)(index * index);
}

static void* Detached(void* unused) {
  (void)unused;
  CHECK_ZERO(pthread_detach(pthread_self()));
  atomic_fetch_add(&finished, 1);
  return NULL;
}

static void* Short(void* argument) { return argument; }

int main(void) {
  pthread_t threads[kThreads];
  for (long i = 0; i < kThreads; i++) threads[i] = StartThread(Body, (void*)i);
  AwaitAtLeast(&started, kThreads);
  GuestSnapshot();
  atomic_store(&go, true);
  for (long i = 0; i < kThreads; i++) CHECK_EQ((long)JoinThread(threads[i]), i * i);
  CHECK_EQ(own, 7);
  Say("joined");
  for (int i = 0; i < 40; i++) StartThread(Detached, NULL);
  AwaitAtLeast(&finished, 40);
  Say("detached");
  // One after another: ids, stacks and vCPUs are used again.
  for (long i = 0; i < 500; i++) CHECK_EQ((long)JoinThread(StartThread(Short, (void*)i)), i);
  GuestSnapshot();
  CHECK_EQ((long)JoinThread(StartThread(Short, (void*)9l)), 9);
  Say("in a row");
  return 0;
}
