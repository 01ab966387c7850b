// variants: dynamic static
// A process that shares the program's memory, descriptors and directory: ids, actions for signals
// and an end of its own; waited for with __WALL.
#include <dirent.h>
#include <sys/resource.h>

#include "tests/guest/companion.h"

static atomic_int shared, handled, sender;
static atomic_bool go;

// Natively it could make threads and processes; under km it makes none (docs/syscalls.md).
static bool UnderKm(void) {
  uint8_t id[16];
  km_hc_args_t arguments = {.arg1 = (uint64_t)(uintptr_t)id};
  return km_hcall(HC_generation, &arguments) == 0;
}

static int Ids(void* parent) {
  CHECK_EQ(Raw(SYS_getppid, 0, 0, 0, 0), *(pid_t*)parent);
  CHECK_EQ(Raw(SYS_getpid, 0, 0, 0, 0), Raw(SYS_gettid, 0, 0, 0, 0));
  CHECK(Raw(SYS_getpid, 0, 0, 0, 0) != *(pid_t*)parent);
  if (UnderKm()) {
    CHECK_EQ(Raw(SYS_clone, kCompanionFlags, 0, 0, 0), -ENOSYS);
    CHECK_EQ(Raw(SYS_clone, kCompanionFlags | CLONE_SIGHAND | CLONE_THREAD, 0, 0, 0), -ENOSYS);
  }
  CHECK_OK(Raw(SYS_dup2, 1, 99, 0, 0));
  CHECK_OK(Raw(SYS_chdir, (long)"below", 0, 0, 0));
  atomic_store(&shared, 42);
  return 7;
}

static int ThreadsListed(void) {
  DIR* directory = opendir("/proc/self/task");
  CHECK(directory != NULL);
  int count = 0;
  while (readdir(directory) != NULL) count++;
  closedir(directory);
  return count - 2;
}

static void Shared(void) {
  pid_t own = getpid();
  CHECK_OK(mkdir("below", 0700));
  pid_t pid = StartCompanion(Ids, &own);
  CHECK(pid != own);
  CHECK_EQ(AwaitCompanion(pid), W_EXITCODE(7, 0));
  CHECK_EQ(atomic_load(&shared), 42);
  CHECK_OK(close(99));
  CHECK_ERRNO(access("below", F_OK), ENOENT);
  CHECK_OK(chdir(".."));
  int status;
  CHECK_ERRNO(waitpid(pid, &status, __WALL), ECHILD);
  Say("shared");
}

static int Await(void* status) {
  while (!atomic_load(&go)) Raw(SYS_sched_yield, 0, 0, 0, 0);
  Raw(SYS_exit_group, *(int*)status, 0, 0, 0);
  return 0;
}

static void Ends(void) {
  int code = 3, status;
  while (ThreadsListed() != 1) sched_yield();  // one that was joined may still be there
  atomic_store(&go, false);
  pid_t pid = StartCompanion(Await, &code);
  CHECK_ERRNO(waitpid(pid, &status, 0), ECHILD);  // it has no exit signal
  CHECK_EQ(waitpid(pid, &status, __WALL | WNOHANG), 0);
  CHECK_OK(kill(pid, 0));
  CHECK_EQ(ThreadsListed(), 1);
  if (GuestSnapshotWanted()) CHECK(GuestTrySnapshot("refused", 0) < 0);
  atomic_store(&go, true);
  CHECK_EQ(AwaitCompanion(pid), W_EXITCODE(3, 0));
  Say("exit_group ends it alone");
}

static void OnUser(int sig, siginfo_t* info, void* context) {
  (void)sig, (void)context;
  atomic_fetch_add(&handled, 1);
  atomic_store(&sender, info->si_pid);
}

static int OwnActions(void* parent) {
  struct {
    void (*handler)(int);
    unsigned long flags;
    void* restorer;
    unsigned long mask;
  } ignore = {.handler = SIG_IGN};
  CHECK_OK(Raw(SYS_rt_sigaction, SIGUSR1, (long)&ignore, 0, 8));
  long self = Raw(SYS_getpid, 0, 0, 0, 0);
  CHECK_OK(Raw(SYS_tgkill, self, self, SIGUSR1, 0));
  CHECK_OK(Raw(SYS_kill, *(pid_t*)parent, SIGUSR1, 0, 0));
  return 0;
}

static int Blocked(void* unused) {
  (void)unused;
  while (true) Raw(SYS_pause, 0, 0, 0, 0);
  return 0;
}

static int Faults(void* address) { return *(volatile int*)address; }

static void Signals(void) {
  pid_t own = getpid();
  OnSignal(SIGUSR1, OnUser, SA_RESTART);
  pid_t pid = StartCompanion(OwnActions, &own);
  CHECK_EQ(AwaitCompanion(pid), 0);
  AwaitAtLeast(&handled, 1);
  CHECK_EQ(atomic_load(&sender), pid);
  CHECK_EQ(atomic_load(&handled), 1);
  struct sigaction now;
  CHECK_OK(sigaction(SIGUSR1, NULL, &now));
  CHECK_EQ(now.sa_sigaction, OnUser);
  pid = StartCompanion(Blocked, NULL);
  CHECK_OK(kill(pid, SIGTERM));
  CHECK_EQ(AwaitCompanion(pid), SIGTERM);
  pid = StartCompanion(Blocked, NULL);
  CHECK_OK((int)syscall(SYS_tkill, pid, SIGKILL));
  CHECK_EQ(AwaitCompanion(pid), SIGKILL);
  pid = StartCompanion(Faults, (void*)8);
  CHECK_EQ(AwaitCompanion(pid) & 0x7f, SIGSEGV);
  Say("signals");
}

static int Exits(void* status) { return *(int*)status; }

static _Atomic pid_t awaited;
static atomic_int had, rounds_waited;

static void* WaitAlongside(void* unused) {
  (void)unused;
  for (pid_t pid, last = 0; (pid = atomic_load(&awaited)) >= 0;) {
    if (pid == last || pid == 0) continue;
    // Again and again, so that it is in the call at every moment of the other's.
    int status = 0;
    pid_t got;
    while ((got = waitpid(pid, &status, __WALL | WNOHANG)) == 0) continue;
    CHECK(got == pid ? status == W_EXITCODE(4, 0) : errno == ECHILD);
    atomic_fetch_add(&had, got == pid);
    last = pid;
    atomic_fetch_add(&rounds_waited, 1);
  }
  return NULL;
}

// Of several who wait for one it is one who has it.
static void Waiters(void) {
  enum { kRounds = 300 };
  pthread_t other = StartThread(WaitAlongside, NULL);
  int code = 4, status;
  for (int i = 1; i <= kRounds; i++) {
    pid_t pid = StartCompanion(Exits, &code);
    atomic_store(&awaited, pid);
    pid_t got;
    while ((got = waitpid(pid, &status, __WALL | WNOHANG)) == 0) continue;
    CHECK(got == pid ? status == W_EXITCODE(4, 0) : errno == ECHILD);
    atomic_fetch_add(&had, got == pid);
    AwaitAtLeast(&rounds_waited, i);
    CHECK_EQ(atomic_load(&had), i);
  }
  atomic_store(&awaited, -1);
  JoinThread(other);
  Say("one of the waiters has it");
}

// More of them than there may be at once, waited for by another thread.
static void* Many(void* unused) {
  (void)unused;
  for (int i = 0; i < 200; i++) {
    pid_t pid = StartCompanion(Exits, &i);
    CHECK_EQ(AwaitCompanion(pid), W_EXITCODE(i, 0));
  }
  return NULL;
}

int main(void) {
  setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
  Shared();
  Ends();
  Signals();
  JoinThread(StartThread(Many, NULL));
  Waiters();
  GuestSnapshot();
  Ends();
  return 0;
}
