// variants: dynamic static musl
// clock_gettime, gettimeofday, time and getcpu through the vDSO: never backwards in any thread or
// from one to another, and in agreement with the system call.
// emulated: no, its clocks are those of a slow and uneven machine
#include <sys/auxv.h>
#include <sys/time.h>

#include "tests/guest/guest.h"

#ifndef __GLIBC__
static int getcpu(unsigned* cpu, unsigned* node) {
  return (int)syscall(SYS_getcpu, cpu, node, NULL);
}
#endif

enum { kThreads = 3, kReads = 30000 };

static _Atomic int64_t newest;

static int64_t RawNs(clockid_t clock) {
  struct timespec now;
  CHECK_OK(syscall(SYS_clock_gettime, clock, &now));
  CHECK(now.tv_nsec >= 0 && now.tv_nsec < 1000000000);
  return now.tv_sec * 1000000000ll + now.tv_nsec;
}

// Each reading is at least what any thread had read before it began.
static void* Monotonic(void* unused) {
  (void)unused;
  for (int i = 0; i < kReads; i++) {
    int64_t before = atomic_load(&newest);
    int64_t now = i % 64 == 0 ? RawNs(CLOCK_MONOTONIC) : NowNs(CLOCK_MONOTONIC);
    if (now < before) {
      FAIL("CLOCK_MONOTONIC went back by %lld ns between threads", (long long)(before - now));
    }
    while (before < now && !atomic_compare_exchange_weak(&newest, &before, now)) {
    }
  }
  return NULL;
}

// The vDSO's value lies between two by system call.
static void Agree(clockid_t clock, const char* name) {
  for (int i = 0; i < 50; i++) {
    int64_t first = RawNs(clock), between = NowNs(clock), last = RawNs(clock);
    if (between < first || between > last) {
      // CLOCK_REALTIME may be stepped: then the system calls disagree in turn, so try again.
      if (clock == CLOCK_REALTIME && i < 40) continue;
      FAIL("%s: %lld by the vDSO, not between %lld and %lld by system calls", name,
           (long long)between, (long long)first, (long long)last);
    }
  }
}

static void CheckAll(void) {
  Agree(CLOCK_MONOTONIC, "CLOCK_MONOTONIC");
  Agree(CLOCK_REALTIME, "CLOCK_REALTIME");
  Agree(CLOCK_MONOTONIC_RAW, "CLOCK_MONOTONIC_RAW");
  Agree(CLOCK_BOOTTIME, "CLOCK_BOOTTIME");
  Agree(CLOCK_MONOTONIC_COARSE, "CLOCK_MONOTONIC_COARSE");
  Agree(CLOCK_REALTIME_COARSE, "CLOCK_REALTIME_COARSE");
  for (int i = 0; i < 100; i++) {
    struct timeval now;
    int64_t first = RawNs(CLOCK_REALTIME) / 1000;
    CHECK_OK(gettimeofday(&now, NULL));
    int64_t middle = now.tv_sec * 1000000ll + now.tv_usec, last = RawNs(CLOCK_REALTIME) / 1000;
    if (middle < first || middle > last) FAIL("gettimeofday is not between two clock_gettime");
    // time() reads the coarse clock: up to a tick (10 ms) behind.
    int64_t seconds = time(NULL);
    CHECK(seconds >= first / 1000000 - 1 && seconds <= RawNs(CLOCK_REALTIME) / 1000000000);
    unsigned cpu = ~0u, node = ~0u;
    CHECK_OK(getcpu(&cpu, &node));
    CHECK(cpu < (unsigned)sysconf(_SC_NPROCESSORS_CONF));
    CHECK(node < 1024);
  }
}

int main(void) {
  CHECK(getauxval(AT_SYSINFO_EHDR) != 0);
  CHECK(memcmp((void*)getauxval(AT_SYSINFO_EHDR), "\177ELF", 4) == 0);
  CheckAll();
  Say("agree");
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = StartThread(Monotonic, NULL);
  SleepMs(1);
  GuestSnapshot();  // threads are in the vDSO: none may be caught there
  for (int i = 0; i < kThreads; i++) JoinThread(threads[i]);
  CheckAll();
  Say("monotonic");
  struct timespec resolution;
  CHECK_OK(clock_getres(CLOCK_MONOTONIC, &resolution));
  CHECK_EQ(resolution.tv_sec, 0);
  CHECK_EQ(resolution.tv_nsec, 1);
  CHECK_ERRNO(clock_gettime(12345, &resolution), EINVAL);
  int64_t first = NowNs(CLOCK_PROCESS_CPUTIME_ID), thread = NowNs(CLOCK_THREAD_CPUTIME_ID);
  int64_t end = NowNs(CLOCK_MONOTONIC) + 30000000;
  while (NowNs(CLOCK_MONOTONIC) < end) {
  }
  CHECK(NowNs(CLOCK_PROCESS_CPUTIME_ID) > first);
  CHECK(NowNs(CLOCK_THREAD_CPUTIME_ID) > thread);
  Say("others");
  return 0;
}
