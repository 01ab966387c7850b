#include "km/syscalls/proc_path.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <thread>

#include "absl/strings/str_cat.h"

namespace km {
namespace {

bool May(const std::string& text) {
  HostPath path;
  path.path = text;
  return MayLeadToProc(path);
}

bool MayFrom(const std::string& directory, const std::string& text) {
  auto description = std::make_shared<FileDescription>();
  description->path = directory;
  HostPath path;
  path.path = text;
  path.directory = std::make_shared<OpenFile>(OwnedFd(), std::move(description));
  return MayLeadToProc(path);
}

TEST(MayLeadToProc, LooksAtAbsolutePaths) {
  EXPECT_TRUE(May("/proc/self/maps"));
  EXPECT_TRUE(May("//proc/self"));
  EXPECT_TRUE(May("/proc"));
  EXPECT_TRUE(May("/dev/stdin"));
  EXPECT_TRUE(May("/dev/fd/3"));
  EXPECT_FALSE(May("/device"));
  EXPECT_FALSE(May("/procfs/self/mem"));
  EXPECT_FALSE(May("/"));
  EXPECT_FALSE(May("///"));
  EXPECT_FALSE(May(""));
  EXPECT_FALSE(May("/etc/proc"));
  EXPECT_FALSE(May("proc/self"));
}

TEST(MayLeadToProc, LooksAtTheDirectoryOfARelativePath) {
  EXPECT_TRUE(MayFrom("/proc", "self/maps"));
  EXPECT_TRUE(MayFrom("/proc/self/fd", "3"));
  EXPECT_FALSE(MayFrom("/procfs", "self/maps"));
  EXPECT_FALSE(MayFrom("/tmp", "self/maps"));
  EXPECT_FALSE(MayFrom("/proc", ""));
}

int Judge(const std::string& path) {
  OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return fd.valid() ? JudgeProcFile(fd.get()) : 1;
}

TEST(JudgeProcFile, TellsTheMonitorFromOthers) {
  EXPECT_EQ(Judge("/dev/null"), 0);
  EXPECT_EQ(Judge("/proc"), 0);
  EXPECT_EQ(Judge("/proc/meminfo"), 0);
  EXPECT_EQ(Judge("/proc/1/stat"), 0);
  EXPECT_EQ(Judge("/proc/self/maps"), -ELOOP);
  EXPECT_EQ(Judge("/proc/self"), -ELOOP);
  EXPECT_EQ(Judge(absl::StrCat("/proc/self/task/", gettid(), "/mem")), -ELOOP);
}

// The file of a thread that has ended still leads to the memory that the thread had.
TEST(JudgeProcFile, KnowsNothingOfAThreadThatEnded) {
  std::promise<pid_t> started;
  std::promise<void> finish;
  std::thread thread([&] {
    started.set_value(gettid());
    finish.get_future().wait();
  });
  const std::string directory = absl::StrCat("/proc/", started.get_future().get());
  OwnedFd memory(open((directory + "/mem").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(memory.valid());
  EXPECT_EQ(JudgeProcFile(memory.get()), -ELOOP);
  finish.set_value();
  thread.join();
  while (access(directory.c_str(), F_OK) == 0) usleep(1000);  // joined is not gone yet
  EXPECT_EQ(JudgeProcFile(memory.get()), -ESRCH);
}

// The writer of a live snapshot is a copy of the monitor; another child is the program's.
TEST(JudgeProcFile, KnowsTheWriterOfASnapshot) {
  for (const int exit_signal : {0, SIGCHLD}) {
    const auto child = static_cast<pid_t>(syscall(SYS_clone, exit_signal, 0, 0, 0, 0));
    if (child == 0) {
      pause();
      _exit(0);
    }
    ASSERT_GT(child, 0);
    EXPECT_EQ(Judge(absl::StrCat("/proc/", child, "/stat")), exit_signal == 0 ? -ELOOP : 0);
    kill(child, SIGKILL);
    EXPECT_EQ(waitpid(child, nullptr, __WALL), child);
  }
}

// Below a root where procfs stands twice: 77 when this may not be made here.
[[noreturn]] void JudgeElsewhere(const std::string& root) {
  const std::string proc = root + "/proc", other = root + "/procfs";
  const bool made = unshare(CLONE_NEWNS) == 0 &&
                    mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                    mkdir(proc.c_str(), 0755) == 0 && mkdir(other.c_str(), 0755) == 0 &&
                    mount("/proc", proc.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0 &&
                    mount("/proc", other.c_str(), nullptr, MS_BIND | MS_REC, nullptr) == 0 &&
                    chroot(root.c_str()) == 0;
  if (!made) _exit(77);
  const std::string name = absl::StrCat("/", getpid(), "/mem");
  _exit(Judge("/proc" + name) == -ELOOP && Judge("/procfs" + name) == -EACCES ? 0 : 1);
}

TEST(JudgeProcFile, RefusesAProcfsInAnotherPlace) {
  std::string root = testing::TempDir() + "/judge-XXXXXX";
  ASSERT_NE(mkdtemp(root.data()), nullptr);
  const pid_t child = fork();
  if (child == 0) JudgeElsewhere(root);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  std::filesystem::remove_all(root);
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no mounts may be made here";
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace km
