// The file as a file: holes, places, permissions, and what is left after an error.
#include "km/snapshot/writer.h"

#include <elf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "km/base/status.h"
#include "km/snapshot/checksum.h"
#include "km/snapshot/parser.h"
#include "tests/unit/snapshot/rich_image.h"

namespace km {
namespace {

using testing::HasSubstr;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kLarge = 2 << 20;

class Writer : public testing::Test {
 protected:
  absl::Status Write(const std::string& path) {
    return WriteSnapshot(image_, memory_.Source(), path, {.sync = false});
  }
  // Bytes on disk.
  static uint64_t Allocated(const std::string& path) {
    struct stat file = {};
    EXPECT_EQ(stat(path.c_str(), &file), 0);
    return static_cast<uint64_t>(file.st_blocks) * 512;
  }

  TestDirectory directory_;
  TestMemory memory_;
  Image image_ = RichImage(memory_);
};

TEST_F(Writer, ZeroPagesCostNothing) {
  const std::string path = directory_.File("kmsnap");
  const uint64_t start = TestMemory::kStart;
  image_.mappings = {{start, start + 8 * kLarge, 3, 0x22, "", 0}};
  image_.memory = {{start, 8 * kLarge, 0}};
  std::memset(memory_.At(start), 0, 8 * kLarge);
  memory_.Fill(start + 3 * kLarge + 5 * kPage, 3 * kPage, 1);
  memory_.At(start + 4 * kLarge - 1)[0] = 1;
  ASSERT_EQ(Write(path), absl::OkStatus());
  EXPECT_LE(Allocated(path), 64 * 1024u);
  const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const absl::StatusOr<Image> back = ParseSnapshot(fd.get());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->memory_checksums.size(), 8u);
  EXPECT_EQ(VerifyMemory(fd.get(), *back), absl::OkStatus());
  const std::vector<uint8_t> file = ReadFile(path);
  EXPECT_EQ(std::memcmp(file.data() + back->memory[0].file_offset, memory_.At(start), 8 * kLarge),
            0);
}

TEST_F(Writer, DamagedMemoryIsFound) {
  const std::string path = directory_.File("kmsnap");
  ASSERT_EQ(Write(path), absl::OkStatus());
  const absl::StatusOr<Image> back = ParseFile(path);
  ASSERT_TRUE(back.ok()) << back.status();
  const OwnedFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
  for (const ImageMemory& piece : back->memory) {
    const auto at = static_cast<off_t>(piece.file_offset + piece.size - 1);
    uint8_t byte = 0;
    ASSERT_EQ(pread(fd.get(), &byte, 1, at), 1);
    byte ^= 1;
    ASSERT_EQ(pwrite(fd.get(), &byte, 1, at), 1);
    EXPECT_THAT(std::string(VerifyMemory(fd.get(), *back).message()), HasSubstr("is damaged"));
    byte ^= 1;
    ASSERT_EQ(pwrite(fd.get(), &byte, 1, at), 1);
  }
  ASSERT_EQ(ftruncate(fd.get(), static_cast<off_t>(back->memory.back().file_offset)), 0);
  EXPECT_THAT(std::string(VerifyMemory(fd.get(), *back).message()), HasSubstr("ends at"));
}

TEST_F(Writer, ReplacesAFileAndKeepsItPrivate) {
  const std::string path = directory_.File("kmsnap");
  WriteFile(path, std::vector<uint8_t>{1, 2, 3});
  ASSERT_EQ(chmod(path.c_str(), 0644), 0);
  ASSERT_EQ(Write(path), absl::OkStatus());
  struct stat file = {};
  ASSERT_EQ(stat(path.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 07777, 0600u);
  EXPECT_EQ(directory_.Count(), 1u);
  EXPECT_TRUE(ParseFile(path).ok());
}

// The memory may be a mapping of the very file that is replaced.
TEST_F(Writer, TheOldFileLivesOnInItsMappings) {
  const std::string path = directory_.File("kmsnap");
  ASSERT_EQ(Write(path), absl::OkStatus());
  const OwnedFd old(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const absl::StatusOr<Image> before = ParseSnapshot(old.get());
  ASSERT_TRUE(before.ok());
  ASSERT_NE(mmap(memory_.At(TestMemory::kStart), 2 * kPage, PROT_READ, MAP_PRIVATE | MAP_FIXED,
                 old.get(), static_cast<off_t>(before->memory[0].file_offset)),
            MAP_FAILED);
  ASSERT_EQ(Write(path), absl::OkStatus());
  const absl::StatusOr<Image> after = ParseFile(path);
  ASSERT_TRUE(after.ok());
  EXPECT_EQ(after->memory_checksums, before->memory_checksums);
}

TEST_F(Writer, FollowsALink) {
  const std::string path = directory_.File("real"), link = directory_.File("link");
  WriteFile(path, std::vector<uint8_t>{1});
  ASSERT_EQ(symlink("real", link.c_str()), 0);
  ASSERT_EQ(Write(link), absl::OkStatus());
  EXPECT_TRUE(ParseFile(path).ok());
  struct stat file = {};
  ASSERT_EQ(lstat(link.c_str(), &file), 0);
  EXPECT_TRUE(S_ISLNK(file.st_mode));
}

// As the kernel's: others may have put the link there, in a directory of everybody's.
TEST_F(Writer, ACoreReplacesALink) {
  const std::string path = directory_.File("real"), link = directory_.File("core");
  WriteFile(path, std::vector<uint8_t>{1, 2, 3});
  ASSERT_EQ(symlink("real", link.c_str()), 0);
  image_.fatal_signal.emplace();
  ASSERT_EQ(Write(link), absl::OkStatus());
  EXPECT_EQ(ReadFile(path), (std::vector<uint8_t>{1, 2, 3}));
  struct stat file = {};
  ASSERT_EQ(lstat(link.c_str(), &file), 0);
  EXPECT_TRUE(S_ISREG(file.st_mode));
  EXPECT_EQ(directory_.Count(), 2u);
  ASSERT_EQ(unlink(link.c_str()), 0);
  ASSERT_EQ(mkdir(link.c_str(), 0700), 0);
  EXPECT_EQ(ErrnoOf(Write(link)), EISDIR);
  EXPECT_EQ(directory_.Count(), 2u);
}

TEST_F(Writer, ErrorsHaveTheirErrno) {
  absl::Status status = Write(directory_.File("missing/kmsnap"));
  EXPECT_EQ(ErrnoOf(status), ENOENT);
  EXPECT_THAT(std::string(status.message()), HasSubstr("missing/kmsnap"));
  EXPECT_EQ(ErrnoOf(Write(directory_.path())), EISDIR);
  EXPECT_EQ(ErrnoOf(Write("/dev/null")), EINVAL);
  EXPECT_EQ(ErrnoOf(Write("/proc/kmsnap")), ENOENT);
  WriteFile(directory_.File("file"), std::vector<uint8_t>{1});
  EXPECT_EQ(ErrnoOf(Write(directory_.File("file/kmsnap"))), ENOTDIR);
  EXPECT_EQ(ErrnoOf(WriteSnapshot(image_, memory_.Source(), directory_.File("x"),
                                  {.sync = false, .size_limit = 20000})),
            EFBIG);
  EXPECT_EQ(directory_.Count(), 1u);
}

TEST_F(Writer, AFailureLeavesTheOldFile) {
  const std::string path = directory_.File("kmsnap");
  WriteFile(path, std::vector<uint8_t>{1, 2, 3});
  // The memory's second piece is not there.
  ASSERT_EQ(munmap(memory_.At(TestMemory::kStart + 4 * kPage), kPage), 0);
  MemorySource source = memory_.Source();
  source.unreadable = {{TestMemory::kStart, TestMemory::kStart + 6 * kPage}};
  const absl::Status status = WriteSnapshot(image_, source, path, {.sync = false});
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(ReadFile(path), (std::vector<uint8_t>{1, 2, 3}));
  EXPECT_EQ(directory_.Count(), 1u);
  ASSERT_NE(mmap(memory_.At(TestMemory::kStart + 4 * kPage), kPage, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
            MAP_FAILED);
}

TEST_F(Writer, NoRoom) {
  const std::string path = directory_.File("kmsnap");
  WriteFile(path, std::vector<uint8_t>{1, 2, 3});
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {40000, 40000};
    setrlimit(RLIMIT_FSIZE, &limit);
    _exit(ErrnoOf(Write(path)));
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), EFBIG);
  EXPECT_EQ(ReadFile(path), (std::vector<uint8_t>{1, 2, 3}));
  EXPECT_EQ(directory_.Count(), 1u);
}

TEST_F(Writer, AnImageThatMakesNoSense) {
  const std::string path = directory_.File("kmsnap");
  const Image good = image_;
  image_.memory[1].address = TestMemory::kStart + 6 * kPage;
  EXPECT_FALSE(Write(path).ok());
  image_ = good;
  image_.mappings[1].start -= kPage;
  EXPECT_FALSE(Write(path).ok());
  image_ = good;
  image_.mappings[0].flags = MAP_SHARED;
  EXPECT_FALSE(Write(path).ok());
  image_ = good;
  image_.threads[0].tid = 0;
  EXPECT_FALSE(Write(path).ok());
  image_ = good;
  image_.mappings.clear();
  image_.memory.clear();
  for (uint64_t i = 0; i < 65001; ++i) {
    image_.mappings.push_back({(2 * i + 16) * kPage, (2 * i + 17) * kPage, 3, 0x22, "", 0});
  }
  EXPECT_EQ(ErrnoOf(Write(path)), ENOMEM);
  image_.mappings.pop_back();
  EXPECT_EQ(Write(path), absl::OkStatus());
  EXPECT_TRUE(ParseFile(path).ok());
}

TEST_F(Writer, ACoreDump) {
  const std::string path = directory_.File("core");
  image_.fatal_signal = SignalInfoBytes{11};
  ASSERT_EQ(Write(path), absl::OkStatus());
  EXPECT_THAT(std::string(ParseFile(path).status().message()),
              HasSubstr("a core dump, not a km snapshot"));
  const std::vector<uint8_t> file = ReadFile(path);
  // The first note is NT_PRSTATUS of "CORE"; pr_cursig is 12 bytes into it.
  EXPECT_EQ(file[64 + 8], NT_PRSTATUS);
  EXPECT_EQ(file[64 + 12 + 8 + 12], 11);
}

}  // namespace
}  // namespace km
