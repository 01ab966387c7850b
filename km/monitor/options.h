// The command line.
#ifndef KM_MONITOR_OPTIONS_H_
#define KM_MONITOR_OPTIONS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "km/base/version.h"

namespace km {

struct Options {
  enum class Action { kRun, kHelp, kVersion, kPrintSyscalls };
  Action action = Action::kRun;
  std::string snapshot_path = "kmsnap";
  bool sync = true;
  bool aslr = true;
  bool stats = false;
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
