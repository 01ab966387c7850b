#include "tools/kmctl/watch.h"

#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "km/base/host_files.h"
#include "km/process/clock.h"
#include "tools/kmctl/answers.h"
#include "tools/kmctl/monitors.h"

namespace km {
namespace {

constexpr absl::Duration kConnectPatience = absl::Milliseconds(100);

// Who listens at the other end; 0 when it is none of the processes that can be seen here.
pid_t PeerOf(int socket) {
  ucred peer = {};
  socklen_t size = sizeof(peer);
  return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

// Finer than /proc's ticks, and with the time of threads that have ended.
std::optional<int64_t> CpuTimeOf(pid_t pid) {
  clockid_t clock = 0;
  timespec time = {};
  if (pid <= 0 || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) {
    return std::nullopt;
  }
  return int64_t{time.tv_sec} * 1000000000 + time.tv_nsec;
}

void ReadMemory(pid_t pid, MonitorFigures* figures) {
  uint64_t shared = 0, own = 0;
  bool found = false;
  for (absl::string_view line :
       absl::StrSplit(HostText(absl::StrCat("/proc/", pid, "/smaps_rollup")), '\n')) {
    uint64_t* sum = absl::ConsumePrefix(&line, "Shared_")    ? &shared
                    : absl::ConsumePrefix(&line, "Private_") ? &own
                                                             : nullptr;
    const size_t colon = line.find(':');
    uint64_t kilobytes = 0;
    if (sum == nullptr || colon == line.npos || !absl::ConsumeSuffix(&line, " kB") ||
        !absl::SimpleAtoi(line.substr(colon + 1), &kilobytes)) {
      continue;
    }
    *sum += kilobytes * 1024;
    found = true;
  }
  if (!found) return;
  figures->shared_bytes = shared;
  figures->own_bytes = own;
}

}  // namespace

void MonitorWatch::Ask() {
  for (std::string& path : MonitorSockets()) {
    if (watched_.contains(path)) continue;
    absl::StatusOr<ControlClient> client = ConnectToSocket(path, kConnectPatience);
    if (!client.ok()) continue;
    const pid_t pid = PeerOf(client->fd());
    watched_.emplace(std::move(path), Watched{*std::move(client), pid, Json()});
  }
  for (auto& [socket, monitor] : watched_) {
    if (!std::exchange(monitor.asked, true)) monitor.client.Send({{"verb", "info"}});
  }
}

void MonitorWatch::AddTo(std::vector<pollfd>* fds) const {
  for (const auto& [socket, monitor] : watched_) fds->push_back({monitor.client.fd(), POLLIN, 0});
}

void MonitorWatch::Receive() {
  for (auto it = watched_.begin(); it != watched_.end();) {
    Watched& monitor = it->second;
    absl::StatusOr<std::optional<Json>> answer = monitor.client.TakeAnswer();
    if (!answer.ok()) {
      it = watched_.erase(it);
      continue;
    }
    if (answer->has_value()) {
      monitor.asked = monitor.silent = false;
      monitor.info = **std::move(answer);
      monitor.count_before = monitor.count;
      monitor.count.reset();
      // An older km does not count.
      if (monitor.info.contains("exits")) {
        monitor.count = Count{Number(monitor.info, "uptime_ns"), Number(monitor.info, "exits")};
      }
    }
    ++it;
  }
}

bool MonitorWatch::complete() const {
  return std::none_of(watched_.begin(), watched_.end(),
                      [](const auto& entry) { return entry.second.asked && !entry.second.silent; });
}

MonitorFigures MonitorWatch::MeasureOne(Watched& monitor) {
  MonitorFigures figures;
  const Json& info = monitor.info;
  figures.pid = info.contains("pid") ? static_cast<pid_t>(Number(info, "pid")) : monitor.pid;
  figures.name = Text(info, "name");
  monitor.silent = monitor.asked;
  figures.state = monitor.silent ? "silent" : Text(info, "state");
  figures.threads = Number(info, "threads");
  if (const auto last = info.find("last_snapshot"); last != info.end()) {
    figures.last_snapshot = *last;
  }
  if (const std::optional<int64_t> cpu_ns = CpuTimeOf(monitor.pid); cpu_ns.has_value()) {
    const Sample now = {HostClock(CLOCK_MONOTONIC), *cpu_ns};
    if (const auto& before = monitor.sample; before.has_value() && now.at_ns > before->at_ns) {
      figures.cpu_percent = 100 * static_cast<double>(now.cpu_ns - before->cpu_ns) /
                            static_cast<double>(now.at_ns - before->at_ns);
    }
    monitor.sample = now;
  }
  if (const auto& now = monitor.count, &before = monitor.count_before;
      !monitor.silent && now.has_value() && before.has_value() && now->at_ns > before->at_ns &&
      now->exits >= before->exits) {
    figures.exits_per_second = 1e9 * static_cast<double>(now->exits - before->exits) /
                               static_cast<double>(now->at_ns - before->at_ns);
  }
  ReadMemory(monitor.pid, &figures);
  return figures;
}

std::vector<MonitorFigures> MonitorWatch::Measure() {
  std::vector<MonitorFigures> all;
  for (auto& [socket, monitor] : watched_) all.push_back(MeasureOne(monitor));
  std::sort(all.begin(), all.end(),
            [](const MonitorFigures& a, const MonitorFigures& b) { return a.pid < b.pid; });
  return all;
}

}  // namespace km
