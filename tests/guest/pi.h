// Helpers of the guest programs about futexes with an owner: scheduling in real time, on one
// processor, and what /proc says of a thread's priority.
#ifndef TESTS_GUEST_PI_H_
#define TESTS_GUEST_PI_H_

#include "tests/guest/guest.h"

enum {
  kPiTidMask = 0x3fffffff,
  kPiOwnerDied = 0x40000000,
  kPiWaiters = (int)0x80000000,
  kNoThread = 0x3ffffffe,  // no id of a thread goes so far
};

static inline long LockPi(atomic_int* word) { return Futex(word, kFutexLockPi, 0, NULL, NULL, 0); }
static inline long UnlockPi(atomic_int* word) {
  return Futex(word, kFutexUnlockPi, 0, NULL, NULL, 0);
}

// `ms` from now on, as an absolute time.
static inline struct timespec In(clockid_t clock, long ms) {
  int64_t end = NowNs(clock) + ms * 1000000ll;
  return (struct timespec){end / 1000000000, end % 1000000000};
}

// Whether this process may schedule itself in real time. Sets no more than that it can be set.
static inline bool MayUseRealTime(void) {
  struct sched_param param = {.sched_priority = 1};
  if (sched_setscheduler(0, SCHED_FIFO, &param) != 0) return false;
  param.sched_priority = 0;
  CHECK_OK(sched_setscheduler(0, SCHED_OTHER, &param));
  return true;
}

// The calling thread runs in real time, on the last processor that the process may use: no two such
// threads run at the same time, and the one with the higher priority runs first. 0: in usual time.
static inline void RunInRealTime(int priority) {
  struct sched_param param = {.sched_priority = priority};
  CHECK_OK(sched_setscheduler(0, priority > 0 ? SCHED_FIFO : SCHED_OTHER, &param));
  cpu_set_t all, one;
  CHECK_OK(sched_getaffinity(0, sizeof all, &all));
  int last = 0;
  for (int i = 0; i < CPU_SETSIZE; i++) last = CPU_ISSET(i, &all) ? i : last;
  CPU_ZERO(&one);
  CPU_SET(last, &one);
  CHECK_OK(sched_setaffinity(0, sizeof one, &one));
}

// A field of the thread's /proc/self/task/TID/stat, from 3 on, which is its state.
static inline const char* StatField(char text[1024], pid_t tid, int number) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
  int fd = open(path, O_RDONLY);
  CHECK_OK(fd);
  memset(text, 0, 1024);
  CHECK(read(fd, text, 1023) > 0);
  CHECK_OK(close(fd));
  char* field = strrchr(text, ')') + 2;
  for (int i = 3; i < number; i++) field = strchr(field, ' ') + 1;
  return field;
}

// The priority in real time by which a thread is scheduled at the moment, inherited or its own; 0:
// none.
static inline int PriorityOf(pid_t tid) {
  char text[1024];
  int value = atoi(StatField(text, tid, 18));
  return value < 0 ? -value - 1 : 0;
}

// Waits until the thread has that priority; the driver's time limit ends a wait that never does.
static inline void AwaitPriority(pid_t tid, int priority) {
  while (PriorityOf(tid) != priority) SleepMs(1);
}

// Waits until somebody waits at the word, of which a plain call then wants to know nothing.
static inline void AwaitQueued(atomic_int* word) {
  while (Futex(word, kFutexWake, 1, NULL, NULL, 0) != -1) SleepMs(1);
  CHECK_EQ(errno, EINVAL);
}

// Waits until the thread sleeps.
static inline void AwaitAsleep(pid_t tid) {
  char text[1024];
  while (*StatField(text, tid, 3) != 'S') SleepMs(1);
}

#endif  // TESTS_GUEST_PI_H_
