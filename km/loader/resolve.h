// From a path to what is loaded: scripts are followed to their interpreter, ELF programs to theirs.
#ifndef KM_LOADER_RESOLVE_H_
#define KM_LOADER_RESOLVE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "km/loader/elf_program.h"

namespace km {

struct ResolvedProgram {
  ElfProgram program;
  std::optional<ElfProgram> interpreter;  // PT_INTERP of `program`
  std::vector<std::string> arguments;     // argv, with what scripts put in front
  std::string exec_fn;                    // the path that was asked for: AT_EXECFN
};

// `path` as execve(2) takes it: there is no search. Opens and reads headers, changes nothing.
// Errors (exit code 126): no program, or its interpreter is missing or none; ELOOP for more than
// five scripts in a chain, as in the kernel.
absl::StatusOr<ResolvedProgram> ResolveProgram(const std::string& path,
                                               std::vector<std::string> arguments);

}  // namespace km

#endif  // KM_LOADER_RESOLVE_H_
