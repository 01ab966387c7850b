// No stale translations: a thread hammers a page while the main thread takes a right away and gives
// it back. Once the call that changed it has returned, no access may see what was there before.
#ifndef TESTS_GUEST_STALE_H_
#define TESTS_GUEST_STALE_H_

#include "tests/guest/fault.h"

struct StaleRow {
  void (*grant)(unsigned round);    // brings about what granted() describes
  void (*revoke)(unsigned round);   // ends it
  long (*access)(void);             // one access: a value, or -1 after a fault
  long (*granted)(unsigned round);  // what access() has to give between grant and revoke
  long (*revoked)(unsigned round);  // and between revoke and the next grant
};

enum { kMaxRounds = 4000, kSnapshotRound = 100, kMaxMs = 2000 };

// epoch = 4 * round + {kGranted, kRevoking, kRevoked, kGranting}. While it stands at kGranted or
// kRevoked, what an access gives is certain; between them either result is right.
enum { kGranted, kRevoking, kRevoked, kGranting };
static _Atomic unsigned stale_epoch = kGranting;
static _Atomic unsigned stale_seen = kGranting;
static atomic_bool stale_stop;

static void CheckAccess(const struct StaleRow* row, unsigned epoch, long value, const char* who) {
  unsigned round = epoch / 4;
  bool granted = epoch % 4 == kGranted;
  long expected = granted ? row->granted(round) : row->revoked(round);
  if (value == expected) return;
  FAIL(
      "round %u, %s, after %s had returned: the access gave %ld, expected %ld (-1 is a fault; last "
      "fault: signal %d code %d address 0x%lx)",
      round, who, granted ? "grant" : "revoke", value, expected, last_fault.signal, last_fault.code,
      (unsigned long)last_fault.address);
}

static void* Hammer(void* argument) {
  const struct StaleRow* row = argument;
  while (!atomic_load(&stale_stop)) {
    unsigned epoch = atomic_load(&stale_epoch);
    long value = row->access();
    if (epoch % 2 != 0 || atomic_load(&stale_epoch) != epoch) continue;
    CheckAccess(row, epoch, value, "the hammering thread");
    atomic_store(&stale_seen, epoch);
  }
  return NULL;
}

// Enters a settled epoch and stays until the hammer has made a whole access in it.
static void Settle(const struct StaleRow* row, unsigned epoch) {
  atomic_store(&stale_epoch, epoch);
  CheckAccess(row, epoch, row->access(), "the thread that made the call");
  for (unsigned spins = 0; atomic_load(&stale_seen) != epoch; spins++) {
    __builtin_ia32_pause();
    if (spins % 4096 == 4095) sched_yield();
  }
}

__attribute__((unused)) static int RunStale(const struct StaleRow* row) {
  CatchFaults();
  pthread_t hammer = StartThread(Hammer, (void*)row);
  int64_t end = NowNs(CLOCK_MONOTONIC) + kMaxMs * 1000000ll;
  for (unsigned round = 1; round <= kMaxRounds; round++) {
    row->grant(round);
    Settle(row, 4 * round + kGranted);
    if (round == kSnapshotRound) GuestSnapshot();
    atomic_store(&stale_epoch, 4 * round + kRevoking);
    row->revoke(round);
    Settle(row, 4 * round + kRevoked);
    if (round == kSnapshotRound + 1) GuestSnapshot();
    atomic_store(&stale_epoch, 4 * round + kGranting);
    if (round > kSnapshotRound + 1 && NowNs(CLOCK_MONOTONIC) > end) break;
  }
  atomic_store(&stale_stop, true);
  JoinThread(hammer);
  Say("no stale translation");
  return 0;
}

#endif  // TESTS_GUEST_STALE_H_
