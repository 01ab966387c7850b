// RLIMIT_CPU binds the process at the same point of its processor time, across a snapshot too.
//
// emulated: no, it goes by the kernel's ticks
#include <sys/resource.h>

#include "tests/guest/guest.h"

static const int64_t kSecond = 1000000000;
// What the limit counts: the clock of ITIMER_PROF, which goes by ticks.
static const clockid_t kTicks = -8;

static atomic_bool told;
static int64_t told_at;

static void OnLimit(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  told_at = NowNs(kTicks);
  atomic_store(&told, true);
}

static void Burn(int64_t until) {
  while (!atomic_load(&told) && NowNs(kTicks) < until) {
  }
}

int main(void) {
  OnSignal(SIGXCPU, OnLimit, 0);
  const int64_t limit = NowNs(kTicks) / kSecond + 5;
  struct rlimit now, wanted = {(rlim_t)limit, RLIM_INFINITY};
  CHECK_OK(getrlimit(RLIMIT_CPU, &now));
  wanted.rlim_max = now.rlim_max;
  CHECK_OK(setrlimit(RLIMIT_CPU, &wanted));
  Burn((limit - 1) * kSecond);
  CHECK(!atomic_load(&told));
  GuestSnapshot();
  CHECK_OK(getrlimit(RLIMIT_CPU, &now));
  CHECK_EQ(now.rlim_cur, limit);
  Burn((limit + 3) * kSecond);
  CHECK(atomic_load(&told));
  CHECK(told_at >= limit * kSecond - kSecond / 10 && told_at < (limit + 2) * kSecond);
  Say("at its limit");
  return 0;
}
