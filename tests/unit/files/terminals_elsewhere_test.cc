#include "km/files/terminals_elsewhere.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "km/base/owned.h"

namespace km {
namespace {

TEST(TerminalsElsewhere, AnotherProcessHasIt) {
  const OwnedFd master(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_EQ(unlockpt(master.get()), 0);
  const OwnedFd slave(ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  struct stat status;
  ASSERT_EQ(fstat(slave.get(), &status), 0);
  const std::pair<dev_t, ino_t> key(status.st_dev, status.st_ino);
  EXPECT_FALSE(TerminalsElsewhere().contains(key));
  const pid_t child = fork();
  if (child == 0) {
    while (true) pause();
  }
  EXPECT_TRUE(TerminalsElsewhere().contains(key));
  kill(child, SIGKILL);
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_FALSE(TerminalsElsewhere().contains(key));
}

}  // namespace
}  // namespace km
