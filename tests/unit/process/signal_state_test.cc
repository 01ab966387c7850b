#include "km/process/signal_state.h"

#include <signal.h>

#include <optional>

#include "gtest/gtest.h"
#include "km/signals/siginfo.h"

namespace km {
namespace {

constexpr uint32_t kMain = 10, kThread = 11, kOther = 12;

siginfo_t Sent(int sig) { return SenderSiginfo(sig, SI_USER, 1, 0); }

SignalAction Handler(uint64_t address) {
  SignalAction action;
  action.handler = address;
  return action;
}

// A program with two threads, and a process beside it.
class SignalStateTest : public testing::Test {
 protected:
  SignalStateTest() {
    state_.SetQueueLimit(100);
    EXPECT_EQ(state_.SetAction(SIGUSR1, Handler(0x1000)), 0);
    state_.AddThread(kMain, SignalBit(SIGUSR2));
    state_.AddThread(kThread, 0);
    state_.AddThread(kOther, 0, SignalState::Owner::kProcess);
  }

  SignalState state_;
};

TEST_F(SignalStateTest, WhatIsSentToTheProgramGoesToTheOldestThreadThatTakesIt) {
  EXPECT_EQ(state_.SendToProcess(Sent(SIGUSR1)).interrupt_tid, kMain);
  EXPECT_EQ(state_.SendToProcess(Sent(SIGUSR2)).interrupt_tid, kThread);
}

TEST_F(SignalStateTest, AThreadThatOthersLookAtMayHaveEnded) {
  EXPECT_EQ(state_.SendToThread(kMain, Sent(SIGUSR2)).error, 0);
  const std::optional<SignalState::ThreadSets> sets = state_.SetsOf(kMain);
  ASSERT_TRUE(sets.has_value());
  EXPECT_EQ(sets->pending, SignalBit(SIGUSR2));
  EXPECT_EQ(sets->mask, SignalBit(SIGUSR2));
  state_.RemoveThread(kMain);
  EXPECT_FALSE(state_.SetsOf(kMain).has_value());
}

TEST_F(SignalStateTest, OneThatIsPreferredComesBeforeTheOldest) {
  EXPECT_EQ(state_.SendToProcess(Sent(SIGUSR1), kThread).interrupt_tid, kThread);
  EXPECT_EQ(state_.SendTimer(0, Sent(SIGUSR1), kThread).interrupt_tid, kThread);
  state_.SetMask(kThread, SignalBit(SIGUSR1));
  EXPECT_EQ(state_.SendToProcess(Sent(SIGUSR1), kThread).interrupt_tid, kMain);
  // Nothing of the program's goes to a process beside it, or to one that has ended.
  EXPECT_EQ(state_.SendToProcess(Sent(SIGUSR1), kOther).interrupt_tid, kMain);
  EXPECT_EQ(state_.SendToProcess(Sent(SIGUSR1), 99).interrupt_tid, kMain);
}

TEST_F(SignalStateTest, WhetherWhatIsIgnoredIsKeptTheOldestThreadDecides) {
  const SignalSet set = SignalBit(SIGWINCH);
  state_.SetMask(kThread, set);
  EXPECT_TRUE(state_.SendToProcess(Sent(SIGWINCH)).dropped);
  state_.SetMask(kThread, 0);
  // It waits for it; also where it does not block it otherwise.
  EXPECT_FALSE(state_.Wait(kMain, set).has_value());
  EXPECT_EQ(state_.SendToProcess(Sent(SIGWINCH)).interrupt_tid, kMain);
  EXPECT_TRUE(state_.Wait(kMain, set).has_value());
  state_.SetMask(kMain, set);
  EXPECT_FALSE(state_.SendToProcess(Sent(SIGWINCH)).dropped);
  EXPECT_EQ(state_.Pending(kMain), set);
  // The oldest that is left.
  EXPECT_TRUE(state_.Wait(kMain, set).has_value());
  state_.RemoveThread(kMain);
  EXPECT_TRUE(state_.SendToProcess(Sent(SIGWINCH)).dropped);
}

TEST_F(SignalStateTest, AProcessBesideItTakesNothingThatIsSentToTheProgram) {
  state_.SetMask(kMain, ~SignalSet{0});
  state_.SetMask(kThread, ~SignalSet{0});
  EXPECT_EQ(state_.SendToProcess(Sent(SIGUSR1)).interrupt_tid, 0);
  EXPECT_FALSE(state_.HasDeliverable(kOther));
  EXPECT_EQ(state_.Pending(kOther), 0);
  EXPECT_TRUE(state_.Candidates().empty());
  EXPECT_FALSE(state_.Next(kOther).has_value());
  EXPECT_FALSE(state_.Wait(kOther, SignalBit(SIGUSR1)).has_value());
  EXPECT_EQ(state_.Pending(kMain), SignalBit(SIGUSR1));
}

TEST_F(SignalStateTest, AProcessBesideItHasActionsOfItsOwn) {
  EXPECT_EQ(state_.Action(SIGUSR1, kOther).handler, 0x1000);
  EXPECT_EQ(state_.SetAction(SIGUSR1, Handler(0x2000), kOther), 0);
  EXPECT_EQ(state_.Action(SIGUSR1, kThread).handler, 0x1000);
  EXPECT_EQ(state_.SendToThread(kOther, Sent(SIGUSR1)).interrupt_tid, kOther);
  EXPECT_EQ(state_.Next(kOther)->action.handler, 0x2000);
  // A fault that is ignored is fatal to it alone.
  EXPECT_EQ(state_.SetAction(SIGSEGV, Handler(0x3000)), 0);
  state_.SetMask(kOther, SignalBit(SIGSEGV));
  state_.Force(kOther, Sent(SIGSEGV));
  EXPECT_TRUE(state_.Next(kOther)->action.is_default());
  EXPECT_EQ(state_.Action(SIGSEGV).handler, 0x3000);
}

TEST_F(SignalStateTest, WhatItIgnoresStaysPendingForTheProgram) {
  const SignalSet mask = SignalBit(SIGUSR1);
  for (const uint32_t tid : {kMain, kThread, kOther}) state_.SetMask(tid, mask);
  EXPECT_EQ(state_.SendToProcess(Sent(SIGUSR1)).error, 0);
  EXPECT_EQ(state_.SendToThread(kOther, Sent(SIGUSR1)).error, 0);
  EXPECT_EQ(state_.SetAction(SIGUSR1, Handler(1), kOther), 0);
  EXPECT_EQ(state_.Pending(kOther), 0);
  EXPECT_EQ(state_.Pending(kThread), mask);
  EXPECT_EQ(state_.SetAction(SIGUSR1, Handler(1)), 0);
  EXPECT_EQ(state_.Pending(kThread), 0);
}

}  // namespace
}  // namespace km
