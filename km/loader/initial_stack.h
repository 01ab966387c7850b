// What the kernel leaves on the stack of a program that starts.
// Source: psABI AMD64, 3.4 "Process Initialization"; the kernel's fs/exec.c and create_elf_tables.
#ifndef KM_LOADER_INITIAL_STACK_H_
#define KM_LOADER_INITIAL_STACK_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace km {

struct StackContents {
  std::vector<std::string> arguments;    // none: one empty argument, as the kernel makes it
  std::vector<std::string> environment;  // "KEY=VALUE"
  std::string exec_fn;
  // Pairs, without AT_NULL. The values of AT_RANDOM, AT_EXECFN and AT_PLATFORM are filled in.
  std::vector<uint64_t> auxv;
  std::array<uint8_t, 16> random{};  // what AT_RANDOM points to
  uint64_t shift = 0;                // bytes left free below the strings, for randomisation
};

struct InitialStack {
  std::vector<uint8_t> bytes;  // [stack_pointer, end of the stack)
  uint64_t stack_pointer = 0;  // 16-byte aligned; argc is there
  uint64_t arguments_start = 0, arguments_end = 0;
  uint64_t environment_start = 0, environment_end = 0;
  std::vector<uint64_t> auxv;  // pairs as written, AT_NULL last
};

// `stack_end` is page aligned. Error E2BIG (exit code 126): the strings and the pointers to them
// have more than `limit` bytes, or one string has more than 128 KiB.
absl::StatusOr<InitialStack> BuildInitialStack(const StackContents& contents, uint64_t stack_end,
                                               uint64_t limit);

}  // namespace km

#endif  // KM_LOADER_INITIAL_STACK_H_
