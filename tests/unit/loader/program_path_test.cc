#include "km/loader/program_path.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <string>

#include "km/base/status.h"
#include "tests/unit/loader/temporary_folder.h"

namespace km {
namespace {

using ::testing::HasSubstr;

void ExpectRefused(const absl::StatusOr<std::string>& found, int exit_code, int error,
                   const std::string& why) {
  ASSERT_FALSE(found.ok()) << *found;
  EXPECT_EQ(ExitCodeFor(found.status()), exit_code) << found.status();
  EXPECT_EQ(ErrnoOf(found.status()), error) << found.status();
  EXPECT_THAT(std::string(found.status().message()), HasSubstr(why));
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("cannot run '"));
}

TEST(ProgramPath, ExitCodes) {
  EXPECT_EQ(ExitCodeFor(absl::NotFoundError("x")), 125);
  EXPECT_EQ(ExitCodeFor(ErrnoStatus(EACCES, "cannot open /dev/kvm")), 125);
  EXPECT_EQ(ExitCodeFor(CannotRun(ENOEXEC, "x", "why")), 126);
  EXPECT_EQ(CannotRun(ENOEXEC, "x", "why").message(), "cannot run 'x': why");
}

TEST(ProgramPath, WithSlash) {
  TemporaryFolder folder;
  std::string good = folder.Write("good", "");
  std::string plain = folder.Write("plain", "", 0644);
  ASSERT_EQ(mkfifo((folder.path() + "/fifo").c_str(), 0755), 0);
  absl::StatusOr<std::string> found = FindProgram(good, "");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, good);
  ExpectRefused(FindProgram(folder.path() + "/none", nullptr), 127, ENOENT, "no such file");
  ExpectRefused(FindProgram(good + "/none", nullptr), 126, ENOTDIR, "Not a directory");
  ExpectRefused(FindProgram(folder.path(), nullptr), 126, EACCES, "it is a directory");
  ExpectRefused(FindProgram(plain, nullptr), 126, EACCES, "not marked as executable");
  ExpectRefused(FindProgram(folder.path() + "/fifo", nullptr), 126, EACCES, "not a regular file");
  ExpectRefused(FindProgram("", nullptr), 127, ENOENT, "its name is empty");
}

TEST(ProgramPath, CoreDumpIsNamed) {
  Elf64_Ehdr header = {};
  memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_type = ET_CORE;
  TemporaryFolder folder;
  std::string core =
      folder.Write("core", std::string(reinterpret_cast<char*>(&header), sizeof(header)), 0600);
  ExpectRefused(FindProgram(core, nullptr), 126, ENOEXEC, "it is a core dump");
}

TEST(ProgramPath, Search) {
  TemporaryFolder first, second, third;
  first.Write("tool", "", 0644);
  std::string tool = second.Write("tool", "");
  third.Write("tool", "");
  std::filesystem::create_directory(first.path() + "/other");
  std::string path = first.path() + ":/nowhere:" + tool + ":" + second.path() + ":" + third.path();
  absl::StatusOr<std::string> found = FindProgram("tool", path.c_str());
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, tool);
  ExpectRefused(FindProgram("other", path.c_str()), 126, EACCES, "it is a directory");
  ExpectRefused(FindProgram("tool", first.path().c_str()), 126, EACCES, "not marked as executable");
  ExpectRefused(FindProgram("none", path.c_str()), 127, ENOENT, "in no directory of PATH");
  found = FindProgram("sh", nullptr);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, "/bin/sh");
}

TEST(ProgramPath, EmptyElementIsTheWorkingDirectory) {
  TemporaryFolder folder;
  folder.Write("tool", "");
  std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  absl::StatusOr<std::string> found = FindProgram("tool", ":/nowhere");
  EXPECT_TRUE(found.ok() && *found == "tool") << found.status();
  ExpectRefused(FindProgram("tool", "/nowhere"), 127, ENOENT, "./tool");
  std::filesystem::current_path(before);
}

}  // namespace
}  // namespace km
