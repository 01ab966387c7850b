// Priorities, policies and processors: of each thread, inherited by those it makes.
#include <sys/prctl.h>
#include <sys/resource.h>

#include "tests/guest/guest.h"

struct Attr {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};

static int base, wanted_nice, wanted_policy;
static atomic_int other_tid, go;

// Above what the test was started with: an ordinary user cannot go back.
static int Nice(int more) { return base + more < 19 ? base + more : 19; }

static void* Inherits(void* unused) {
  errno = 0;
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), wanted_nice);
  CHECK_EQ(sched_getscheduler(0), wanted_policy);
  CHECK_EQ(errno, 0);
  return unused;
}

static void* Other(void* unused) {
  atomic_store(&other_tid, OwnTid());
  AwaitAtLeast(&go, 1);
  wanted_nice = Nice(9);
  wanted_policy = SCHED_IDLE;
  Inherits(NULL);
  return unused;
}

static void Priorities(void) {
  CHECK_EQ(getpriority(PRIO_PROCESS, getpid()), getpriority(PRIO_PROCESS, 0));
  CHECK_OK(setpriority(PRIO_PROCESS, 0, Nice(5)));
  CHECK_EQ(getpriority(PRIO_PROCESS, getpid()), Nice(5));
  wanted_nice = Nice(5);
  JoinThread(StartThread(Inherits, NULL));
  CHECK_OK(setpriority(PRIO_PROCESS, getpid(), Nice(7)));
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), Nice(7));
  wanted_nice = Nice(7);
  JoinThread(StartThread(Inherits, NULL));
  CHECK_ERRNO(getpriority(3, 0), EINVAL);
  CHECK_ERRNO(setpriority(-1, 0, 0), EINVAL);
  CHECK_ERRNO(getpriority(PRIO_PROCESS, 0x7ffffff0), ESRCH);
  CHECK_ERRNO(setpriority(PRIO_PGRP, 0x7ffffff0, 8), ESRCH);
  Say("priorities");
}

static void Policies(void) {
  struct sched_param param = {0};
  CHECK_EQ(sched_getscheduler(0), SCHED_OTHER);
  CHECK_OK(sched_setscheduler(0, SCHED_BATCH, &param));
  CHECK_EQ(sched_getscheduler(getpid()), SCHED_BATCH);
  wanted_policy = SCHED_BATCH;
  JoinThread(StartThread(Inherits, NULL));
  CHECK_OK(sched_getparam(0, &param));
  CHECK_EQ(param.sched_priority, 0);
  param.sched_priority = 1;
  CHECK_ERRNO(sched_setparam(0, &param), EINVAL);
  CHECK_ERRNO(sched_setscheduler(0, 77, &param), EINVAL);
  CHECK_ERRNO(sched_setscheduler(-1, SCHED_BATCH, &param), EINVAL);
  CHECK_ERRNO(sched_getscheduler(0x7ffffff0), ESRCH);
  CHECK_EQ(sched_get_priority_max(SCHED_FIFO), 99);
  CHECK_EQ(sched_get_priority_min(SCHED_RR), 1);
  struct timespec slice;
  CHECK_OK(sched_rr_get_interval(getpid(), &slice));
  // Of another thread, while it runs.
  pthread_t other = StartThread(Other, NULL);
  AwaitAtLeast(&other_tid, 1);
  CHECK_OK(setpriority(PRIO_PROCESS, (id_t)atomic_load(&other_tid), Nice(9)));
  param.sched_priority = 0;
  CHECK_OK(sched_setscheduler(atomic_load(&other_tid), SCHED_IDLE, &param));
  CHECK_EQ(sched_getscheduler(atomic_load(&other_tid)), SCHED_IDLE);
  CHECK_EQ(sched_getscheduler(0), SCHED_BATCH);
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), Nice(7));
  atomic_store(&go, 1);
  JoinThread(other);
  Say("policies");
}

static void Attributes(void) {
  struct Attr attr;
  memset(&attr, 0x55, sizeof attr);
  CHECK_OK(syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0));
  CHECK_EQ(attr.size, sizeof attr);
  CHECK_EQ(attr.policy, SCHED_BATCH);
  CHECK_EQ(attr.nice, Nice(7));
  attr.policy = SCHED_OTHER;
  attr.nice = Nice(8);
  CHECK_OK(syscall(SYS_sched_setattr, getpid(), &attr, 0));
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), Nice(8));
  wanted_nice = Nice(8);
  wanted_policy = SCHED_OTHER;
  JoinThread(StartThread(Inherits, NULL));
  CHECK_ERRNO(syscall(SYS_sched_getattr, 0, &attr, 16, 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_sched_getattr, 0, (void*)8, sizeof attr, 0), EFAULT);
  CHECK_ERRNO(syscall(SYS_sched_setattr, 0, (void*)8, 0), EFAULT);
  CHECK_ERRNO(syscall(SYS_sched_setattr, 0, &attr, 1), EINVAL);
  CHECK_ERRNO(syscall(SYS_sched_setattr, 0x7ffffff0, &attr, 0), ESRCH);
  struct {
    struct Attr attr;
    char more[2000];
  } large = {.attr = attr, .more[1999] = 1};
  large.attr.size = sizeof large;
  CHECK_ERRNO(syscall(SYS_sched_setattr, 0, &large, 0), E2BIG);
  Say("attributes");
}

static void* SameProcessors(void* wanted) {
  cpu_set_t now;
  CHECK_OK(sched_getaffinity(0, sizeof now, &now));
  CHECK(CPU_EQUAL(&now, (cpu_set_t*)wanted));
  return NULL;
}

static void Processors(void) {
  cpu_set_t all, one, now;
  CHECK_OK(sched_getaffinity(0, sizeof all, &all));
  CHECK_EQ(CPU_COUNT(&all), sysconf(_SC_NPROCESSORS_ONLN));
  CPU_ZERO(&one);
  for (int i = CPU_SETSIZE - 1; i >= 0; i--) {
    if (CPU_ISSET(i, &all)) CPU_SET(i, &one), i = -1;
  }
  JoinThread(StartThread(SameProcessors, &all));
  CHECK_OK(sched_setaffinity(0, sizeof one, &one));
  CHECK_OK(sched_getaffinity(getpid(), sizeof now, &now));
  CHECK(CPU_EQUAL(&now, &one));
  JoinThread(StartThread(SameProcessors, &one));
  unsigned cpu;
  CHECK_OK(getcpu(&cpu, NULL));
  CHECK(CPU_ISSET(cpu, &one));
  CHECK_OK(sched_setaffinity(0, sizeof all, &all));
  JoinThread(StartThread(SameProcessors, &all));
  CPU_ZERO(&one);
  CHECK_ERRNO(sched_setaffinity(0, sizeof one, &one), EINVAL);
  CHECK_ERRNO(sched_setaffinity(0x7ffffff0, sizeof all, &all), ESRCH);
  CHECK_ERRNO(syscall(SYS_sched_getaffinity, 0, 1, &now), EINVAL);
  Say("processors");
}

static void Io(void) {
  enum { kProcess = 1, kGroup = 2 };
  const int best_effort_6 = 2 << 13 | 6;
  CHECK_OK(syscall(SYS_ioprio_set, kProcess, 0, best_effort_6));
  CHECK_EQ(syscall(SYS_ioprio_get, kProcess, 0), best_effort_6);
  CHECK_EQ(syscall(SYS_ioprio_get, kProcess, getpid()), best_effort_6);
  CHECK_ERRNO(syscall(SYS_ioprio_set, 9, 0, best_effort_6), EINVAL);
  CHECK_ERRNO(syscall(SYS_ioprio_set, kProcess, 0, 7 << 13), EINVAL);
  CHECK_ERRNO(syscall(SYS_ioprio_get, kProcess, 0x7ffffff0), ESRCH);
  CHECK_OK(syscall(SYS_ioprio_get, kGroup, 0));
  Say("input and output");
}

int main(void) {
  base = getpriority(PRIO_PROCESS, 0);
  wanted_policy = SCHED_OTHER;
  CHECK_OK(setpriority(PRIO_PROCESS, 0, Nice(3)));
  wanted_nice = Nice(3);
  Inherits(NULL);
  Priorities();
  Policies();
  Attributes();
  Processors();
  Io();
  return 0;
}
