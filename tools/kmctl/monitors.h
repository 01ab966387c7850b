// Finding the running monitors.
#ifndef TOOLS_KMCTL_MONITORS_H_
#define TOOLS_KMCTL_MONITORS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "km/control/client.h"

namespace km {

struct RunningMonitor {
  std::string socket;
  Json info;  // its answer to "info"
};

// The sockets in the calling user's folder (ControlFolder), and a connection to one of them. One
// that nobody listens on any more is removed. `patience` as of ControlClient::Connect.
std::vector<std::string> MonitorSockets();
absl::StatusOr<ControlClient> ConnectToSocket(const std::string& path, absl::Duration patience);

// Those of the calling user that can be reached, by pid.
std::vector<RunningMonitor> FindMonitors();

// `target` is a pid, the path of a socket (with a slash in it), or a program's name that one
// monitor runs. NotFound when there is none, FailedPrecondition when there are several.
absl::StatusOr<ControlClient> ConnectTo(const std::string& target);

}  // namespace km

#endif  // TOOLS_KMCTL_MONITORS_H_
