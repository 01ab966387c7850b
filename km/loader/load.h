// Puts a program into an empty address space, as execve(2) does.
#ifndef KM_LOADER_LOAD_H_
#define KM_LOADER_LOAD_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "km/files/mapped_file.h"
#include "km/loader/resolve.h"
#include "km/memory/address_space.h"

namespace km {

struct LoadOptions {
  std::vector<std::string> environment;  // "KEY=VALUE"
  bool aslr = true;                      // false: every run has the same addresses
};

struct LoadedElf {
  std::string path;  // without symbolic links
  uint64_t load_bias = 0;
  uint64_t entry = 0;                    // biased
  std::vector<uint8_t> elf_header;       // Elf64_Ehdr, 64 bytes
  std::vector<uint8_t> program_headers;  // Elf64_Phdr, 56 bytes each
  std::shared_ptr<const MappedFile> file = nullptr;
};

struct LoadedProgram {
  uint64_t entry = 0;          // where to start: the interpreter's entry point, if there is one
  uint64_t stack_pointer = 0;  // 16-byte aligned, argc is there
  std::vector<uint64_t> auxv;  // pairs, AT_NULL last
  LoadedElf program;
  std::optional<LoadedElf> interpreter;
  std::vector<std::string> arguments;  // argv as the program sees it
  std::string exec_path;               // what /proc/self/exe names; without symbolic links
  std::string exec_fn;  // the path that was asked for: AT_EXECFN, and comm comes of it
};

// Maps segments, stack and interpreter into `space`, which has no mappings yet, and sets its
// layout. The stack is as long as RLIMIT_STACK says (8 MiB when unlimited, 1 GiB at most). Errors:
// E2BIG (exit code 126) for too long arguments; what AddressSpace::Map refused.
absl::StatusOr<LoadedProgram> Load(const ResolvedProgram& resolved, const LoadOptions& options,
                                   AddressSpace& space);

}  // namespace km

#endif  // KM_LOADER_LOAD_H_
