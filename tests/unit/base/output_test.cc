#include "km/base/output.h"

#include <gtest/gtest.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "km/base/log.h"

namespace km {
namespace {

// With SIGPIPE blocked, as the monitor has it.
class Output : public testing::Test {
 protected:
  Output() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &set, &before_);
    EXPECT_EQ(pipe(ends_), 0);
  }
  ~Output() override {
    close(ends_[1]);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  static bool Pending() {
    sigset_t pending;
    return sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE) == 1;
  }

  int ends_[2] = {-1, -1};
  sigset_t before_;
};

TEST_F(Output, GoesOutInOnePiece) {
  WriteOutput(ends_[1], "text");
  char text[8] = {};
  EXPECT_EQ(read(ends_[0], text, sizeof(text)), 4);
  EXPECT_STREQ(text, "text");
  close(ends_[0]);
}

TEST_F(Output, LeavesNoSignalWhereNobodyReads) {
  close(ends_[0]);
  WriteOutput(ends_[1], "text");
  EXPECT_FALSE(Pending());
}

TEST_F(Output, OfAMessageNeither) {
  close(ends_[0]);
  const int standard_error = dup(STDERR_FILENO);
  ASSERT_EQ(dup2(ends_[1], STDERR_FILENO), STDERR_FILENO);
  Log(LogLevel::kError, "text");
  ASSERT_EQ(dup2(standard_error, STDERR_FILENO), STDERR_FILENO);
  close(standard_error);
  EXPECT_FALSE(Pending());
}

TEST_F(Output, LeavesWhatSomebodyElseHasSent) {
  close(ends_[0]);
  const pid_t parent = getpid(), child = fork();
  if (child == 0) _exit(kill(parent, SIGPIPE));
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_TRUE(Pending());
  WriteOutput(ends_[1], "text");
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  siginfo_t info;
  ASSERT_EQ(sigwaitinfo(&set, &info), SIGPIPE);
  EXPECT_EQ(info.si_pid, child);
  EXPECT_FALSE(Pending());
}

}  // namespace
}  // namespace km
