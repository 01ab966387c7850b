// What the program has used: of the process, of a thread, in ticks. Never less than before.
#include <sys/resource.h>
#include <sys/times.h>

#include "tests/guest/guest.h"

static int64_t Us(struct timeval time) { return time.tv_sec * 1000000ll + time.tv_usec; }

static int64_t Used(int who) {
  struct rusage usage;
  CHECK_OK(getrusage(who, &usage));
  return Us(usage.ru_utime) + Us(usage.ru_stime);
}

static void Burn(int64_t us) {
  int64_t end = Used(RUSAGE_THREAD) + us;
  volatile uint64_t sum = 0;
  while (Used(RUSAGE_THREAD) < end) {
    for (int i = 0; i < 100000; i++) sum += (uint64_t)i;
  }
}

static void* Fresh(void* unused) {
  // A thread begins at nothing, whoever ran before.
  CHECK(Used(RUSAGE_THREAD) < 50000);
  Burn(60000);
  return unused;
}

int main(void) {
  // Of this the monitor's start is no part.
  struct rusage usage;
  CHECK_OK(getrusage(RUSAGE_SELF, &usage));
  CHECK(Us(usage.ru_utime) < 1000000);
  int64_t last = 0;
  for (int i = 0; i < 2000; i++) {
    int64_t now = Used(RUSAGE_SELF);
    CHECK(now >= last);
    last = now;
  }
  int64_t before = Used(RUSAGE_SELF), thread_before = Used(RUSAGE_THREAD);
  struct tms ticks_before, ticks;
  CHECK(times(&ticks_before) != (clock_t)-1);
  for (int i = 0; i < 3; i++) JoinThread(StartThread(Fresh, NULL));
  CHECK(Used(RUSAGE_SELF) - before >= 180000);
  CHECK(Used(RUSAGE_THREAD) - thread_before < 100000);
  CHECK(times(&ticks) != (clock_t)-1);
  CHECK(ticks.tms_utime + ticks.tms_stime - ticks_before.tms_utime - ticks_before.tms_stime >= 16);
  CHECK_EQ(ticks.tms_cutime, 0);
  CHECK_EQ(Used(RUSAGE_CHILDREN), 0);
  CHECK_OK(getrusage(RUSAGE_SELF, &usage));
  CHECK(usage.ru_maxrss > 100);
  CHECK(times(NULL) != (clock_t)-1);
  CHECK_ERRNO(getrusage(7, &usage), EINVAL);
  CHECK_ERRNO(getrusage(RUSAGE_SELF, (void*)8), EFAULT);
  CHECK_ERRNO(syscall(SYS_times, 8), EFAULT);
  Say("used");

  // Limits of oneself, by any of its own ids.
  struct rlimit old, now;
  CHECK_OK(prlimit(0, RLIMIT_FSIZE, NULL, &old));
  CHECK_OK(prlimit(getpid(), RLIMIT_FSIZE, &(struct rlimit){100000, old.rlim_max}, NULL));
  CHECK_OK(getrlimit(RLIMIT_FSIZE, &now));
  CHECK_EQ(now.rlim_cur, 100000);
  CHECK_ERRNO(prlimit(0, RLIMIT_FSIZE, &(struct rlimit){2, 1}, NULL), EINVAL);
  CHECK_ERRNO(prlimit(0, RLIM_NLIMITS, NULL, &now), EINVAL);
  CHECK_ERRNO(prlimit(0x7ffffff0, RLIMIT_FSIZE, NULL, &now), ESRCH);
  CHECK_ERRNO(prlimit(-1, RLIMIT_FSIZE, NULL, &now), ESRCH);
  CHECK_ERRNO(prlimit(0, RLIMIT_FSIZE, (struct rlimit*)8, NULL), EFAULT);
  for (int i = 0; i < RLIM_NLIMITS; i++) {
    CHECK_OK(prlimit(getpid(), i, NULL, &now));
    CHECK(now.rlim_cur <= now.rlim_max);
    // Down is allowed to everybody.
    CHECK_OK(prlimit(0, i, &now, &old));
    CHECK_EQ(old.rlim_max, now.rlim_max);
  }
  Say("limits");
  return 0;
}
