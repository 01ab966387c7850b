#include "km/loader/initial_stack.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "km/base/status.h"
#include "km/loader/program_path.h"

namespace km {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kEnd = 0x3fffff000000;
constexpr uint64_t kLimit = 2 << 20;

// Reads a stack as a program's start code would.
struct View {
  const InitialStack& stack;

  uint64_t Word(uint64_t address) const {
    uint64_t value = 0;
    EXPECT_LE(address + 8, kEnd);
    memcpy(&value, stack.bytes.data() + (address - stack.stack_pointer), 8);
    return value;
  }
  std::string String(uint64_t address) const {
    return reinterpret_cast<const char*>(stack.bytes.data() + (address - stack.stack_pointer));
  }
  std::vector<std::string> Strings(uint64_t* at) const {
    std::vector<std::string> strings;
    for (; Word(*at) != 0; *at += 8) strings.push_back(String(Word(*at)));
    *at += 8;
    return strings;
  }
};

void ExpectRoundTrip(const StackContents& contents) {
  absl::StatusOr<InitialStack> stack = BuildInitialStack(contents, kEnd, kLimit);
  ASSERT_TRUE(stack.ok()) << stack.status();
  View view{*stack};
  EXPECT_EQ(stack->stack_pointer % 16, 0u);
  EXPECT_EQ(stack->stack_pointer + stack->bytes.size(), kEnd);
  EXPECT_EQ(view.Word(kEnd - 8), 0u);
  uint64_t at = stack->stack_pointer;
  EXPECT_EQ(view.Word(at), contents.arguments.size());
  at += 8;
  EXPECT_EQ(view.Strings(&at), contents.arguments);
  EXPECT_EQ(view.Strings(&at), contents.environment);
  std::map<uint64_t, uint64_t> auxv;
  for (size_t i = 0; i < stack->auxv.size(); i += 2, at += 16) {
    EXPECT_EQ(view.Word(at), stack->auxv[i]);
    EXPECT_EQ(view.Word(at + 8), stack->auxv[i + 1]);
    auxv[stack->auxv[i]] = stack->auxv[i + 1];
  }
  EXPECT_EQ(stack->auxv[stack->auxv.size() - 2], uint64_t{AT_NULL});
  EXPECT_EQ(auxv[AT_PAGESZ], 4096u);
  EXPECT_EQ(view.String(auxv[AT_EXECFN]), contents.exec_fn);
  EXPECT_EQ(view.String(auxv[AT_PLATFORM]), "x86_64");
  EXPECT_GE(auxv[AT_RANDOM], at);
  EXPECT_EQ(memcmp(stack->bytes.data() + (auxv[AT_RANDOM] - stack->stack_pointer),
                   contents.random.data(), 16),
            0);
  EXPECT_EQ(stack->arguments_end, stack->environment_start);
  EXPECT_EQ(stack->environment_end, auxv[AT_EXECFN]);
  EXPECT_EQ(view.String(stack->arguments_start), contents.arguments[0]);
}

StackContents Contents() {
  StackContents contents;
  contents.arguments = {"prog", "one", "", "three"};
  contents.environment = {"A=b", "PATH=/bin"};
  contents.exec_fn = "/bin/prog";
  contents.auxv = {AT_PAGESZ, 4096, AT_RANDOM, 0, AT_EXECFN, 0, AT_PLATFORM, 0};
  contents.random = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  return contents;
}

TEST(InitialStack, HoldsEverything) {
  StackContents contents = Contents();
  for (uint64_t shift = 0; shift < 100; shift += 7) {
    contents.shift = shift;
    contents.arguments.push_back(std::string(shift, 'x'));
    ExpectRoundTrip(contents);
  }
  contents.environment.clear();
  ExpectRoundTrip(contents);
}

TEST(InitialStack, NoArgumentsBecomeOneEmptyArgument) {
  StackContents contents = Contents();
  contents.arguments.clear();
  absl::StatusOr<InitialStack> stack = BuildInitialStack(contents, kEnd, kLimit);
  ASSERT_TRUE(stack.ok());
  uint64_t at = stack->stack_pointer + 8;
  EXPECT_THAT(View{*stack}.Strings(&at), ElementsAre(""));
}

void ExpectTooLong(const StackContents& contents, uint64_t limit) {
  absl::StatusOr<InitialStack> stack = BuildInitialStack(contents, kEnd, limit);
  ASSERT_FALSE(stack.ok());
  EXPECT_EQ(ErrnoOf(stack.status()), E2BIG);
  EXPECT_EQ(ExitCodeFor(stack.status()), 126);
}

TEST(InitialStack, Limits) {
  StackContents contents = Contents();
  contents.arguments.push_back(std::string(131071, 'x'));
  ExpectRoundTrip(contents);
  ExpectTooLong(contents, 131072);
  contents.arguments.back() += 'x';
  ExpectTooLong(contents, kLimit);
  contents = Contents();
  contents.environment.assign(100000, "X=12345678901234");
  ExpectTooLong(contents, kLimit);
  contents.environment.resize(1000);
  ExpectRoundTrip(contents);
}

}  // namespace
}  // namespace km
