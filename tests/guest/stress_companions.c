// Processes beside the program, one after another: each stops threads that run, block, come and go,
// looks at them, and then lets them go, ends without a word or is killed. Nothing is lost by it.
#include "tests/guest/companion.h"

enum { kSpinners = 2, kMostThreads = kSpinners + 2 };
static _Atomic pid_t tids[kMostThreads];
static atomic_long turns[kSpinners];
static atomic_long read_bytes, joined;
static atomic_bool stop, begun, attached;
static int pipes[2];
static unsigned round_number;

static void* Spin(void* index) {
  atomic_store(&tids[(uintptr_t)index], OwnTid());
  while (!atomic_load(&stop)) atomic_fetch_add(&turns[(uintptr_t)index], 1);
  return NULL;
}

static void* Read(void* unused) {
  (void)unused;
  atomic_store(&tids[kSpinners], OwnTid());
  char byte;
  while (read(pipes[0], &byte, 1) == 1) atomic_fetch_add(&read_bytes, 1);
  return NULL;
}

static void* Short(void* unused) {
  (void)unused;
  atomic_store(&tids[kSpinners + 1], OwnTid());
  return NULL;
}

static void* ComeAndGo(void* unused) {
  (void)unused;
  while (!atomic_load(&stop)) {
    JoinThread(StartThread(Short, NULL));
    atomic_fetch_add(&joined, 1);
  }
  return NULL;
}

static int Look(void* unused) {
  (void)unused;
  while (!atomic_load(&begun)) __builtin_ia32_pause();
  bool stopped[kMostThreads] = {false};
  for (int i = 0; i < kMostThreads; i++) {
    pid_t tid = atomic_load(&tids[i]);
    if (Raw(SYS_ptrace, PTRACE_ATTACH, tid, 0, 0) != 0) continue;
    int status = 0;
    if (Raw(SYS_wait4, tid, (long)&status, __WALL, 0) != tid || !WIFSTOPPED(status)) continue;
    struct user_regs_struct registers;
    CHECK_EQ(Raw(SYS_ptrace, PTRACE_GETREGS, tid, 0, (long)&registers), 0);
    stopped[i] = true;
  }
  atomic_store(&attached, true);
  unsigned how = round_number % 3;
  while (how == 2) Raw(SYS_sched_yield, 0, 0, 0, 0);  // until it is killed
  for (int i = 0; i < kMostThreads && how == 0; i++) {
    if (stopped[i]) CHECK_EQ(Raw(SYS_ptrace, PTRACE_DETACH, atomic_load(&tids[i]), 0, 0), 0);
  }
  return 9;
}

// Each round waits until all of them have gone on.
static void AwaitProgress(void) {
  long before[kSpinners], bytes = atomic_load(&read_bytes), threads = atomic_load(&joined);
  for (int i = 0; i < kSpinners; i++) before[i] = atomic_load(&turns[i]);
  CHECK_EQ(write(pipes[1], "x", 1), 1);
  for (int i = 0; i < kSpinners; i++) {
    while (atomic_load(&turns[i]) == before[i]) sched_yield();
  }
  while (atomic_load(&read_bytes) == bytes || atomic_load(&joined) == threads) sched_yield();
}

int main(void) {
  NeedTrace();
  const char* wanted = getenv("STRESS");
  unsigned rounds = wanted != NULL ? 30 * (unsigned)atoi(wanted) : 30;
  CHECK_OK(pipe(pipes));
  pthread_t threads[kSpinners + 2];
  for (uintptr_t i = 0; i < kSpinners; i++) threads[i] = StartThread(Spin, (void*)i);
  threads[kSpinners] = StartThread(Read, NULL);
  threads[kSpinners + 1] = StartThread(ComeAndGo, NULL);
  AwaitProgress();
  for (round_number = 0; round_number < rounds; round_number++) {
    atomic_store(&begun, false);
    atomic_store(&attached, false);
    pid_t pid = StartCompanion(Look, NULL);
    atomic_store(&begun, true);
    if (round_number % 3 == 2) {
      while (!atomic_load(&attached)) sched_yield();
      CHECK_OK(kill(pid, SIGKILL));
      CHECK_EQ(AwaitCompanion(pid), SIGKILL);
    } else {
      CHECK_EQ(AwaitCompanion(pid), W_EXITCODE(9, 0));
    }
    AwaitProgress();
    if (round_number % 10 == 9) GuestSnapshot();
  }
  atomic_store(&stop, true);
  CHECK_OK(close(pipes[1]));
  for (int i = 0; i < kSpinners + 2; i++) JoinThread(threads[i]);
  Say("went on each time");
  return 0;
}
