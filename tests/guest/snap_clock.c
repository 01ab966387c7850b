// CLOCK_MONOTONIC and CLOCK_BOOTTIME over a snapshot: they go on from its value, and the time the
// process did not exist is not seen; CLOCK_REALTIME is the host's. sysinfo(2) says CLOCK_BOOTTIME,
// in seconds that have begun.
#include <sys/sysinfo.h>

#include "tests/guest/guest.h"

enum { kGapMs = 5000 };

static int64_t RawNs(clockid_t clock) {
  struct timespec now;
  CHECK_OK(syscall(SYS_clock_gettime, clock, &now));
  return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void CheckUptime(void) {
  struct sysinfo info;
  int64_t before = RawNs(CLOCK_BOOTTIME);
  CHECK_OK(sysinfo(&info));
  int64_t after = RawNs(CLOCK_BOOTTIME);
  CHECK(info.uptime >= (before + 999999999) / 1000000000);
  CHECK(info.uptime <= (after + 999999999) / 1000000000);
}

int main(void) {
  clockid_t clocks[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE,
                        CLOCK_BOOTTIME};
  for (int round = 0; round < 3; round++) {
    int64_t before[4], real = NowNs(CLOCK_REALTIME);
    for (int i = 0; i < 4; i++) before[i] = NowNs(clocks[i]);
    int resumed = GuestSnapshot();
    for (int i = 0; i < 4; i++) {
      int64_t raw = RawNs(clocks[i]), now = NowNs(clocks[i]), raw_after = RawNs(clocks[i]);
      if (now < before[i]) {
        FAIL("clock %d went back by %lld ns over a snapshot", clocks[i],
             (long long)(before[i] - now));
      }
      if (now - before[i] > kGapMs * 1000000ll) {
        FAIL("clock %d jumped by %lld ns over a snapshot", clocks[i], (long long)(now - before[i]));
      }
      if (now < raw || now > raw_after) {
        FAIL("clock %d: %lld by the vDSO is not between %lld and %lld by system calls", clocks[i],
             (long long)now, (long long)raw, (long long)raw_after);
      }
    }
    CheckUptime();
    CHECK(resumed == 0 || resumed == 1);
    CHECK(NowNs(CLOCK_REALTIME) > real - 1000000000);
    SleepMs(30);
    Say("round %d", round);
  }
  return 0;
}
