#include "km/signals/actions.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace km {
namespace {

constexpr uint64_t kResetHand = 0x80000000;

TEST(SignalSet, BitsAreTheKernels) {
  EXPECT_EQ(SignalBit(1), 1u);
  EXPECT_EQ(SignalBit(64), uint64_t{1} << 63);
  EXPECT_TRUE(Contains(kUnblockable, SIGKILL));
  EXPECT_TRUE(Contains(kUnblockable, SIGSTOP));
  EXPECT_FALSE(Contains(kUnblockable, SIGTERM));
  EXPECT_FALSE(ValidSignal(0));
  EXPECT_FALSE(ValidSignal(65));
}

TEST(SignalActions, DefaultsAreThoseOfSignal7) {
  using enum DefaultActionKind;
  EXPECT_EQ(DefaultAction(SIGTERM), kTerminate);
  EXPECT_EQ(DefaultAction(SIGPIPE), kTerminate);
  EXPECT_EQ(DefaultAction(40), kTerminate);
  EXPECT_EQ(DefaultAction(64), kTerminate);
  for (int sig :
       {SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS, SIGSYS, SIGXCPU, SIGXFSZ}) {
    EXPECT_EQ(DefaultAction(sig), kCore) << sig;
  }
  for (int sig : {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU}) EXPECT_EQ(DefaultAction(sig), kStop) << sig;
  for (int sig : {SIGCHLD, SIGWINCH, SIGURG}) EXPECT_EQ(DefaultAction(sig), kIgnore) << sig;
  EXPECT_EQ(DefaultAction(SIGCONT), kContinue);
}

TEST(SignalActions, SetRefusesWhatTheKernelRefuses) {
  SignalActions actions;
  for (int sig : {0, -1, 65, SIGKILL, SIGSTOP}) EXPECT_EQ(actions.Set(sig, {}), -EINVAL) << sig;
  EXPECT_EQ(actions.Set(1, {}), 0);
  EXPECT_EQ(actions.Set(64, {}), 0);
}

TEST(SignalActions, SetDropsUnknownFlagsAndUnblockableSignals) {
  SignalActions actions;
  SignalAction action = {.handler = 0x1000, .flags = ~uint64_t{0}, .restorer = 7, .mask = ~0ull};
  ASSERT_EQ(actions.Set(SIGUSR1, action), 0);
  EXPECT_EQ(actions.Get(SIGUSR1).flags, 0xdc000807u);
  EXPECT_EQ(actions.Get(SIGUSR1).mask, ~kUnblockable);
  EXPECT_EQ(actions.Get(SIGUSR1).restorer, 7u);
}

TEST(SignalActions, Ignored) {
  SignalActions actions;
  EXPECT_TRUE(actions.Ignored(SIGCHLD));
  EXPECT_TRUE(actions.Ignored(SIGCONT));
  EXPECT_FALSE(actions.Ignored(SIGTERM));
  EXPECT_FALSE(actions.Ignored(SIGTSTP));
  ASSERT_EQ(actions.Set(SIGTERM, {.handler = 1}), 0);
  EXPECT_TRUE(actions.Ignored(SIGTERM));
  ASSERT_EQ(actions.Set(SIGCHLD, {.handler = 0x1000}), 0);
  EXPECT_FALSE(actions.Ignored(SIGCHLD));
}

TEST(SignalActions, ResetHandTakesEffectOnce) {
  SignalActions actions;
  SignalAction action = {.handler = 0x1000, .flags = kResetHand | SA_SIGINFO};
  ASSERT_EQ(actions.Set(SIGUSR1, action), 0);
  EXPECT_EQ(actions.TakeForDelivery(SIGUSR1).handler, 0x1000u);
  EXPECT_TRUE(actions.Get(SIGUSR1).is_default());
  EXPECT_EQ(actions.Get(SIGUSR1).flags, action.flags);
  ASSERT_EQ(actions.Set(SIGUSR2, {.handler = 0x2000}), 0);
  actions.TakeForDelivery(SIGUSR2);
  EXPECT_EQ(actions.Get(SIGUSR2).handler, 0x2000u);
}

TEST(SignalActions, ExecKeepsOnlyIgnored) {
  SignalActions actions;
  ASSERT_EQ(actions.Set(SIGUSR1, {.handler = 0x1000, .flags = SA_RESTART, .mask = 3}), 0);
  ASSERT_EQ(actions.Set(SIGUSR2, {.handler = 1, .flags = SA_RESTART, .mask = 3}), 0);
  actions.ResetForExec();
  EXPECT_TRUE(actions.Get(SIGUSR1).is_default());
  EXPECT_TRUE(actions.Get(SIGUSR2).is_ignore());
  EXPECT_EQ(actions.Get(SIGUSR1).mask, 0u);
  EXPECT_EQ(actions.Get(SIGUSR2).flags, 0u);
}

TEST(SignalActions, BlockedByHandler) {
  EXPECT_EQ(BlockedByHandler({.mask = SignalBit(5)}, 10), SignalBit(5) | SignalBit(10));
  EXPECT_EQ(BlockedByHandler({.flags = SA_NODEFER, .mask = SignalBit(5)}, 10), SignalBit(5));
}

}  // namespace
}  // namespace km
