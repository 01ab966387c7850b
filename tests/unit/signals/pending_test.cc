#include "km/signals/pending.h"

#include <gtest/gtest.h>

#include <cstring>

#include "km/signals/siginfo.h"

namespace km {
namespace {

constexpr size_t kRoom = 100;
constexpr SignalSet kAll = ~SignalSet{0};

siginfo_t Queued(int sig, int value, int code = SI_QUEUE) {
  siginfo_t info = SenderSiginfo(sig, code, 1, 2);
  info.si_value.sival_int = value;
  return info;
}

TEST(PendingSignals, EmptyHasNothing) {
  PendingSignals pending;
  EXPECT_EQ(pending.set(), 0u);
  EXPECT_FALSE(pending.Next(kAll).has_value());
  EXPECT_TRUE(pending.All().empty());
}

TEST(PendingSignals, StandardSignalIsKeptOnce) {
  PendingSignals pending;
  EXPECT_TRUE(pending.Add(Queued(SIGUSR1, 1), kRoom));
  EXPECT_TRUE(pending.Add(Queued(SIGUSR1, 2), kRoom));
  EXPECT_EQ(pending.size(), 1u);
  EXPECT_EQ(pending.Next(kAll)->si_value.sival_int, 1);
  EXPECT_EQ(pending.set(), 0u);
  EXPECT_EQ(pending.size(), 0u);
}

TEST(PendingSignals, RealTimeSignalsQueueInOrderWithTheirData) {
  PendingSignals pending;
  for (int value : {1, 2, 3}) EXPECT_TRUE(pending.Add(Queued(40, value), kRoom));
  EXPECT_TRUE(pending.Add(Queued(39, 9), kRoom));
  EXPECT_EQ(pending.size(), 4u);
  EXPECT_EQ(pending.Next(kAll)->si_value.sival_int, 9);
  for (int value : {1, 2, 3}) {
    EXPECT_EQ(pending.set(), SignalBit(40));
    siginfo_t info = *pending.Next(kAll);
    EXPECT_EQ(info.si_value.sival_int, value);
    EXPECT_EQ(info.si_pid, 1);
    EXPECT_EQ(info.si_uid, 2u);
  }
  EXPECT_EQ(pending.set(), 0u);
}

TEST(PendingSignals, FirstAndLastSignal) {
  PendingSignals pending;
  EXPECT_TRUE(pending.Add(Queued(1, 0), kRoom));
  EXPECT_TRUE(pending.Add(Queued(64, 0), kRoom));
  EXPECT_EQ(pending.set(), SignalBit(1) | SignalBit(64));
  EXPECT_EQ(pending.Next(kAll)->si_signo, 1);
  EXPECT_EQ(pending.Next(kAll)->si_signo, 64);
}

TEST(PendingSignals, LowestNumberFirstAmongAllowed) {
  PendingSignals pending;
  for (int sig : {SIGTERM, SIGHUP, SIGUSR1}) EXPECT_TRUE(pending.Add(Queued(sig, 0), kRoom));
  EXPECT_FALSE(pending.Next(SignalBit(SIGINT)).has_value());
  EXPECT_EQ(pending.Next(~SignalBit(SIGHUP))->si_signo, SIGUSR1);
  EXPECT_EQ(pending.Next(kAll)->si_signo, SIGHUP);
  EXPECT_EQ(pending.Next(kAll)->si_signo, SIGTERM);
}

TEST(PendingSignals, SynchronousBeforeAllElse) {
  PendingSignals pending;
  EXPECT_TRUE(pending.Add(Queued(SIGHUP, 0), kRoom));
  EXPECT_TRUE(pending.Add(SenderSiginfo(SIGBUS, SI_USER, 1, 1), kRoom));
  EXPECT_TRUE(pending.Add(FaultSiginfo(SIGSEGV, SEGV_MAPERR, 0x123), kRoom));
  // SIGBUS has the lower number, but it was sent, and SIGSEGV is what the processor raised.
  EXPECT_EQ(pending.Next(kAll)->si_signo, SIGSEGV);
  EXPECT_EQ(pending.Next(kAll)->si_signo, SIGBUS);
  EXPECT_EQ(pending.Next(kAll)->si_signo, SIGHUP);
}

TEST(PendingSignals, WithoutRoomSigqueueFailsAndKillLosesItsInfo) {
  PendingSignals pending;
  EXPECT_FALSE(pending.Add(Queued(40, 1), 0));
  EXPECT_FALSE(pending.Add(Queued(40, 1, SI_TKILL), 0));
  EXPECT_EQ(pending.set(), 0u);
  EXPECT_TRUE(pending.Add(SenderSiginfo(40, SI_USER, 7, 8), 0));
  EXPECT_TRUE(pending.Add(Queued(SIGUSR1, 5), 0));
  EXPECT_EQ(pending.size(), 0u);
  EXPECT_EQ(pending.set(), SignalBit(40) | SignalBit(SIGUSR1));
  ASSERT_EQ(pending.All().size(), 2u);
  EXPECT_EQ(pending.Next(kAll)->si_signo, SIGUSR1);
  siginfo_t info = *pending.Next(kAll);
  EXPECT_EQ(info.si_signo, 40);
  EXPECT_EQ(info.si_code, SI_USER);
  EXPECT_EQ(info.si_pid, 0);
  EXPECT_EQ(pending.set(), 0u);
}

TEST(PendingSignals, FaultsAndKillNeedNoRoom) {
  PendingSignals pending;
  EXPECT_TRUE(pending.Add(FaultSiginfo(SIGSEGV, SEGV_MAPERR, 0x123), 0));
  EXPECT_TRUE(pending.Add(SenderSiginfo(SIGTERM, SI_USER, 7, 8), 0));
  EXPECT_EQ(pending.Next(kAll)->si_addr, reinterpret_cast<void*>(0x123));
  EXPECT_EQ(pending.Next(kAll)->si_pid, 7);
}

TEST(PendingSignals, DiscardForgetsBitsAndEntries) {
  PendingSignals pending;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(pending.Add(Queued(40, i), kRoom));
  EXPECT_TRUE(pending.Add(Queued(SIGTSTP, 0), kRoom));
  EXPECT_TRUE(pending.Add(Queued(SIGUSR2, 0), 0));
  EXPECT_TRUE(pending.Add(Queued(SIGCONT, 0), kRoom));
  pending.Discard(kStopping | SignalBit(40) | SignalBit(SIGUSR2));
  EXPECT_EQ(pending.set(), SignalBit(SIGCONT));
  EXPECT_EQ(pending.size(), 1u);
}

TEST(PendingSignals, AllRestoresAnEqualQueue) {
  PendingSignals pending;
  for (int value : {3, 1, 2}) EXPECT_TRUE(pending.Add(Queued(41, value), kRoom));
  EXPECT_TRUE(pending.Add(Queued(SIGUSR1, 8), kRoom));
  EXPECT_TRUE(pending.Add(Queued(SIGUSR2, 8), 0));
  PendingSignals copy;
  for (const siginfo_t& info : pending.All()) EXPECT_TRUE(copy.Add(info, ~size_t{0}));
  while (pending.set() != 0) {
    siginfo_t expected = *pending.Next(kAll);
    std::optional<siginfo_t> found = copy.Next(kAll);
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(memcmp(&expected, &*found, sizeof(expected)), 0);
  }
  EXPECT_EQ(copy.set(), 0u);
}

TEST(PendingSignals, TimersAreNeverMergedNorRefused) {
  PendingSignals pending;
  siginfo_t info = SenderSiginfo(SIGUSR1, SI_USER, 1, 2);
  ASSERT_TRUE(pending.Add(info, 1));
  info = {};
  info.si_signo = SIGUSR1;
  info.si_code = SI_TIMER;
  for (int timer : {3, 4}) {
    info.si_timerid = timer;
    pending.AddAlways(info);
  }
  EXPECT_EQ(pending.size(), 3u);
  EXPECT_TRUE(pending.HasTimer(SIGUSR1, 3));
  EXPECT_FALSE(pending.HasTimer(SIGUSR2, 3));
  pending.DiscardTimer(SIGUSR1, 3);
  EXPECT_FALSE(pending.HasTimer(SIGUSR1, 3));
  EXPECT_EQ(pending.Next(kAll)->si_code, SI_USER);
  EXPECT_EQ(pending.Next(kAll)->si_timerid, 4);
  EXPECT_FALSE(pending.Next(kAll).has_value());
  pending.AddAlways(info);
  pending.DiscardTimer(SIGUSR1, 4);
  EXPECT_EQ(pending.set(), 0u);
  EXPECT_EQ(pending.size(), 0u);
}

}  // namespace
}  // namespace km
