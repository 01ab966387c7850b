// Files without a name that are saved, closed and restored.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <km/notes.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/files/resumed_files.h"

namespace km {
namespace {

struct stat Status(int fd) {
  struct stat status = {};
  EXPECT_EQ(fstat(fd, &status), 0);
  return status;
}

// Deleted, open as `flags` say.
int Deleted(int flags) {
  std::string path = testing::TempDir() + "unnamed-XXXXXX";
  const int made = mkstemp(path.data());
  EXPECT_EQ(write(made, "bytes", 5), 5);
  const int fd = open(path.c_str(), flags | O_CLOEXEC);
  EXPECT_EQ(unlink(path.c_str()), 0);
  EXPECT_EQ(close(made), 0);
  return fd;
}

TEST(UnnamedFile, KeepsItsModeAndOwner) {
  constexpr mode_t kModes[] = {0640, 04755, 0};
  constexpr uid_t kUser = 12, kGroup = 34;
  const bool root = geteuid() == 0;
  ResumedFiles files;
  const int descriptors[] = {Deleted(O_RDWR), memfd_create("mode", MFD_CLOEXEC), Deleted(O_RDONLY)};
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(root ? fchown(descriptors[i], kUser, kGroup) : 0, 0);
    ASSERT_EQ(fchmod(descriptors[i], kModes[i]), 0);
    files.Put(i + 10, descriptors[i]);
  }
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(files.Resume().ok());
    for (int i = 0; i < 3; ++i) {
      const struct stat status = Status(files.Host(i + 10));
      EXPECT_EQ(status.st_mode & 07777, kModes[i]);
      EXPECT_EQ(status.st_uid, root ? kUser : geteuid());
      EXPECT_EQ(status.st_gid, root ? kGroup : getegid());
    }
    char bytes[8] = "";
    EXPECT_EQ(pread(files.Host(10), bytes, sizeof(bytes), 0), 5);
    EXPECT_STREQ(bytes, "bytes");
  }
}

TEST(ResumedFiles, AreAboveALimitThatWasLowered) {
  ResumedFiles files;
  files.Put(100, Deleted(O_RDWR));
  files.limit = 10;
  ASSERT_EQ(files.Resume(), absl::OkStatus());
  EXPECT_EQ(write(files.Host(100), "x", 1), 1);
}

constexpr unsigned kNoExecSeal = 0x8, kExec = 0x10;  // MFD_NOEXEC_SEAL, MFD_EXEC
constexpr int kSealExec = 0x20;                      // F_SEAL_EXEC

// What comes back is sealed as it was, no more and no less.
TEST(UnnamedFile, KeepsTheSealOfExecution) {
  ResumedFiles files;
  const int plain = memfd_create("plain", MFD_CLOEXEC | kNoExecSeal);
  if (plain < 0) GTEST_SKIP() << "the kernel has no MFD_NOEXEC_SEAL";
  files.Put(10, plain);
  const int executable = memfd_create("program", MFD_CLOEXEC | MFD_ALLOW_SEALING | kExec);
  ASSERT_EQ(fcntl(executable, F_ADD_SEALS, kSealExec), 0);
  files.Put(11, executable);
  const int all = fcntl(executable, F_GET_SEALS);
  for (int round = 0; round < 2; ++round) {
    ASSERT_EQ(files.Resume(), absl::OkStatus());
    EXPECT_EQ(fcntl(files.Host(10), F_GET_SEALS), kSealExec);
    EXPECT_EQ(Status(files.Host(10)).st_mode & 0777, 0666);
    EXPECT_EQ(pwrite(files.Host(10), "x", 1, round), 1);
    EXPECT_EQ(fcntl(files.Host(11), F_GET_SEALS), all);
    EXPECT_EQ(Status(files.Host(11)).st_mode & 0777, 0777);
  }
}

// Files that say nothing of the mode.
TEST(UnnamedFile, KeepsTheSealOfExecutionOfOlderFiles) {
  const MemoryObject object = {KM_OBJECT_BASE, 1, KM_OBJECT_MEMFD, kSealExec, "older"};
  absl::StatusOr<OwnedFd> made = MakeMemoryObject(object);
  ASSERT_TRUE(made.ok());
  if (SealMemoryObject(object, made->get()) != absl::OkStatus()) GTEST_SKIP() << "no F_SEAL_EXEC";
  EXPECT_EQ(fcntl(made->get(), F_GET_SEALS), kSealExec);
}

TEST(UnnamedFile, IsMappedUnderItsSeals) {
  const MemoryObject object = {KM_OBJECT_BASE, 4096, KM_OBJECT_MEMFD, F_SEAL_WRITE | F_SEAL_SEAL,
                               "still"};
  absl::StatusOr<OwnedFd> made = MakeMemoryObject(object, 0640);
  ASSERT_TRUE(made.ok());
  ASSERT_EQ(pwrite(made->get(), "bytes", 5, 0), 5);
  ASSERT_TRUE(SealedBeforeMapped(object));
  ASSERT_EQ(SealMemoryObject(object, made->get()), absl::OkStatus());
  const OwnedFd reading(
      open(absl::StrCat("/proc/self/fd/", made->get()).c_str(), O_RDONLY | O_CLOEXEC));
  const OwnedMapping mapped(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, reading.get(), 0), 4096);
  ASSERT_TRUE(mapped.valid());
  EXPECT_EQ(SealMemoryObject(object, made->get()), absl::OkStatus());
  // It can be saved again.
  ResumedFiles files;
  files.Put(10, fcntl(made->get(), F_DUPFD_CLOEXEC, 3));
  EXPECT_EQ(files.Resume(), absl::OkStatus());
  EXPECT_EQ(fcntl(files.Host(10), F_GET_SEALS), F_SEAL_WRITE | F_SEAL_SEAL);
}

// How another process sees `fd` locked.
short LockSeenByAnother(int fd) {
  const pid_t child = fork();
  if (child == 0) {
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    _exit(fcntl(fd, F_GETLK, &lock) == 0 ? lock.l_type : 100);
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return static_cast<short>(WEXITSTATUS(status));
}

TEST(UnnamedFile, ASnapshotDropsNoLocks) {
  FdTable table(100);
  const int host = Deleted(O_WRONLY);
  const int number = table.Add(host, FileKind::kRegular, "", false);
  table.Get(static_cast<uint64_t>(number))->description->may_hold_locks = true;
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_len = 10;
  ASSERT_EQ(fcntl(host, F_SETLK, &lock), 0);
  ASSERT_EQ(LockSeenByAnother(host), F_WRLCK);
  FileSaver saver(table, 1 << 20, false);
  std::vector<std::string> obstacles;
  saver.SaveAll(&obstacles);
  EXPECT_TRUE(obstacles.empty());
  EXPECT_EQ(LockSeenByAnother(host), F_WRLCK);
  ASSERT_EQ(saver.locks.size(), 1u);
  EXPECT_EQ(saver.locks[0].length, 10);
  const std::vector<FileSaver::SavedObject> objects = saver.TakeObjects();
  ASSERT_EQ(objects.size(), 1u);
  EXPECT_EQ(std::memcmp(objects[0].bytes.data(), "bytes", 5), 0);
  EXPECT_EQ(objects[0].data.size(), 1u);
}

}  // namespace
}  // namespace km
