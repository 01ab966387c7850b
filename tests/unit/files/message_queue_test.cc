// POSIX message queues that are saved, closed and restored, by several processes at once too.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <mqueue.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/files/resumed_files.h"

namespace km {
namespace {

constexpr int kNumber = 10, kOther = 11, kRounds = 30, kClones = 4;

class MessageQueue : public testing::Test {
 protected:
  MessageQueue() : name_(absl::StrCat("/km-unit-", getpid())) {}
  ~MessageQueue() override { mq_unlink(name_.c_str()); }

  void SetUp() override {
    if (mq_unlink(name_.c_str()) != 0 && errno == ENOSYS) GTEST_SKIP() << "the kernel has none";
  }
  // New, with the name.
  std::shared_ptr<OpenFile> Make() const {
    mq_attr attributes = {};
    attributes.mq_maxmsg = attributes.mq_msgsize = 1;
    const mqd_t made =
        mq_open(name_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attributes);
    EXPECT_GE(made, 0);
    return OpenFile::Of(made, FileKind::kMessageQueue, name_);
  }

  const std::string name_;
};

TEST_F(MessageQueue, ARemovedOneTakesNoName) {
  ResumedFiles files;
  files.Put(kNumber, Make());
  ASSERT_EQ(mq_unlink(name_.c_str()), 0);
  files.Put(kOther, Make());
  files.meanwhile = [this] { mq_unlink(name_.c_str()); };
  ASSERT_EQ(files.Resume(), absl::OkStatus());
  struct stat removed, named;
  ASSERT_EQ(fstat(files.Host(kNumber), &removed), 0);
  ASSERT_EQ(fstat(files.Host(kOther), &named), 0);
  EXPECT_NE(removed.st_ino, named.st_ino);
  EXPECT_EQ(removed.st_nlink, 0u);
  EXPECT_EQ(files.Description(kNumber).path, name_ + " (deleted)");
  EXPECT_EQ(files.Description(kOther).path, name_);
}

// A resume that begins when `go` is closed.
void ResumeAndExit(ResumedFiles& files, int ready, int go) {
  files.meanwhile = [ready, go] {
    char byte = 0;
    if (write(ready, &byte, 1) != 1 || read(go, &byte, 1) != 0) _exit(2);
  };
  const absl::Status status = files.Resume();
  if (!status.ok()) std::cerr << status << "\n";
  _exit(status.ok() ? 0 : 1);
}

// Of several that find no queue one makes it, and the others use that.
TEST_F(MessageQueue, ClonesMakeOne) {
  for (int round = 0; round < kRounds; ++round) {
    ResumedFiles files;
    files.Put(kNumber, Make());
    int ready[2], go[2];
    ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
    ASSERT_EQ(pipe2(go, O_CLOEXEC), 0);
    std::vector<pid_t> clones;
    for (int i = 0; i < kClones; ++i) {
      clones.push_back(fork());
      if (clones.back() != 0) continue;
      close(go[1]);
      ResumeAndExit(files, ready[1], go[0]);
    }
    char byte;
    for (int i = 0; i < kClones; ++i) ASSERT_EQ(read(ready[0], &byte, 1), 1);
    ASSERT_EQ(mq_unlink(name_.c_str()), 0);
    for (int end : {ready[0], ready[1], go[0], go[1]}) close(end);
    for (const pid_t clone : clones) {
      int status = 0;
      ASSERT_EQ(waitpid(clone, &status, 0), clone);
      ASSERT_EQ(status, 0);
    }
    mq_unlink(name_.c_str());
  }
}

}  // namespace
}  // namespace km
