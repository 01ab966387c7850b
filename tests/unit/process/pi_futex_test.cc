#include "km/process/pi_futex.h"

#include <linux/futex.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <thread>

#include "tests/unit/memory/machine.h"

namespace km {
namespace {

constexpr GuestAddr kWord(0x20000), kCondition(0x20040);
// The program's ids are not the host's.
constexpr uint32_t kFirst = 0x1000001, kSecond = 0x1000002;

// Guest threads without a vCPU: the futexes, and memory that holds the words.
class PiFutexTest : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    words_ = reinterpret_cast<std::atomic<uint32_t>*>(MapHost(kWord.value(), kPageSize));
    futexes_.ThreadStarted(kFirst, gettid());
  }
  void TearDown() override { EXPECT_EQ(futexes_.size(), 0u); }

  uint32_t word() const { return words_->load(); }
  int64_t Lock(Thread& thread) {
    return futexes_.Lock(thread, *memory_, kWord, FUTEX_LOCK_PI, nullptr);
  }
  int64_t Unlock(Thread& thread) { return futexes_.Unlock(thread, *memory_, kWord); }
  int64_t Wait(Thread& thread) {
    return futexes_.WaitRequeue(thread, *memory_, {kCondition, kWord, 0, false, nullptr});
  }
  void AwaitWaiter(GuestAddr word) {
    while (!futexes_.AnyWaiter(word)) usleep(1000);
  }
  // `work` in the second guest thread, on a host thread of its own, until its end.
  std::thread Second(std::function<void(Thread&)> work) {
    return std::thread([this, work = std::move(work)] {
      Thread thread(kSecond);
      futexes_.ThreadStarted(kSecond, gettid());
      work(thread);
      futexes_.ThreadEnded(thread, *memory_);
    });
  }

  FaultRepair repair_;
  std::atomic<uint32_t>* words_ = nullptr;
  PiFutexes futexes_;
  Thread first_{kFirst};
};

TEST_F(PiFutexTest, TheWordHasTheProgramsIds) {
  ASSERT_EQ(Lock(first_), 0);
  EXPECT_EQ(word(), kFirst);
  EXPECT_EQ(futexes_.size(), 0u);
  std::thread second = Second([this](Thread& thread) {
    EXPECT_EQ(Lock(thread), 0);
    EXPECT_EQ(word(), kSecond | FUTEX_WAITERS);
    EXPECT_EQ(Unlock(thread), 0);
  });
  AwaitWaiter(kWord);
  EXPECT_EQ(word(), kFirst | FUTEX_WAITERS);
  EXPECT_EQ(Unlock(first_), 0);
  second.join();
  EXPECT_EQ(word(), 0u);
}

TEST_F(PiFutexTest, AnEndedOwnerIsNoOwner) {
  std::thread second = Second([this](Thread& thread) {
    EXPECT_EQ(Lock(thread), 0);
    AwaitWaiter(kWord);
  });
  while (word() == 0) usleep(1000);
  EXPECT_EQ(Lock(first_), 0);
  EXPECT_EQ(word(), kFirst | FUTEX_WAITERS | FUTEX_OWNER_DIED);
  second.join();
  words_->store(kSecond);
  EXPECT_EQ(Lock(first_), -ESRCH);
}

TEST_F(PiFutexTest, AnInterruptedCallLeavesNothing) {
  words_->store(kSecond);
  std::atomic<bool> done = false;
  std::thread second = Second([&done](Thread&) {
    while (!done.load()) usleep(1000);
  });
  first_.attention.store(1);
  int64_t result = -ESRCH;
  while (result == -ESRCH) result = Lock(first_);  // until the second one is there
  EXPECT_EQ(result, kRestartAlways);
  EXPECT_EQ(futexes_.size(), 0u);
  EXPECT_EQ(Wait(first_), kRestartAlways);
  EXPECT_EQ(futexes_.size(), 0u);
  done.store(true);
  second.join();
}

TEST_F(PiFutexTest, AWordThatIsGoneIsHandedOverNevertheless) {
  ASSERT_EQ(Lock(first_), 0);
  std::thread second = Second([this](Thread& thread) { EXPECT_EQ(Lock(thread), -EFAULT); });
  AwaitWaiter(kWord);
  usleep(20000);  // until it is at the shadow
  mprotect(words_, kPageSize, PROT_READ);
  EXPECT_EQ(Unlock(first_), -EFAULT);
  second.join();
}

TEST_F(PiFutexTest, TheMovedOwnWhatTheyWereMovedTo) {
  std::thread second = Second([this](Thread& thread) {
    EXPECT_EQ(Wait(thread), 0);
    EXPECT_EQ(word() & FUTEX_TID_MASK, kSecond);
    EXPECT_EQ(Unlock(thread), 0);
  });
  AwaitWaiter(kCondition);
  EXPECT_EQ(futexes_.Requeue(*memory_, kCondition, kWord, 0, 1), -EAGAIN);
  EXPECT_EQ(futexes_.Requeue(*memory_, kCondition, kCondition, 0, 0), -EINVAL);
  // At its word or still on its way to it: it is counted, and comes back with the futex.
  EXPECT_EQ(futexes_.Requeue(*memory_, kCondition, kWord, 0, 0), 1);
  EXPECT_FALSE(futexes_.AnyWaiter(kCondition));
  second.join();
}

}  // namespace
}  // namespace km
