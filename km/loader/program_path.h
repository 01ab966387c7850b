// Finding the program, and the errors of one that cannot be run.
#ifndef KM_LOADER_PROGRAM_PATH_H_
#define KM_LOADER_PROGRAM_PATH_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace km {

// What km exits with, as a shell and env(1) do.
inline constexpr int kExitOwnFailure = 125;
inline constexpr int kExitCannotRun = 126;
inline constexpr int kExitNotFound = 127;

// "cannot run 'PATH': WHY". The status carries `error` for ErrnoOf, and exit code 126.
absl::Status CannotRun(int error, absl::string_view path, absl::string_view why);

// What km exits with because of `status`: what the loader's functions attached, or 125.
int ExitCodeFor(const absl::Status& status);

// The file that execvp(3) would run for `name`: itself if it has a slash, else the first in the
// directories of `search_path` (the value of PATH; null: the default of execvp) that can be
// executed. Errors: 127 when there is none, 126 when there is one that cannot be executed.
absl::StatusOr<std::string> FindProgram(const std::string& name, const char* search_path);

}  // namespace km

#endif  // KM_LOADER_PROGRAM_PATH_H_
