// kmctl top: the running monitors and what they use, shown again and again.
#ifndef TOOLS_KMCTL_TOP_H_
#define TOOLS_KMCTL_TOP_H_

#include <string>

#include "absl/status/statusor.h"
#include "tools/kmctl/remote.h"

namespace km {

// With --once or --json, or where standard output is no terminal: measures for one interval and
// returns the table. Otherwise shows it on the terminal until the user ends that, and returns "".
// A signal that ends a process ends it, after the terminal is as it was.
absl::StatusOr<std::string> Top(const RemoteCommand& command);

}  // namespace km

#endif  // TOOLS_KMCTL_TOP_H_
