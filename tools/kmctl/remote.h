// kmctl's verbs for running monitors, over their control sockets.
#ifndef TOOLS_KMCTL_REMOTE_H_
#define TOOLS_KMCTL_REMOTE_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "km/control/protocol.h"

namespace km {

// A word and what goes with it, as the command line has them.
struct RemoteCommand {
  std::string verb;
  std::vector<std::string> words;  // behind the verb: TARGET first
  bool json = false;
  // Of snapshot.
  std::string output, label, description;
  bool stop = false;
  std::optional<bool> base;                     // nothing: where it can be
  std::optional<bool> keep_tcp, keep_dontdump;  // nothing: as km was told
  double interval = 1;                          // seconds, of stats and top
  bool once = false;                            // of top
};

bool IsRemoteVerb(const std::string& verb);

// Does it, and returns what is to be printed. InvalidArgument: wrong usage; others: it failed.
// `*exit_status` is set where an answer is no failure but not fine either (check).
absl::StatusOr<std::string> RunRemote(const RemoteCommand& command, int* exit_status);

}  // namespace km

#endif  // TOOLS_KMCTL_REMOTE_H_
