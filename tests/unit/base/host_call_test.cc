#include "km/base/host_call.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "km/base/owned.h"

namespace km {
namespace {

std::atomic<uint32_t> kick_flag{0};

class HostCallTest : public testing::Test {
 protected:
  HostCallTest() {
    kick_flag = 0;
    struct sigaction action = {};
    action.sa_sigaction = [](int, siginfo_t*, void* context) {
      AbortHostCall(static_cast<ucontext_t*>(context));
    };
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR2, &action, &old_);
    int fds[2] = {-1, -1};
    EXPECT_EQ(pipe(fds), 0);
    read_end_ = OwnedFd(fds[0]);
    write_end_ = OwnedFd(fds[1]);
  }
  ~HostCallTest() override { sigaction(SIGUSR2, &old_, nullptr); }

  static void Kick(pthread_t thread) {
    kick_flag = 1;
    pthread_kill(thread, SIGUSR2);
  }
  int64_t Read(char* byte) {
    return HostCall(&kick_flag, SYS_read, static_cast<uint64_t>(read_end_.get()),
                    reinterpret_cast<uint64_t>(byte), 1);
  }

  struct sigaction old_ = {};
  OwnedFd read_end_, write_end_;
};

TEST_F(HostCallTest, ResultsAndErrors) {
  EXPECT_EQ(HostCall(&kick_flag, SYS_getpid), getpid());
  EXPECT_EQ(HostCall(&kick_flag, SYS_close, ~uint64_t{0}), -EBADF);
}

TEST_F(HostCallTest, AllSixArguments) {
  OwnedMapping page(reinterpret_cast<void*>(HostCall(&kick_flag, SYS_mmap, 0, 4096, PROT_READ,
                                                     MAP_PRIVATE | MAP_ANONYMOUS, ~uint64_t{0}, 0)),
                    4096);
  EXPECT_TRUE(page.valid());
}

TEST_F(HostCallTest, FlagKeepsTheCallFromBeingMade) {
  ASSERT_EQ(write(write_end_.get(), "x", 1), 1);
  kick_flag = 1;
  char byte = 0;
  EXPECT_EQ(Read(&byte), kKickedBefore);
  kick_flag = 0;
  EXPECT_EQ(Read(&byte), 1);
  EXPECT_EQ(byte, 'x');
}

TEST_F(HostCallTest, KickEndsABlockedCall) {
  pthread_t self = pthread_self();
  std::thread kicker([self] {
    usleep(10000);
    Kick(self);
  });
  char byte = 0;
  EXPECT_EQ(Read(&byte), kKicked);
  kicker.join();
}

// Kicks at every moment around the call: none may leave it blocked, and no byte may be lost.
TEST_F(HostCallTest, NoKickAndNoByteIsLost) {
  constexpr int kRounds = 3000;
  pthread_t self = pthread_self();
  std::atomic<int> round{0};
  std::thread kicker([&] {
    for (int i = 1; i <= kRounds; ++i) {
      while (round.load() < i) sched_yield();
      for (std::atomic<int> spin = 0; spin < i % 97; ++spin) continue;
      if (i % 3 == 0) {
        EXPECT_EQ(write(write_end_.get(), "x", 1), 1);
      }
      Kick(self);
      while (kick_flag.load() != 0) sched_yield();
    }
  });
  int received = 0;
  for (int i = 1; i <= kRounds; ++i) {
    round = i;
    char byte = 0;
    int64_t result;
    do {
      result = Read(&byte);
      received += result == 1 ? 1 : 0;
    } while (result == 1);
    EXPECT_TRUE(WasKicked(result));
    while (kick_flag.load() == 0) sched_yield();
    kick_flag = 0;
  }
  kicker.join();
  int left = 0;
  EXPECT_EQ(write(write_end_.get(), "y", 1), 1);
  for (char byte = 0; byte != 'y'; ++left) ASSERT_EQ(read(read_end_.get(), &byte, 1), 1);
  EXPECT_EQ(received + left - 1, kRounds / 3);
}

// What a program that was to be told of a signal must not do: wait all the same.
TEST_F(HostCallTest, WouldWaitTellsOfTheFile) {
  auto fd = [](const OwnedFd& file) { return static_cast<uint64_t>(file.get()); };
  EXPECT_TRUE(WouldWait(SYS_read, fd(read_end_), 1, 0));
  EXPECT_FALSE(WouldWait(SYS_write, fd(write_end_), 1, 0));
  EXPECT_FALSE(WouldWait(SYS_fsync, fd(read_end_), 1, 0));
  EXPECT_FALSE(WouldWait(SYS_read, ~uint64_t{0}, 1, 0));
  EXPECT_TRUE(WouldWait(SYS_recvfrom, fd(read_end_), 1, 0));
  EXPECT_FALSE(WouldWait(SYS_recvfrom, fd(read_end_), 1, MSG_DONTWAIT));
  ASSERT_EQ(fcntl(read_end_.get(), F_SETFL, O_NONBLOCK), 0);
  EXPECT_FALSE(WouldWait(SYS_read, fd(read_end_), 1, 0));
  ASSERT_EQ(fcntl(read_end_.get(), F_SETFL, 0), 0);
  ASSERT_EQ(write(write_end_.get(), "x", 1), 1);
  EXPECT_FALSE(WouldWait(SYS_read, fd(read_end_), 1, 0));
}

}  // namespace
}  // namespace km
