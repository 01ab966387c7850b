// variants: static
// After MAP_FIXED over a page, the other threads' writes reach the new page at once: a write
// through an old translation would be lost.
#include "tests/guest/stale.h"

static uint8_t* page;
static _Atomic unsigned wanted, written;
static atomic_bool stop;

// Writes the number asked for, then says so.
static void* Writer(void* unused) {
  (void)unused;
  unsigned last = 0;
  while (!atomic_load(&stop)) {
    unsigned now = atomic_load(&wanted);
    *(volatile unsigned*)(page + 8) = last;  // keeps the translation warm
    if (now == last) continue;
    *(volatile unsigned*)page = now;
    last = now;
    atomic_store(&written, now);
  }
  return NULL;
}

int main(void) {
  page = MapAnonymous(kPage, PROT_READ | PROT_WRITE);
  pthread_t writer = StartThread(Writer, NULL);
  int64_t end = NowNs(CLOCK_MONOTONIC) + kMaxMs * 1000000ll;
  for (unsigned round = 1; round <= kMaxRounds; round++) {
    CHECK_OK(mmap(page, kPage, PROT_READ | PROT_WRITE,
                  MAP_ANONYMOUS | MAP_FIXED | (round % 2 == 0 ? MAP_SHARED : MAP_PRIVATE), -1, 0));
    CHECK_EQ(*(volatile unsigned*)page, 0);
    if (round == kSnapshotRound) GuestSnapshot();
    atomic_store(&wanted, round);
    for (unsigned spins = 1; atomic_load(&written) != round; spins++) {
      __builtin_ia32_pause();
      if (spins % 4096 == 0) sched_yield();
    }
    unsigned got = *(volatile unsigned*)page;
    if (got != round)
      FAIL("round %u: the other thread's write is lost: the page holds %u", round, got);
    if (round > kSnapshotRound && NowNs(CLOCK_MONOTONIC) > end) break;
  }
  atomic_store(&stop, true);
  JoinThread(writer);
  Say("no write lost");
  return 0;
}
