// Thread and process ids: distinct, stable, the main thread's the process's, gone when the thread
// is.
#include "tests/guest/guest.h"

enum { kThreads = 10 };

static atomic_int tids[kThreads];
static atomic_int ready;
static atomic_bool go;
static pid_t process;

static void* Body(void* argument) {
  long index = (long)argument;
  atomic_store(&tids[index], OwnTid());
  CHECK_EQ(getpid(), process);
  atomic_fetch_add(&ready, 1);
  while (!atomic_load(&go)) SleepMs(1);
  CHECK_EQ(OwnTid(), atomic_load(&tids[index]));
  CHECK_EQ(getpid(), process);
  return NULL;
}

int main(void) {
  process = getpid();
  pid_t parent = getppid(), group = getpgrp(), session = getsid(0);
  CHECK(process > 0);
  CHECK_EQ(OwnTid(), process);
  pthread_t threads[kThreads];
  for (long i = 0; i < kThreads; i++) threads[i] = StartThread(Body, (void*)i);
  AwaitAtLeast(&ready, kThreads);
  for (int i = 0; i < kThreads; i++) {
    CHECK(tids[i] > 0);
    CHECK(tids[i] != process);
    for (int j = 0; j < i; j++) CHECK(tids[i] != tids[j]);
  }
  // A resumed process has the parent that resumed it.
  if (GuestSnapshot() == 0 && !GuestInjected()) CHECK_EQ(getppid(), parent);
  CHECK_EQ(getpid(), process);
  CHECK_EQ(OwnTid(), process);
  CHECK_EQ(getpgrp(), group);
  CHECK_EQ(getsid(0), session);
  for (int i = 0; i < kThreads; i++) CHECK_EQ(syscall(SYS_tgkill, process, tids[i], 0), 0);
  atomic_store(&go, true);
  for (int i = 0; i < kThreads; i++) JoinThread(threads[i]);
  // A joined thread's tid word is clear, but the kernel may still be taking the thread down.
  for (int i = 0; i < kThreads; i++) {
    int tries = 0;
    while (syscall(SYS_tgkill, process, tids[i], 0) == 0 && tries++ < 1000) SleepMs(1);
    CHECK_ERRNO(syscall(SYS_tgkill, process, tids[i], 0), ESRCH);
  }
  CHECK_ERRNO(syscall(SYS_tgkill, process, -1, 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_tgkill, 0, process, 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_tgkill, process, process, 65), EINVAL);
  // After a snapshot a new thread's id differs from all that live.
  atomic_store(&ready, 0);
  atomic_store(&go, false);
  for (long i = 0; i < kThreads / 2; i++) threads[i] = StartThread(Body, (void*)i);
  AwaitAtLeast(&ready, kThreads / 2);
  GuestSnapshot();
  for (long i = kThreads / 2; i < kThreads; i++) threads[i] = StartThread(Body, (void*)i);
  AwaitAtLeast(&ready, kThreads);
  for (int i = 0; i < kThreads; i++) {
    for (int j = 0; j < i; j++) CHECK(tids[i] != tids[j]);
    CHECK(tids[i] != process);
  }
  atomic_store(&go, true);
  for (int i = 0; i < kThreads; i++) JoinThread(threads[i]);
  int clear = 1;
  CHECK_EQ(syscall(SYS_set_tid_address, &clear), process);
  Say("ids");
  return 0;
}
