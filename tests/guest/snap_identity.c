// variants: dynamic static musl
// What a process knows of itself stays: pid, tids, users, cwd, umask, limits, arguments,
// environment, auxiliary vector, stack, heap, thread-local and static data; a random layout is not
// drawn again.
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

extern char** environ;
static atomic_int tid, ready;
static atomic_bool go;
static _Thread_local int local = 5;
static int initialized = 42;
static int zero[3000];

static uint64_t Hash(void) {
  uint64_t hash = 14695981039346656037ull;
  for (char** each = environ; *each != NULL; each++) {
    for (char* c = *each; *c != 0; c++) hash = (hash ^ (uint8_t)*c) * 1099511628211ull;
  }
  return hash;
}

static void* Body(void* unused) {
  (void)unused;
  local = 6;
  atomic_store(&tid, OwnTid());
  atomic_store(&ready, 1);
  while (!atomic_load(&go)) SleepMs(1);
  CHECK_EQ(OwnTid(), atomic_load(&tid));
  CHECK_EQ(local, 6);
  return NULL;
}

int main(int argc, char** argv) {
  CHECK_OK(mkdir("below", 0755));
  CHECK_OK(chdir("below"));
  umask(0137);
  struct rlimit limit_now;
  CHECK_OK(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}));
  CHECK_OK(setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){4096, 4096}));
  CHECK_OK(setenv("GUEST_ADDED", "set by the program", 1));
  char cwd[4096], cwd_now[4096];
  CHECK(getcwd(cwd, sizeof cwd) != NULL);
  pid_t pid = getpid();
  uid_t uid = getuid();
  uint64_t hash = Hash(), random[2], random_now[2];
  memcpy(random, (void*)getauxval(AT_RANDOM), 16);
  uintptr_t vdso = getauxval(AT_SYSINFO_EHDR), entry = getauxval(AT_ENTRY);
  char* heap = malloc(100000);
  CHECK(heap != NULL);
  memset(heap, 0x68, 100000);
  initialized = 43;
  zero[2999] = 44;
  local = 7;
  int on_stack[1000];
  for (int i = 0; i < 1000; i++) on_stack[i] = i * i;
  void* pointer = on_stack;
  pthread_t thread = StartThread(Body, NULL);
  AwaitAtLeast(&ready, 1);

  for (int round = 0; round < 3; round++) {
    GuestSnapshot();
    CHECK_EQ(getpid(), pid);
    CHECK_EQ(OwnTid(), pid);
    CHECK_EQ(getuid(), uid);
    CHECK_EQ(syscall(SYS_tgkill, pid, atomic_load(&tid), 0), 0);
    CHECK(getcwd(cwd_now, sizeof cwd_now) != NULL);
    if (strcmp(cwd, cwd_now) != 0) FAIL("cwd is %s, expected %s", cwd_now, cwd);
    CHECK_EQ(umask(0137), 0137);
    CHECK_OK(getrlimit(RLIMIT_CORE, &limit_now));
    CHECK_EQ(limit_now.rlim_max, 0);
    CHECK_OK(getrlimit(RLIMIT_MEMLOCK, &limit_now));
    CHECK_EQ(limit_now.rlim_cur, 4096);
    CHECK_EQ(Hash(), hash);
    CHECK(strcmp(getenv("GUEST_ADDED"), "set by the program") == 0);
    CHECK_EQ(argc, 1);
    CHECK(strstr(argv[0], "snap_identity") != NULL);
    memcpy(random_now, (void*)getauxval(AT_RANDOM), 16);
    CHECK(memcmp(random, random_now, 16) == 0);
    CHECK_EQ(getauxval(AT_SYSINFO_EHDR), vdso);
    CHECK(memcmp((void*)vdso, "\177ELF", 4) == 0);
    CHECK_EQ(getauxval(AT_ENTRY), entry);
    for (int i = 0; i < 100000; i++) CHECK_EQ(heap[i], 0x68);
    CHECK_EQ(initialized, 43);
    CHECK_EQ(zero[2999], 44);
    CHECK_EQ(zero[0], 0);
    CHECK_EQ(local, 7);
    CHECK(pointer == on_stack);
    for (int i = 0; i < 1000; i++) CHECK_EQ(on_stack[i], i * i);
    Say("round %d", round);
  }
  atomic_store(&go, true);
  JoinThread(thread);
  return 0;
}
