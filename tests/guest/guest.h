// Helpers of the guest programs. A guest program checks one topic, prints the same lines wherever
// it runs, and exits 0; tests/guest/run runs it natively, under km, and across each
// GuestSnapshot(). Plain C11 on libc alone, glibc or musl (which sees no linux/*.h, hence the futex
// constants here).
#ifndef TESTS_GUEST_GUEST_H_
#define TESTS_GUEST_GUEST_H_

#include <errno.h>
#include <fcntl.h>
#include <km/hypercall.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define kPage 4096ul
#define kHugePage (2ul << 20)

// Ends the program (from any thread) with what was wrong and where.
__attribute__((noreturn, format(printf, 3, 4), unused)) static void GuestFail(const char* file,
                                                                              int line,
                                                                              const char* format,
                                                                              ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  dprintf(2, "%s:%d: %s\n", file, line, text);
  _exit(1);
}

#define FAIL(...) GuestFail(__FILE__, __LINE__, __VA_ARGS__)

#define CHECK(condition)                              \
  do {                                                \
    if (!(condition)) FAIL("not so: %s", #condition); \
  } while (0)

#define CHECK_EQ(actual, expected)                                               \
  do {                                                                           \
    long long actual_ = (long long)(actual), expected_ = (long long)(expected);  \
    if (actual_ != expected_)                                                    \
      FAIL("%s is %lld (0x%llx), expected %s = %lld (0x%llx)", #actual, actual_, \
           (long long)actual_, #expected, expected_, (long long)expected_);      \
  } while (0)

// The call's result is not -1 (MAP_FAILED included).
#define CHECK_OK(call)                                                                       \
  do {                                                                                       \
    if ((long)(call) == -1) FAIL("%s failed: %s (errno %d)", #call, strerror(errno), errno); \
  } while (0)

#define CHECK_ERRNO(call, expected)                                                            \
  do {                                                                                         \
    errno = 0;                                                                                 \
    long result_ = (long)(call);                                                               \
    int errno_ = errno;                                                                        \
    if (result_ != -1 || errno_ != (expected))                                                 \
      FAIL("%s gave %ld with errno %d (%s), expected -1 with %s (%d)", #call, result_, errno_, \
           strerror(errno_), #expected, expected);                                             \
  } while (0)

// For pthread_*: 0 or the error itself.
#define CHECK_ZERO(call)                                                                         \
  do {                                                                                           \
    long error_ = (long)(call);                                                                  \
    if (error_ != 0) FAIL("%s gave %ld (%s), expected 0", #call, error_, strerror((int)error_)); \
  } while (0)

// Prints a line at once, so that the output shows how far a program came.
__attribute__((format(printf, 1, 2), unused)) static void Say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
  fflush(stdout);
}

// The driver asks for snapshots with GUEST_SNAPSHOT=1, and for those after which the same process
// goes on with GUEST_SNAPSHOT=continue.
__attribute__((unused)) static bool GuestAsked(const char* how) {
  const char* wanted = getenv("GUEST_SNAPSHOT");
  return wanted != NULL && strcmp(wanted, how) == 0;
}

__attribute__((unused)) static bool GuestSnapshotWanted(void) { return GuestAsked("1"); }

// Whether the processor is an emulated one (tests/emulated), which leaves out some faults.
__attribute__((unused)) static bool GuestEmulated(void) { return getenv("GUEST_EMULATED") != NULL; }

// A driver (tests/inject/run) may snapshot the process at any moment, and runs it natively with
// this set too: a program then leaves out what a snapshot changes by design.
__attribute__((unused)) static bool GuestInjected(void) { return getenv("GUEST_INJECTED") != NULL; }

__attribute__((unused)) static long GuestHypercall(const char* label, unsigned flags) {
  km_hc_args_t arguments = {.arg1 = (uint64_t)(uintptr_t)label, .arg3 = flags};
  return km_hcall(HC_snapshot, &arguments);
}

// HC_snapshot if the driver asks for it: -ENOSYS otherwise, and natively.
__attribute__((unused)) static long GuestTrySnapshot(const char* label, unsigned flags) {
  return GuestSnapshotWanted() ? GuestHypercall(label, flags) : -ENOSYS;
}

// A point at which the driver may snapshot the process: the program ends here and goes on in a
// process resumed from the file. Returns 1 there, and 0 when no snapshot was wanted, or one after
// which all is to be as if there had been none.
#define GuestSnapshot() GuestSnapshotAt(__FILE__, __LINE__)
__attribute__((unused)) static int GuestSnapshotAt(const char* file, int line) {
  if (GuestAsked("continue")) {
    const long result = GuestHypercall("guest test", KM_SNAPSHOT_CONTINUE);
    if (result != 0)
      GuestFail(file, line, "snapshot that goes on returned %ld, expected 0", result);
    return 0;
  }
  long result = GuestTrySnapshot("guest test", 0);
  if (result == -ENOSYS) return 0;
  if (result < 0) GuestFail(file, line, "snapshot refused: %s", strerror((int)-result));
  if (result != 1) GuestFail(file, line, "HC_snapshot that ends returned %ld, expected 1", result);
  return 1;
}

// Whether both are of one file. What a resume makes anew has another inode then: a snapshot between
// the two looks does not count.
__attribute__((unused)) static bool GuestSameFile(int one, int other) {
  struct stat first, second, again;
  do {
    CHECK_OK(fstat(one, &first));
    CHECK_OK(fstat(other, &second));
    CHECK_OK(fstat(one, &again));
  } while (first.st_ino != again.st_ino);
  return first.st_ino == second.st_ino && first.st_dev == second.st_dev;
}

__attribute__((unused)) static int64_t NowNs(clockid_t clock) {
  struct timespec now;
  CHECK_OK(clock_gettime(clock, &now));
  return now.tv_sec * 1000000000ll + now.tv_nsec;
}

__attribute__((unused)) static struct timespec TimespecMs(long ms) {
  return (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
}

// Sleeps at least `ms` milliseconds, signals or not.
__attribute__((unused)) static void SleepMs(long ms) {
  struct timespec left = TimespecMs(ms);
  while (nanosleep(&left, &left) != 0) CHECK_EQ(errno, EINTR);
}

__attribute__((unused)) static pid_t OwnTid(void) { return (pid_t)syscall(SYS_gettid); }

__attribute__((unused)) static pthread_t StartThread(void* (*body)(void*), void* argument) {
  pthread_t thread;
  CHECK_ZERO(pthread_create(&thread, NULL, body, argument));
  return thread;
}

__attribute__((unused)) static void* JoinThread(pthread_t thread) {
  void* result;
  CHECK_ZERO(pthread_join(thread, &result));
  return result;
}

// Waits until *value has reached `wanted`; the driver's time limit ends a wait that never does.
__attribute__((unused)) static void AwaitAtLeast(atomic_int* value, int wanted) {
  for (unsigned spins = 0; atomic_load(value) < wanted; spins++) {
    if (spins < 200) {
      __builtin_ia32_pause();
    } else {
      nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
  }
}

// Waits until *value has reached `wanted`, then long enough that whoever set it is most likely
// asleep in the call that it makes next. No check may depend on that.
__attribute__((unused)) static void AwaitBlocked(atomic_int* value, int wanted) {
  AwaitAtLeast(value, wanted);
  SleepMs(60);
}

// Installs `handler` with SA_SIGINFO and `flags`, nothing masked meanwhile.
__attribute__((unused)) static void OnSignal(int number, void (*handler)(int, siginfo_t*, void*),
                                             int flags) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
  sigemptyset(&action.sa_mask);
  CHECK_OK(sigaction(number, &action, NULL));
}

__attribute__((unused)) static sigset_t SignalSet(int first, int second) {
  sigset_t set;
  sigemptyset(&set);
  if (first != 0) sigaddset(&set, first);
  if (second != 0) sigaddset(&set, second);
  return set;
}

__attribute__((unused)) static void BlockSignals(int first, int second) {
  sigset_t set = SignalSet(first, second);
  CHECK_ZERO(pthread_sigmask(SIG_BLOCK, &set, NULL));
}

__attribute__((unused)) static void UnblockSignals(int first, int second) {
  sigset_t set = SignalSet(first, second);
  CHECK_ZERO(pthread_sigmask(SIG_UNBLOCK, &set, NULL));
}

// Creates `path` in the program's own (fresh) directory, `size` bytes of which byte i is
// PatternByte(i), and returns it open for reading and writing.
__attribute__((unused)) static uint8_t PatternByte(size_t offset) {
  return (uint8_t)(offset * 7 + offset / kPage * 13 + 1);
}

__attribute__((unused)) static int PatternFile(const char* path, size_t size) {
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
  CHECK_OK(fd);
  uint8_t* bytes = malloc(size + 1);
  CHECK(bytes != NULL);
  for (size_t i = 0; i < size; i++) bytes[i] = PatternByte(i);
  CHECK_EQ(write(fd, bytes, size), size);
  free(bytes);
  return fd;
}

__attribute__((unused)) static uint8_t* MapAnonymous(size_t size, int protection) {
  void* address = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_OK(address);
  return address;
}

// Futex operations, all private to the process.
enum {
  kFutexWait = 0 | 128,
  kFutexWake = 1 | 128,
  kFutexRequeue = 3 | 128,
  kFutexCmpRequeue = 4 | 128,
  kFutexWakeOp = 5 | 128,
  kFutexLockPi = 6 | 128,
  kFutexUnlockPi = 7 | 128,
  kFutexTrylockPi = 8 | 128,
  kFutexWaitBitset = 9 | 128,
  kFutexWakeBitset = 10 | 128,
  kFutexWaitRequeuePi = 11 | 128,
  kFutexCmpRequeuePi = 12 | 128,
  kFutexLockPi2 = 13 | 128,
  kFutexClockRealtime = 256,
};

// -1 and errno, or the kernel's result. `timeout` doubles as the count of woken or moved waiters.
__attribute__((unused)) static long Futex(atomic_int* word, int operation, int value,
                                          const void* timeout, atomic_int* second, int third) {
  return syscall(SYS_futex, word, operation, value, timeout, second, third);
}

#endif  // TESTS_GUEST_GUEST_H_
