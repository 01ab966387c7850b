// Robust mutexes: a thread that ends with one held leaves EOWNERDEAD, waiter or not, across a
// snapshot; one that ends between unlocking and waking leaves nobody asleep.
#include <stddef.h>

#include "tests/guest/guest.h"

static pthread_mutex_t mutexes[3];
static atomic_int held, waiting;
static atomic_bool go;

static void* Owner(void* unused) {
  (void)unused;
  for (int i = 0; i < 3; i++) CHECK_ZERO(pthread_mutex_lock(&mutexes[i]));
  atomic_fetch_add(&held, 1);
  while (!atomic_load(&go)) SleepMs(1);
  return NULL;  // with all three held
}

static void* Waiter(void* argument) {
  pthread_mutex_t* mutex = argument;
  atomic_fetch_add(&waiting, 1);
  CHECK_EQ(pthread_mutex_lock(mutex), EOWNERDEAD);
  CHECK_ZERO(pthread_mutex_consistent(mutex));
  CHECK_ZERO(pthread_mutex_unlock(mutex));
  return NULL;
}

static void Round(int protocol) {
  pthread_mutexattr_t attributes;
  CHECK_ZERO(pthread_mutexattr_init(&attributes));
  CHECK_ZERO(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST));
  CHECK_ZERO(pthread_mutexattr_setprotocol(&attributes, protocol));
  for (int i = 0; i < 3; i++) CHECK_ZERO(pthread_mutex_init(&mutexes[i], &attributes));
  atomic_store(&held, 0);
  atomic_store(&waiting, 0);
  atomic_store(&go, false);
  pthread_t owner = StartThread(Owner, NULL);
  AwaitAtLeast(&held, 1);
  CHECK_EQ(pthread_mutex_trylock(&mutexes[0]), EBUSY);
  pthread_t waiter = StartThread(Waiter, &mutexes[0]);
  AwaitBlocked(&waiting, 1);
  GuestSnapshot();
  atomic_store(&go, true);
  JoinThread(owner);
  JoinThread(waiter);
  CHECK_ZERO(pthread_mutex_lock(&mutexes[0]));  // made consistent by the waiter
  CHECK_EQ(pthread_mutex_trylock(&mutexes[1]), EOWNERDEAD);
  CHECK_ZERO(pthread_mutex_consistent(&mutexes[1]));
  CHECK_ZERO(pthread_mutex_unlock(&mutexes[1]));
  CHECK_EQ(pthread_mutex_lock(&mutexes[2]), EOWNERDEAD);
  CHECK_ZERO(pthread_mutex_unlock(&mutexes[2]));  // not made consistent
  CHECK_EQ(pthread_mutex_lock(&mutexes[2]), ENOTRECOVERABLE);
  CHECK_ZERO(pthread_mutex_unlock(&mutexes[0]));
}

// What a robust list is to the kernel (set_robust_list(2)).
static struct Entry {
  struct Entry* next;
  atomic_int word;
} entry;
static struct {
  struct Entry* next;
  long offset;
  struct Entry* pending;
} list = {(struct Entry*)&list, offsetof(struct Entry, word), &entry};

// As pthread_mutex_unlock, cut off behind the store.
static void* Unlocker(void* unused) {
  CHECK_OK(syscall(SYS_set_robust_list, &list, sizeof list));
  AwaitBlocked(&waiting, 1);
  return unused;
}

static void Pending(void) {
  atomic_store(&waiting, 0);
  pthread_t unlocker = StartThread(Unlocker, NULL);
  atomic_fetch_add(&waiting, 1);
  const struct timespec patience = TimespecMs(10000);
  CHECK_OK(Futex(&entry.word, 0 /* FUTEX_WAIT, shared */, 0, &patience, NULL, 0));
  JoinThread(unlocker);
}

int main(void) {
  Round(PTHREAD_PRIO_NONE);
  Say("robust");
  Round(PTHREAD_PRIO_INHERIT);
  Say("robust and priority-inheriting");
  Pending();
  Say("about to wake");
  return 0;
}
