#include "tools/kmctl/monitors.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "km/base/status.h"

namespace km {
namespace {

bool Named(const Json& info, const std::string& name) {
  const std::string program = info.value("program", "");
  return info.value("name", "") == name || program.substr(program.rfind('/') + 1) == name;
}

bool IsNumber(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](unsigned char c) { return std::isdigit(c) != 0; });
}

bool Lives(absl::string_view pid) { return access(absl::StrCat("/proc/", pid).c_str(), F_OK) == 0; }

// A monitor that begins has given its socket the name before it listens, and a program that is
// busy from the start may keep the processor from it between the two.
absl::StatusOr<ControlClient> ConnectToPid(const std::string& pid) {
  const std::string path = absl::StrCat(ControlFolder(), "/", pid, ".sock");
  constexpr int kTries = 100;
  for (int i = 1;; ++i) {
    absl::StatusOr<ControlClient> client = ControlClient::Connect(path);
    const bool begins = ErrnoOf(client.status()) == ECONNREFUSED && Lives(pid);
    if (!begins || i == kTries) return client;
    absl::SleepFor(absl::Milliseconds(10));
  }
}

}  // namespace

std::vector<std::string> MonitorSockets() {
  const std::string folder = ControlFolder();
  std::vector<std::string> sockets;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(folder.c_str()), &closedir);
  if (directory == nullptr) return sockets;
  while (const dirent* entry = readdir(directory.get())) {
    if (absl::EndsWith(entry->d_name, ".sock")) {
      sockets.push_back(absl::StrCat(folder, "/", entry->d_name));
    }
  }
  return sockets;
}

absl::StatusOr<ControlClient> ConnectToSocket(const std::string& path, absl::Duration patience) {
  absl::StatusOr<ControlClient> client = ControlClient::Connect(path, patience);
  // That of one that was killed stays; that of one that begins is not listened to yet.
  const absl::string_view file = absl::string_view(path).substr(path.rfind('/') + 1);
  if (ErrnoOf(client.status()) == ECONNREFUSED && !Lives(absl::StripSuffix(file, ".sock"))) {
    unlink(path.c_str());
  }
  return client;
}

std::vector<RunningMonitor> FindMonitors() {
  std::vector<RunningMonitor> found;
  for (const std::string& path : MonitorSockets()) {
    // One that does not answer must not keep the others from being seen.
    absl::StatusOr<ControlClient> client = ConnectToSocket(path, absl::Seconds(5));
    if (!client.ok()) continue;
    absl::StatusOr<Json> info = client->Call({{"verb", "info"}});
    if (info.ok()) found.push_back({path, *std::move(info)});
  }
  std::sort(found.begin(), found.end(), [](const RunningMonitor& a, const RunningMonitor& b) {
    return a.info.value("pid", 0) < b.info.value("pid", 0);
  });
  return found;
}

absl::StatusOr<ControlClient> ConnectTo(const std::string& target) {
  if (absl::StrContains(target, "/")) return ControlClient::Connect(target);
  if (IsNumber(target)) {
    absl::StatusOr<ControlClient> client = ConnectToPid(target);
    if (client.ok()) return client;
    return absl::NotFoundError(absl::StrCat("no km with pid ", target, " has a socket in ",
                                            ControlFolder(), "; kmctl list shows all"));
  }
  std::vector<RunningMonitor> monitors = FindMonitors();
  std::erase_if(monitors,
                [&target](const RunningMonitor& one) { return !Named(one.info, target); });
  if (monitors.empty()) {
    return absl::NotFoundError(
        absl::StrCat("no running km has a program named '", target, "'; kmctl list shows all"));
  }
  if (monitors.size() > 1) {
    const std::string pids =
        absl::StrJoin(monitors, ", ", [](std::string* out, const RunningMonitor& one) {
          absl::StrAppend(out, one.info.value("pid", 0));
        });
    return absl::FailedPreconditionError(
        absl::StrCat("'", target, "' runs more than once, as ", pids, ": name one by its pid"));
  }
  return ControlClient::Connect(monitors[0].socket);
}

}  // namespace km
