// Sleeps take as long as they should: nanosleep, clock_nanosleep relative and absolute, poll,
// select.
#include <poll.h>
#include <sys/select.h>

#include "tests/guest/guest.h"

static int64_t started;

static void Begin(void) { started = NowNs(CLOCK_MONOTONIC); }
static void End(const char* what, long ms) {
  int64_t elapsed = NowNs(CLOCK_MONOTONIC) - started;
  if (elapsed < ms * 1000000) FAIL("%s of %ld ms took only %lld ns", what, ms, (long long)elapsed);
  if (elapsed > 10000000000) FAIL("%s of %ld ms took %lld ns", what, ms, (long long)elapsed);
}

int main(void) {
  struct timespec time = TimespecMs(40);
  Begin();
  CHECK_OK(nanosleep(&time, NULL));
  End("nanosleep", 40);
  int clocks[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME};
  for (int i = 0; i < 3; i++) {
    Begin();
    CHECK_ZERO(clock_nanosleep(clocks[i], 0, &time, NULL));
    End("clock_nanosleep", clocks[i] == CLOCK_REALTIME ? 35 : 40);
    int64_t end = NowNs(clocks[i]) + 40000000;
    struct timespec absolute = {end / 1000000000, end % 1000000000};
    CHECK_ZERO(clock_nanosleep(clocks[i], TIMER_ABSTIME, &absolute, NULL));
    if (NowNs(clocks[i]) < end) FAIL("absolute sleep on clock %d ended too early", clocks[i]);
    absolute.tv_sec -= 5;
    CHECK_ZERO(clock_nanosleep(clocks[i], TIMER_ABSTIME, &absolute, NULL));
  }
  Say("sleep");
  GuestSnapshot();
  Begin();
  CHECK_EQ(poll(NULL, 0, 40), 0);
  End("poll", 40);
  Begin();
  CHECK_EQ(select(0, NULL, NULL, NULL, &(struct timeval){.tv_usec = 40000}), 0);
  End("select", 40);
  Begin();
  CHECK_EQ(ppoll(NULL, 0, &time, NULL), 0);
  End("ppoll", 40);
  Say("poll");
  struct timespec bad = {.tv_nsec = 1000000000}, negative = {.tv_sec = -1};
  CHECK_ERRNO(nanosleep(&bad, NULL), EINVAL);
  CHECK_ERRNO(nanosleep(&negative, NULL), EINVAL);
  CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, 0, &bad, NULL), EINVAL);
  CHECK_EQ(clock_nanosleep(999, 0, &time, NULL), EINVAL);
  CHECK_OK(nanosleep(&(struct timespec){0}, NULL));
  Say("errors");
  return 0;
}
