// Finding the running monitors.
#ifndef TOOLS_KMCTL_MONITORS_H_
#define TOOLS_KMCTL_MONITORS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "km/control/client.h"

namespace km {

struct RunningMonitor {
  std::string socket;
  Json info;  // its answer to "info"
};

// Those of the calling user that can be reached, by pid. Sockets that nobody listens on any more
// are removed.
std::vector<RunningMonitor> FindMonitors();

// `target` is a pid, the path of a socket (with a slash in it), or a program's name that one
// monitor runs. NotFound when there is none, FailedPrecondition when there are several.
absl::StatusOr<ControlClient> ConnectTo(const std::string& target);

}  // namespace km

#endif  // TOOLS_KMCTL_MONITORS_H_
