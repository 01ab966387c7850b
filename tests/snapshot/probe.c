/* Guest programs of the snapshot tests: probe COMMAND [ARGUMENTS]. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <km/km.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

/* Takes a snapshot and says what came back. Output goes out at once, or each resume repeats it. */
static int Snapshot(const char* label, unsigned flags) {
  fflush(stdout);
  int result = km_snapshot(label, NULL, flags);
  if (result < 0) printf("no snapshot: %s\n", strerror(-result));
  return result;
}

/* ---- threads: four threads, blocked in four calls, each with a known value in a vector register
 * -- */

struct vector {
  uint64_t words[4];
};

/* The bare system call with ymm0 loaded: what gdb must show, and what must come back. */
static NOINLINE long CallWithVector(long number, long a, long b, long c, long d,
                                    struct vector* vector) {
  long result;
  register long arg4 __asm__("r10") = d;
  register long arg5 __asm__("r8") = 0;
  __asm__ volatile(
      "vmovdqu %[vector], %%ymm0\n\t"
      "syscall\n\t"
      "vmovdqu %%ymm0, %[vector]"
      : "=a"(result), [vector] "+m"(*vector)
      : "a"(number), "D"(a), "S"(b), "d"(c), "r"(arg4), "r"(arg5)
      : "rcx", "r11", "memory", "xmm0");
  return result;
}

static int released;
static char from_stdin[16];

static NOINLINE long BlockedInFutex(struct vector* vector) {
  return CallWithVector(SYS_futex, (long)&released, 0 /* FUTEX_WAIT */, 0, 0, vector);
}

static NOINLINE long BlockedInNanosleep(struct vector* vector) {
  const struct timespec time = {0, 700000000};
  return CallWithVector(SYS_nanosleep, (long)&time, 0, 0, 0, vector);
}

static NOINLINE long BlockedInPoll(struct vector* vector) {
  return CallWithVector(SYS_poll, 0, 0, 700, 0, vector);
}

static NOINLINE long BlockedInRead(struct vector* vector) {
  return CallWithVector(SYS_read, 0, (long)from_stdin, sizeof(from_stdin) - 1, 0, vector);
}

static struct blocked {
  const char* name;
  long (*call)(struct vector*);
  struct vector vector;
  long result;
} blocked[] = {
    {.name = "futex", .call = BlockedInFutex},
    {.name = "nanosleep", .call = BlockedInNanosleep},
    {.name = "poll", .call = BlockedInPoll},
    {.name = "read", .call = BlockedInRead},
};
#define BLOCKED_COUNT (sizeof(blocked) / sizeof(blocked[0]))

static NOINLINE void* ThreadMain(void* arg) {
  struct blocked* self = arg;
  pthread_setname_np(pthread_self(), self->name);
  self->result = self->call(&self->vector);
  return NULL;
}

static int Threads(void) {
  pthread_t threads[BLOCKED_COUNT];
  for (size_t i = 0; i < BLOCKED_COUNT; ++i) {
    for (size_t word = 0; word < 4; ++word) blocked[i].vector.words[word] = 0x1000 * (i + 1) + word;
    pthread_create(&threads[i], NULL, ThreadMain, &blocked[i]);
  }
  usleep(150000); /* long enough for them to block */
  if (Snapshot("threads", 0) < 0) return 1;
  /* The futex must still be waited for, or be so again before long. */
  long woken = 0;
  for (int i = 0; i < 1000 && woken == 0; i++) {
    usleep(10000);
    woken = syscall(SYS_futex, &released, 1 /* FUTEX_WAKE */, 10, NULL, NULL, 0);
  }
  printf("woken %ld\n", woken);
  for (size_t i = 0; i < BLOCKED_COUNT; ++i) {
    pthread_join(threads[i], NULL);
    int intact = 1;
    for (size_t word = 0; word < 4; ++word) {
      intact &= blocked[i].vector.words[word] == 0x1000 * (i + 1) + word;
    }
    printf("%s: %ld, vector %s\n", blocked[i].name, blocked[i].result, intact ? "intact" : "LOST");
  }
  printf("read '%.*s'\n", (int)strcspn(from_stdin, "\n"), from_stdin);
  return 0;
}

/* ---- chain N: N snapshots, each of a process resumed from the one before
 * ------------------------- */

static int Chain(int length) {
  for (int i = 1; i <= length; ++i) {
    int result = Snapshot("chain", 0);
    if (result < 0) return 1;
    printf("link %d of %d\n", i, length);
  }
  return 0;
}

/* ---- try: a snapshot that may fail; the program goes on either way
 * ------------------------------- */

static int Try(void) {
  int result = Snapshot("try", KM_SNAPSHOT_CONTINUE);
  if (result >= 0) printf("%s\n", result == 1 ? "resumed" : "went on");
  return 0;
}

/* ---- files PATH: a regular file in every way it may be open
 * -------------------------------------- */

static long Offset(int fd) { return (long)lseek(fd, 0, SEEK_CUR); }

static int Files(const char* path) {
  char text[8] = "";
  int truncated = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
  if (truncated < 0 || write(truncated, "0123456789", 10) != 10) return 2;
  lseek(truncated, 4, SEEK_SET);
  int shared = dup(truncated);
  int reading = open(path, O_RDONLY | O_CLOEXEC);
  int appending = open(path, O_WRONLY | O_APPEND);
  lseek(reading, 7, SEEK_SET);
  if (Snapshot("files", 0) < 0) return 1;
  printf("offsets %ld %ld %ld\n", Offset(truncated), Offset(shared), Offset(reading));
  printf("size %ld\n", (long)lseek(reading, 0, SEEK_END));
  if (write(appending, "ABC", 3) != 3) return 3;
  if (read(shared, text, 2) != 2) return 4;
  printf("read '%s', then at %ld\n", text, Offset(truncated));
  printf("append %d, access %d %d, close-on-exec %d %d\n", !!(fcntl(appending, F_GETFL) & O_APPEND),
         fcntl(reading, F_GETFL) & O_ACCMODE, fcntl(truncated, F_GETFL) & O_ACCMODE,
         fcntl(reading, F_GETFD), fcntl(truncated, F_GETFD));
  return 0;
}

/* ---- mapped PATH: a file that is shared as memory and not open any more
 * -------------------------- */

static int Mapped(const char* path) {
  const int fd = open(path, O_RDWR);
  char* bytes = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (fd < 0 || bytes == MAP_FAILED) return 2;
  close(fd);
  if (Snapshot("mapped", 0) < 0) return 1;
  printf("mapped '%.3s'\n", bytes);
  bytes[0] = 'W';
  return 0;
}

/* ---- refused KIND: something open that no snapshot carries, as descriptor 7
 * ---------------------- */

static int OpenKind(const char* kind) {
  int fd = -1;
  if (strcmp(kind, "directory") == 0 && mkdir("gone", 0700) == 0) {
    fd = open("gone", O_RDONLY | O_DIRECTORY);
    rmdir("gone");
  }
  /* Inherited, and used. */
  if (strcmp(kind, "pipe") == 0 && fcntl(7, F_GETFL) >= 0) fd = 7;
  if (strcmp(kind, "memfd") == 0) {
    fd = memfd_create("large", 0);
    if (ftruncate(fd, 3 << 20) != 0) return -1;
  }
  return fd;
}

static int Refused(const char* kind) {
  int fd = OpenKind(kind);
  if (fd < 0) {
    printf("there is no %s here: %s\n", kind, strerror(errno));
    return 2;
  }
  if (fd != 7) {
    dup2(fd, 7);
    close(fd);
  }
  int result = Snapshot("refused", KM_SNAPSHOT_CONTINUE);
  printf("went on, descriptor 7 is %s\n", fcntl(7, F_GETFD) < 0 ? "LOST" : "open");
  close(7);
  if (result == 0) return 3;
  return Snapshot("second try", KM_SNAPSHOT_CONTINUE) == 0 ? 0 : 4;
}

/* ---- clock: CLOCK_MONOTONIC goes on, CLOCK_REALTIME is the host's
 * -------------------------------- */

static int64_t Now(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int Clock(void) {
  int64_t monotonic = Now(CLOCK_MONOTONIC), realtime = Now(CLOCK_REALTIME);
  if (Snapshot("clock", 0) < 0) return 1;
  int64_t passed = Now(CLOCK_MONOTONIC) - monotonic, elapsed = Now(CLOCK_REALTIME) - realtime;
  /* The test waits a second and a half between the snapshot and the resume. */
  printf("monotonic %s\n", passed >= 0 && passed < 1000000000 ? "went on" : "JUMPED");
  printf("realtime %s\n", elapsed > 1400000000 ? "is the host's" : "STOOD STILL");
  return 0;
}

/* ---- crash: dies of SIGSEGV in a named function, with another thread blocked
 * --------------------- */

static volatile int* volatile nowhere = (int*)16;

static NOINLINE int CrashHere(int depth) {
  if (depth > 0) return CrashHere(depth - 1) + 1;
  return *nowhere;
}

static int Crash(bool dumpable) {
  pthread_t thread;
  if (!dumpable) prctl(PR_SET_DUMPABLE, 0);
  for (size_t word = 0; word < 4; ++word) blocked[0].vector.words[word] = 0x1000 + word;
  pthread_create(&thread, NULL, ThreadMain, &blocked[0]);
  usleep(50000);
  return CrashHere(2);
}

int main(int argc, char** argv) {
  const char* command = argc > 1 ? argv[1] : "";
  const char* argument = argc > 2 ? argv[2] : "";
  if (strcmp(command, "threads") == 0) return Threads();
  if (strcmp(command, "chain") == 0) return Chain(atoi(argument));
  if (strcmp(command, "try") == 0) return Try();
  if (strcmp(command, "files") == 0) return Files(argument);
  if (strcmp(command, "mapped") == 0) return Mapped(argument);
  if (strcmp(command, "refused") == 0) return Refused(argument);
  if (strcmp(command, "clock") == 0) return Clock();
  if (strcmp(command, "crash") == 0) return Crash(strcmp(argument, "secretly") != 0);
  fprintf(stderr,
          "usage: probe threads|chain N|try|files PATH|mapped PATH|refused KIND|clock|"
          "crash [secretly]\n");
  return 2;
}
