#include "km/loader/resolve.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "km/base/status.h"
#include "km/loader/program_path.h"
#include "tests/unit/loader/temporary_folder.h"

namespace km {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kShell[] = "/bin/sh";

void ExpectRefused(const absl::StatusOr<ResolvedProgram>& resolved, int error,
                   const std::string& why) {
  ASSERT_FALSE(resolved.ok()) << why;
  EXPECT_EQ(ExitCodeFor(resolved.status()), 126) << resolved.status();
  EXPECT_EQ(ErrnoOf(resolved.status()), error) << resolved.status();
  EXPECT_THAT(std::string(resolved.status().message()), HasSubstr(why));
}

// argv after a script with this first line was resolved.
std::vector<std::string> ArgumentsFor(const std::string& text) {
  TemporaryFolder folder;
  std::string script = folder.Write("script", text);
  absl::StatusOr<ResolvedProgram> resolved = ResolveProgram(script, {"name", "a", "b"});
  EXPECT_TRUE(resolved.ok()) << resolved.status() << " for " << text;
  if (!resolved.ok()) return {};
  EXPECT_EQ(resolved->exec_fn, script);
  EXPECT_EQ(resolved->program.path, kShell);
  for (std::string& argument : resolved->arguments) {
    if (argument == script) argument = "SCRIPT";
  }
  return resolved->arguments;
}

TEST(Resolve, Elf) {
  absl::StatusOr<ResolvedProgram> resolved = ResolveProgram(kShell, {"sh", "-c", "x"});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_THAT(resolved->arguments, ElementsAre("sh", "-c", "x"));
  EXPECT_EQ(resolved->exec_fn, kShell);
  ASSERT_EQ(resolved->interpreter.has_value(), !resolved->program.interpreter.empty());
  if (resolved->interpreter.has_value()) {
    EXPECT_TRUE(resolved->interpreter->position_independent);
    EXPECT_NE(resolved->interpreter->file->path, "");
  }
}

TEST(Resolve, Scripts) {
  EXPECT_THAT(ArgumentsFor("#!/bin/sh\nrest"), ElementsAre(kShell, "SCRIPT", "a", "b"));
  EXPECT_THAT(ArgumentsFor("#!/bin/sh"), ElementsAre(kShell, "SCRIPT", "a", "b"));
  EXPECT_THAT(ArgumentsFor("#! \t /bin/sh \t \n"), ElementsAre(kShell, "SCRIPT", "a", "b"));
  EXPECT_THAT(ArgumentsFor("#!/bin/sh  -e -x  \n"),
              ElementsAre(kShell, "-e -x", "SCRIPT", "a", "b"));
  EXPECT_THAT(ArgumentsFor(std::string("#!/bin/sh -e\0 x\n", 16)),
              ElementsAre(kShell, "-e", "SCRIPT", "a", "b"));
  // Of a long line the kernel takes 255 bytes.
  std::string long_argument(300, 'x');
  EXPECT_THAT(ArgumentsFor("#!/bin/sh " + long_argument + "\n"),
              ElementsAre(kShell, long_argument.substr(0, 245), "SCRIPT", "a", "b"));
}

TEST(Resolve, BadScripts) {
  TemporaryFolder folder;
  auto refused = [&folder](const std::string& text, int error, const std::string& why) {
    ExpectRefused(ResolveProgram(folder.Write("script", text), {"script"}), error, why);
  };
  refused("#!", ENOEXEC, "names no interpreter");
  refused("#!  \t\nx", ENOEXEC, "names no interpreter");
  refused("#!/" + std::string(300, 'x') + "\n", ENOEXEC, "too long");
  refused("#!/nowhere/sh\n", ENOENT, "its interpreter '/nowhere/sh' does not exist");
  refused("#!" + folder.path() + "\n", EACCES, "it is a directory");
  refused("#!" + folder.Write("plain", "", 0644) + "\n", EACCES, "not marked as executable");
  refused("#!" + folder.Write("text", "text") + "\n", ENOEXEC, "neither an ELF program");
  refused("#!" + folder.path() + "/script\n", ELOOP, "whose interpreter is");
}

TEST(Resolve, ScriptsInAChain) {
  TemporaryFolder folder;
  std::string last = kShell;
  std::vector<std::string> chain;
  for (int i = 1; i <= 6; ++i) {
    last = folder.Write("s" + std::to_string(i), "#!" + last + "\n");
    chain.push_back(last);
  }
  absl::StatusOr<ResolvedProgram> resolved = ResolveProgram(chain[4], {"x", "y"});
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_THAT(resolved->arguments,
              ElementsAre(kShell, chain[0], chain[1], chain[2], chain[3], chain[4], "y"));
  ExpectRefused(ResolveProgram(chain[5], {"x"}), ELOOP, "whose interpreter is");
}

TEST(Resolve, MissingAndDamagedElfInterpreter) {
  absl::StatusOr<ProgramFile> shell = ProgramFile::Open("/proc/self/exe");
  ASSERT_TRUE(shell.ok());
  struct {
    Elf64_Ehdr header = {};
    Elf64_Phdr segments[2] = {};
    char path[64] = {};
  } file;
  memcpy(&file.header, shell->head.data(), sizeof(file.header));
  file.header.e_type = ET_DYN;
  file.header.e_entry = 0;
  file.header.e_phoff = sizeof(file.header);
  file.header.e_phnum = 2;
  file.segments[0] = {PT_INTERP, PF_R, sizeof(file) - 64, 0, 0, 64, 64, 1};
  file.segments[1] = {PT_LOAD, PF_R, 0, 0, 0, sizeof(file), sizeof(file), 4096};
  TemporaryFolder folder;
  auto write = [&](const std::string& path) {
    memset(file.path, 0, sizeof(file.path));
    memcpy(file.path, path.data(), path.size());
    return folder.Write("prog", std::string(reinterpret_cast<char*>(&file), sizeof(file)));
  };
  ExpectRefused(ResolveProgram(write("/nowhere/ld.so"), {"x"}), ENOENT,
                "its interpreter '/nowhere/ld.so' does not exist");
  ExpectRefused(
      ResolveProgram(write(folder.Write("ld", "no")), {"x"}), ENOEXEC,
      "its interpreter does not work: cannot run '" + folder.path() + "/ld': it is neither");
  ExpectRefused(ResolveProgram(folder.path(), {"x"}), EACCES, "it is a directory");
}

}  // namespace
}  // namespace km
