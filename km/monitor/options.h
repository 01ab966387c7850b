// The command line.
#ifndef KM_MONITOR_OPTIONS_H_
#define KM_MONITOR_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "km/base/version.h"
#include "km/files/file_restorer.h"
#include "km/snapshot/capture.h"

namespace km {

struct Options {
  enum class Action { kRun, kHelp, kVersion, kPrintSyscalls };
  Action action = Action::kRun;
  std::string snapshot_path = "kmsnap";
  uint64_t unnamed_limit = kDefaultUnnamedLimit;  // bytes
  bool keep_dontdump = false;                     // of a snapshot, see CaptureOptions
  FileOptions files;
  std::string control;  // path of the control socket; empty: in ControlFolder(); "none"
  bool paused = false;
  bool on_connection = false;
  int64_t idle_exit_ns = 0;  // end when nobody was connected for so long; 0: never
  bool sync = true;
  bool aslr = true;
  bool stats = false;
  // For tests, and not in the help: a snapshot behind the system call of this number, counted over
  // all threads from 1; the process ends with it. 0: none.
  uint64_t test_snapshot_at = 0;
  // For tests too: a snapshot of the resumed process before it does anything, and no more.
  bool test_snapshot_again = false;
  std::optional<std::string> trace;      // a regular expression; empty: everything
  std::vector<std::string> environment;  // "KEY=VALUE", what the program gets
  std::vector<std::string> program;      // PROGRAM ARGS..., or a snapshot
};

// Options end at the first argument that is none: what follows is the program's. Errors are
// messages for people. Sets the log level as a side effect.
absl::StatusOr<Options> ParseOptions(int argc, char** argv, char** environment);

std::string HelpText();

}  // namespace km

#endif  // KM_MONITOR_OPTIONS_H_
