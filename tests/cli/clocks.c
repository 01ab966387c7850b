// clocks COUNT: asks each of the clocks that the vDSO serves so often. Prints "right", or what went
// backwards or failed.
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static int64_t ask(clockid_t clock) {
  struct timespec now;
  return clock_gettime(clock, &now) == 0 ? now.tv_sec * INT64_C(1000000000) + now.tv_nsec : -1;
}

int main(int argc, char **argv) {
  static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_REALTIME_COARSE,
                                     CLOCK_MONOTONIC_COARSE};
  int64_t last[4] = {0};
  const int count = argc > 1 ? atoi(argv[1]) : 1;
  for (int i = 0; i < count; ++i) {
    for (int j = 0; j < 4; ++j) {
      const int64_t now = ask(clocks[j]);
      if (now < last[j]) return printf("clock %d went backwards\n", clocks[j]);
      last[j] = now;
    }
    struct timeval of_day;
    unsigned cpu, node;
    if (gettimeofday(&of_day, NULL) != 0 || getcpu(&cpu, &node) != 0) return puts("failed");
    const int64_t behind = last[0] / 1000000000 - time(NULL);
    if (llabs(of_day.tv_sec - last[0] / 1000000000) > 1 || llabs(behind) > 1) {
      return puts("clocks do not agree");
    }
  }
  puts("right");
  return 0;
}
