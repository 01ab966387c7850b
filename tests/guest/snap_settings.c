// What a program sets for its threads and itself comes back: scheduling, processors, I/O priority,
// prctl, personality, memory policies. What it does not set is not looked at here.
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "tests/guest/guest.h"

enum { kIoProcess = 1, kBestEffort6 = 2 << 13 | 6, kIdle = 3 << 13, kPreferred = 1, kBind = 2 };

static int base;
static long policies;  // whether the kernel has memory policies
static uint8_t* memory;
static cpu_set_t one;
static atomic_int at, go;

// Above what the test was started with: an ordinary user cannot go back.
static int Nice(int more) { return base + more < 19 ? base + more : 19; }

static int Flag(int option) {
  int value = -1;
  CHECK_OK(prctl(option, &value, 0, 0, 0));
  return value;
}

static int Policy(void* address) {
  int mode = -1;
  CHECK_OK(syscall(SYS_get_mempolicy, &mode, NULL, 0, address, address != NULL ? 2 : 0));
  return mode;
}

// Up is always allowed.
static int OomScore(int wanted) {
  FILE* file = fopen("/proc/self/oom_score_adj", wanted >= 0 ? "r+" : "r");
  CHECK(file != NULL);
  if (wanted >= 0) CHECK(fprintf(file, "%d", wanted) > 0 && fflush(file) == 0);
  rewind(file);
  int score = -1;
  CHECK_EQ(fscanf(file, "%d", &score), 1);
  CHECK_EQ(fclose(file), 0);
  return score;
}

static void SetFirst(void) {
  struct sched_param param = {0};
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  CHECK_OK(setpriority(PRIO_PROCESS, 0, Nice(3)));
  CHECK_OK(sched_setscheduler(0, SCHED_BATCH, &param));
  CHECK_OK(syscall(SYS_ioprio_set, kIoProcess, 0, kBestEffort6));
  CHECK_OK(prctl(PR_SET_TIMERSLACK, 70000));
  CHECK_OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
  CHECK_OK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
  CHECK_OK(personality((unsigned)personality(0xffffffff) | ADDR_NO_RANDOMIZE));
  CHECK_OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  CHECK_OK(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
  CHECK_OK(prctl(PR_SET_DUMPABLE, 0));
  CHECK_OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
  CHECK_OK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
  CHECK_EQ(OomScore(999), 999);
  int mode;
  policies = syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0) == 0;
  unsigned long nodes = 1;
  memory = MapAnonymous(8 * kPage, PROT_READ | PROT_WRITE);
  memory[0] = memory[3 * kPage] = 1;
  if (!policies) return;
  CHECK_OK(syscall(SYS_set_mempolicy, kBind, &nodes, 64));
  CHECK_OK(syscall(SYS_mbind, memory + 2 * kPage, 3 * kPage, kPreferred, &nodes, 64, 0));
}

static void CheckFirst(void) {
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), Nice(3));
  CHECK_EQ(getpriority(PRIO_PROCESS, getpid()), Nice(3));
  CHECK_EQ(sched_getscheduler(0), SCHED_BATCH);
  CHECK_EQ(syscall(SYS_ioprio_get, kIoProcess, 0), kBestEffort6);
  CHECK_EQ(prctl(PR_GET_TIMERSLACK), 70000);
  CHECK_EQ(Flag(PR_GET_PDEATHSIG), SIGUSR1);
  CHECK_EQ(prctl(PR_GET_KEEPCAPS), 1);
  CHECK_EQ(personality(0xffffffff) & ADDR_NO_RANDOMIZE, ADDR_NO_RANDOMIZE);
  CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
  CHECK_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_EARLY);
  CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
  CHECK_EQ(Flag(PR_GET_CHILD_SUBREAPER), 1);
  CHECK_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
  CHECK_EQ(OomScore(-1), 999);
  if (!policies) return;
  unsigned long nodes = 0;
  int mode = -1;
  CHECK_OK(syscall(SYS_get_mempolicy, &mode, &nodes, 64, NULL, 0));
  CHECK_EQ(mode, kBind);
  CHECK_EQ(nodes, 1);
  CHECK_EQ(Policy(memory + 2 * kPage), kPreferred);
  CHECK_EQ(Policy(memory + 4 * kPage), kPreferred);
  CHECK_EQ(Policy(memory + kPage), 0);  // the thread's own
  CHECK_EQ(Policy(memory + 5 * kPage), 0);
}

static void CheckOther(void) {
  cpu_set_t now;
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), Nice(9));
  CHECK_EQ(sched_getscheduler(0), SCHED_IDLE);
  CHECK_EQ(syscall(SYS_ioprio_get, kIoProcess, 0), kIdle);
  CHECK_EQ(prctl(PR_GET_TIMERSLACK), 90000);
  CHECK_OK(sched_getaffinity(0, sizeof now, &now));
  CHECK(CPU_EQUAL(&now, &one));
  // Not inherited from the first one.
  CHECK_EQ(Flag(PR_GET_PDEATHSIG), 0);
}

// A thread that differs from the first in everything, and is asleep when the snapshot is taken.
static void* Other(void* unused) {
  struct sched_param param = {0};
  CHECK_OK(setpriority(PRIO_PROCESS, (id_t)OwnTid(), Nice(9)));
  CHECK_OK(sched_setscheduler(0, SCHED_IDLE, &param));
  CHECK_OK(syscall(SYS_ioprio_set, kIoProcess, 0, kIdle));
  CHECK_OK(prctl(PR_SET_TIMERSLACK, 90000));
  CHECK_OK(sched_setaffinity(0, sizeof one, &one));
  for (int round = 1; round <= 2; round++) {
    atomic_store(&at, round);
    while (atomic_load(&go) < round) Futex(&go, kFutexWait, round - 1, NULL, NULL, 0);
    CheckOther();
  }
  return unused;
}

// Made after a resume by the thread that it inherits from.
static void* Inherits(void* unused) {
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), Nice(3));
  CHECK_EQ(sched_getscheduler(0), SCHED_BATCH);
  CHECK_EQ(prctl(PR_GET_TIMERSLACK), 70000);
  CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
  if (policies) CHECK_EQ(Policy(NULL), kBind);
  return unused;
}

int main(void) {
  base = getpriority(PRIO_PROCESS, 0);
  SetFirst();
  CheckFirst();
  pthread_t other = StartThread(Other, NULL);
  for (int round = 1; round <= 2; round++) {
    AwaitBlocked(&at, round);
    GuestSnapshot();
    CheckFirst();
    JoinThread(StartThread(Inherits, NULL));
    atomic_store(&go, round);
    Futex(&go, kFutexWake, 1, NULL, NULL, 0);
    AwaitAtLeast(&at, round < 2 ? round + 1 : 0);
    Say("round %d", round);
  }
  JoinThread(other);
  CHECK_OK(prctl(PR_SET_DUMPABLE, 1));
  return 0;
}
