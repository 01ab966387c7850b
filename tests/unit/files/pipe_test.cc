// Pipes that are saved, closed and restored.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <string>

#include "tests/unit/files/resumed_files.h"

namespace km {
namespace {

constexpr int kReading = 10, kWriting = 11;

constexpr int kPage = 4096;
constexpr int kUntestable = 77;

// Pipes of a user who, when the snapshot is taken and resumed, has used up the pages that a user's
// pipes may have (/proc/sys/fs/pipe-user-pages-soft): new ones have two, and cannot have more.
class PoorUser {
 public:
  PoorUser() {
    constexpr uid_t kNobodyElse = 54321;
    if (setresuid(kNobodyElse, kNobodyElse, kNobodyElse) != 0) _exit(kUntestable);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0 || fcntl(ends[0], F_GETPIPE_SZ) < 4 * kPage) _exit(kUntestable);
    files_.Put(kReading, ends[0]);
    files_.Put(kWriting, ends[1]);
    UsePagesUp();
  }

  void Write(const std::string& bytes) const {
    const auto size = static_cast<ssize_t>(bytes.size());
    if (write(files_.Host(kWriting), bytes.data(), bytes.size()) != size) _exit(kUntestable);
  }
  absl::Status Resume() { return files_.Resume(); }
  std::string Read() const {
    std::string bytes(1 << 20, '\0');
    const ssize_t size = read(files_.Host(kReading), bytes.data(), bytes.size());
    bytes.resize(static_cast<size_t>(std::max<ssize_t>(size, 0)));
    return bytes;
  }

 private:
  static void UsePagesUp() {
    constexpr int kMost = 100;
    for (int i = 0; i < kMost; ++i) {
      int ends[2];
      if (pipe2(ends, O_CLOEXEC) != 0) _exit(kUntestable);
      if (fcntl(ends[0], F_GETPIPE_SZ) == 2 * kPage) return;
      (void)fcntl(ends[0], F_SETPIPE_SZ, 1 << 20);
    }
    _exit(kUntestable);  // the limit is higher here
  }

  ResumedFiles files_;
};

void ResumeSmallAndExit() {
  PoorUser user;
  user.Write("what is in it");
  const absl::Status status = user.Resume();
  if (!status.ok()) std::cerr << status;
  _exit(status.ok() && user.Read() == "what is in it" ? 0 : 1);
}

void RefuseLargeAndExit() {
  PoorUser user;
  user.Write(std::string(4 * kPage, 'x'));
  std::cerr << user.Resume().message();
  _exit(user.Read() == std::string(4 * kPage, 'x') ? 0 : 1);
}

bool Tested(int status) {
  return WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == kUntestable);
}

TEST(Pipe, OfAUserWhoMayHaveNoMoreRoom) {
  if (geteuid() != 0) GTEST_SKIP() << "only root becomes another user";
  EXPECT_EXIT(ResumeSmallAndExit(), Tested, "it has 8192");
  EXPECT_EXIT(RefuseLargeAndExit(), Tested, "pipe-user-pages-soft");
}

}  // namespace
}  // namespace km
