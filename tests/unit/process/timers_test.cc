#include "km/process/timers.h"

#include <pthread.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <optional>
#include <thread>

#include "gtest/gtest.h"
#include "km/process/clock.h"

namespace km {
namespace {

constexpr int64_t kMs = 1000000;
constexpr uint32_t kMain = 10, kWorker = 11;
constexpr ClockRef kMonotonic = {CLOCK_MONOTONIC, 0, 0};

// With the host's signals blocked, as the monitor has them.
class TimersTest : public testing::Test {
 protected:
  TimersTest() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
    signals_.SetQueueLimit(100);
    signals_.AddThread(kMain, ~SignalSet{0});
    signals_.AddThread(kWorker, 0);
    SignalAction handler;
    handler.handler = 0x1000;
    for (const int sig : {SIGALRM, SIGPROF}) EXPECT_EQ(signals_.SetAction(sig, handler), 0);
  }
  ~TimersTest() override {
    while (TakeHostSignal(0).has_value()) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

  // One that the host has pending for this process, other than those of a debugger or a runner.
  static std::optional<siginfo_t> TakeHostSignal(int64_t patience_ns) {
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, SIGINT);
    sigdelset(&all, SIGTERM);
    const timespec patience = ToTimespec(patience_ns);
    siginfo_t info;
    return sigtimedwait(&all, &info, &patience) > 0 ? std::optional(info) : std::nullopt;
  }

  // Serves the hint of one expiry. The thread that it is for.
  uint32_t ServeHint() {
    const std::optional<siginfo_t> info = TakeHostSignal(60000 * kMs);
    int id = 0;
    return info.has_value() && Timers::IsHint(*info, &id) ? timers_.Expired(id) : 0;
  }

  std::optional<siginfo_t> TakeAlarm() {
    std::optional<siginfo_t> info = signals_.Wait(kMain, SignalBit(SIGALRM));
    if (info.has_value()) timers_.SignalTaken(&*info);
    return info;
  }

  sigset_t before_;
  SignalState signals_;
  GuestClock clock_;
  Timers timers_{&signals_, &clock_};
};

TEST_F(TimersTest, WhatOthersSendIsNotMergedIntoAHint) {
  TimerSetting old;
  ASSERT_EQ(timers_.SetItimer(ITIMER_REAL, kMonotonic, {1, 0}, &old), 0);
  usleep(20000);
  ASSERT_EQ(kill(getpid(), SIGALRM), 0);
  int hints = 0, sent = 0;
  while (const std::optional<siginfo_t> info = TakeHostSignal(0)) {
    int id = 0;
    hints += Timers::IsHint(*info, &id) ? 1 : 0;
    sent += info->si_signo == SIGALRM && info->si_code == SI_USER ? 1 : 0;
  }
  EXPECT_EQ(hints, 1);
  EXPECT_EQ(sent, 1);
}

TEST_F(TimersTest, AnyAlarmThatIsTakenSetsTheIntervalTimerGoing) {
  signals_.SetMask(kWorker, ~SignalSet{0});
  const int once = timers_.Create(CLOCK_MONOTONIC, kMonotonic, std::nullopt);
  ASSERT_GE(once, 0);
  TimerSetting old;
  ASSERT_EQ(timers_.Set(once, false, {1, 0}, &old), 0);
  ServeHint();
  ASSERT_EQ(timers_.SetItimer(ITIMER_REAL, kMonotonic, {1, kMs}, &old), 0);
  ServeHint();
  std::optional<siginfo_t> info = TakeAlarm();
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->si_code, SI_TIMER);
  EXPECT_FALSE(TakeAlarm().has_value());  // the second was merged into it
  for (int i = 0; i < 3; ++i) {
    ServeHint();
    info = TakeAlarm();
    ASSERT_TRUE(info.has_value());
    EXPECT_EQ(info->si_code, SI_KERNEL);
  }
  ASSERT_EQ(timers_.SetItimer(ITIMER_REAL, kMonotonic, {0, 0}, &old), 0);
}

TEST_F(TimersTest, EachHasItsPlaceInTheQueueOfSignalsAlsoWithoutOne) {
  const TimerNotice none = {SIGEV_NONE, 0, 0, 0};
  signals_.SetQueueLimit(3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(timers_.Create(CLOCK_MONOTONIC, kMonotonic, none), i);
  }
  EXPECT_EQ(timers_.Create(CLOCK_MONOTONIC, kMonotonic, none), -EAGAIN);
  EXPECT_EQ(timers_.Create(CLOCK_MONOTONIC, kMonotonic, std::nullopt), -EAGAIN);
  EXPECT_EQ(timers_.Delete(1), 0);
  EXPECT_EQ(timers_.Create(CLOCK_MONOTONIC, kMonotonic, none), 3);
}

TEST_F(TimersTest, TimeOfTheProcessRunsOutForWhoSpendsIt) {
  // Long beside what this thread spends on each, on an emulated processor too.
  constexpr TimerSetting kPeriod = {100 * kMs, 100 * kMs};
  signals_.SetMask(kMain, 0);
  timers_.ThreadStarted(kMain, gettid(), {});
  std::atomic<bool> stop = false;
  std::atomic<int> started = 0;
  std::thread worker([&] {
    timers_.ThreadStarted(kWorker, gettid(), {});
    started.store(1);
    while (!stop.load()) {
    }
  });
  while (started.load() == 0) usleep(1000);
  const ClockRef spent = {CLOCK_PROCESS_CPUTIME_ID, 0, 0};
  TimerSetting old;
  ASSERT_EQ(timers_.SetItimer(ITIMER_PROF, spent, kPeriod, &old), 0);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(ServeHint(), kWorker);
  // Who blocks it is not told.
  signals_.SetMask(kWorker, ~SignalSet{0});
  signals_.SetMask(kMain, 0);
  EXPECT_EQ(ServeHint(), kMain);
  ASSERT_EQ(timers_.SetItimer(ITIMER_PROF, spent, {0, 0}, &old), 0);
  const int timer = timers_.Create(CLOCK_PROCESS_CPUTIME_ID, spent, std::nullopt);
  ASSERT_GE(timer, 0);
  signals_.SetMask(kWorker, 0);
  ASSERT_EQ(timers_.Set(timer, false, {kPeriod.value, 0}, &old), 0);
  EXPECT_EQ(ServeHint(), kWorker);
  stop.store(true);
  worker.join();
}

}  // namespace
}  // namespace km
