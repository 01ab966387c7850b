#include "tools/kmctl/remote.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "km/base/host_files.h"
#include "km/base/status.h"
#include "km/files/supplied.h"
#include "km/snapshot/new_file.h"
#include "tools/kmctl/answers.h"
#include "tools/kmctl/monitors.h"
#include "tools/kmctl/names.h"
#include "tools/kmctl/progress.h"
#include "tools/kmctl/top.h"

namespace km {
namespace {

constexpr double kMilli = 1e6, kSecond = 1e9;  // nanoseconds

std::string ListText(const std::vector<RunningMonitor>& monitors) {
  std::string text = "    PID  STATE    THREADS   RESIDENT       UP  COMMAND\n";
  for (const RunningMonitor& one : monitors) {
    absl::StrAppendFormat(&text, "%7d  %-7s  %7d  %9s  %7s  %s\n", Number(one.info, "pid"),
                          Text(one.info, "state"), Number(one.info, "threads"),
                          SizeText(Number(one.info, "resident_bytes")),
                          UptimeText(Number(one.info, "uptime_ns")), Text(one.info, "command"));
  }
  return text;
}

std::string InfoText(const Json& info) {
  std::string text;
  for (const auto& [name, value] : info.items()) {
    std::string shown = Text(info, name.c_str());
    std::string label = name;
    if (label.ends_with("_bytes")) {
      shown = SizeText(Number(info, name.c_str()));
      label.resize(label.size() - 6);
    } else if (label.ends_with("_ns")) {
      shown = UptimeText(Number(info, name.c_str()));
      label.resize(label.size() - 3);
    } else if (name == "last_snapshot") {
      shown = absl::StrCat(Text(value, "path"), " (", AgeText(value), " ago)");
    } else if (value.is_object()) {
      shown = absl::StrCat(Text(value, "path"), " (", Text(value, "id"), ")");
    }
    std::replace(label.begin(), label.end(), '_', ' ');
    absl::StrAppendFormat(&text, "%-17s %s\n", label, shown);
  }
  return text;
}

// An interrupted kmctl cancels the snapshot by going away.
void ShowEvent(const Json& event) {
  ShowProgress(Number(event, "done_bytes"), Number(event, "total_bytes"),
               static_cast<double>(Number(event, "elapsed_ns")) / kSecond);
}

void ShowWarnings(const Json& answer) {
  for (const Json& warning : answer.value("warnings", Json::array())) {
    if (!warning.is_string()) continue;
    absl::FPrintF(stderr, "kmctl: warning: %s\n", warning.get<std::string>());
  }
}

// Into a file of kmctl's, where the monitor may make none: the program gave up its rights.
absl::StatusOr<Json> SnapshotIntoOwnFile(const std::string& path, const Json& request,
                                         ControlClient& client) {
  NewFile file;
  absl::Status placed = file.Create(path);
  Json result;
  if (placed.ok()) {
    KM_ASSIGN_OR_RETURN(result, client.Call(request, ShowEvent, file.fd()));
    placed = file.Commit(true);
  }
  if (!placed.ok()) {
    return absl::Status(placed.code(), absl::StrCat("no snapshot was taken: writing ", path, ": ",
                                                    placed.message()));
  }
  if (request["stop"] == false) return result;
  // Until it is told to, the program does not end; it may by itself, which is as good.
  const absl::StatusOr<Json> ended = client.Call({{"verb", "end"}});
  if (!ended.ok() && !absl::IsUnavailable(ended.status())) return ended;
  result["ended"] = true;
  return result;
}

absl::StatusOr<std::string> Snapshot(const RemoteCommand& command, ControlClient& client) {
  Json request = {{"verb", "snapshot"},
                  {"stop", command.stop},
                  {"label", command.label},
                  {"description", command.description}};
  if (!command.output.empty()) {
    // A file of the caller's directory, not of the monitor's.
    KM_ASSIGN_OR_RETURN(request["path"], AbsolutePath(command.output));
  }
  if (command.base.has_value()) request["base"] = *command.base;
  if (command.keep_tcp.has_value()) request["keep_tcp"] = *command.keep_tcp;
  if (command.keep_dontdump.has_value()) request["keep_dontdump"] = *command.keep_dontdump;
  absl::StatusOr<Json> result = client.Call(request, ShowEvent);
  if (absl::IsPermissionDenied(result.status()) && !command.output.empty()) {
    result = SnapshotIntoOwnFile(request["path"], request, client);
  }
  ClearProgress();
  KM_RETURN_IF_ERROR(result.status());
  if (command.json) return Dump(*result);
  ShowWarnings(*result);
  return absl::StrFormat("%s: %s%s, the program stood still for %.1f ms%s\n", Text(*result, "path"),
                         SizeText(Number(*result, "file_bytes")),
                         Number(*result, "bases") != 0 ? " besides what it is built on" : "",
                         static_cast<double>(Number(*result, "stopped_ns")) / kMilli,
                         command.stop ? " and has ended" : " and goes on");
}

absl::StatusOr<std::string> Check(const RemoteCommand& command, ControlClient& client,
                                  int* exit_status) {
  KM_ASSIGN_OR_RETURN(const Json result, client.Call({{"verb", "check"}}));
  const bool possible = result.value("possible", Json()) == true;
  if (!possible) *exit_status = 1;
  if (command.json) return Dump(result);
  if (!possible)
    return absl::StrCat("no snapshot is possible now: ", Text(result, "obstacles"), "\n");
  ShowWarnings(result);
  return absl::StrCat("a snapshot is possible now, with ", SizeText(Number(result, "memory_bytes")),
                      " of memory\n");
}

absl::StatusOr<int> SignalNumber(std::string name) {
  int number = 0;
  if (absl::SimpleAtoi(name, &number) && number >= 1 && number <= 64) return number;
  const absl::string_view bare = absl::StripPrefix(name, "SIG");
  for (int sig = 1; sig < 32; ++sig) {
    const char* known = sigabbrev_np(sig);
    if (known != nullptr && bare == known) return sig;
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no signal ", name));
}

// What is counted meanwhile, where the monitor does not count by itself.
absl::StatusOr<std::string> Statistics(const RemoteCommand& command, ControlClient& client) {
  KM_ASSIGN_OR_RETURN(Json result, client.Call({{"verb", "stats"}}));
  if (result.value("counting", Json()) != true) {
    KM_RETURN_IF_ERROR(client.Call({{"verb", "stats"}, {"count", true}}).status());
    absl::SleepFor(absl::Seconds(command.interval));
    KM_ASSIGN_OR_RETURN(result, client.Call({{"verb", "stats"}, {"count", false}}));
  }
  if (command.json) return Dump(result);
  return result.value("table", "");
}

absl::StatusOr<std::string> Wait(const RemoteCommand& command, ControlClient& client,
                                 int* exit_status) {
  KM_ASSIGN_OR_RETURN(const Json result, client.Call({{"verb", "wait"}}));
  const auto sig = static_cast<int>(Number(result, "signal"));
  *exit_status = sig != 0 ? 128 + sig : static_cast<int>(Number(result, "exit_status"));
  if (command.json) return Dump(result);
  if (sig != 0) return absl::StrCat("killed by signal ", sig, "\n");
  return absl::StrCat("exited with status ", *exit_status, "\n");
}

// Whether kmctl was given it: what it has opened itself is nobody's to pass on.
bool WasInherited(int fd) {
  const int flags = fcntl(fd, F_GETFD);
  return flags >= 0 && (flags & FD_CLOEXEC) == 0;
}

absl::StatusOr<std::vector<SuppliedFile>> SuppliedFiles(const RemoteCommand& command) {
  std::vector<SuppliedFile> all;
  if (command.verb != "supply") return all;
  for (size_t i = 1; i < command.words.size(); ++i) {
    KM_ASSIGN_OR_RETURN(all.emplace_back(), ParseSupplied(command.words[i]));
  }
  return all;
}

// One request for each; what came before one that is refused stays supplied.
absl::StatusOr<std::string> Supply(const RemoteCommand& command,
                                   const std::vector<SuppliedFile>& all, ControlClient& client) {
  Json results = Json::array();
  for (const SuppliedFile& supplied : all) {
    Json request = {{"verb", "supply"}, {"fd", supplied.number}};
    if (!supplied.path.empty()) {
      // The monitor opens it, as with --fd: it knows what for.
      KM_ASSIGN_OR_RETURN(request["path"], AbsolutePath(supplied.path));
    } else if (!WasInherited(supplied.fd)) {
      return absl::FailedPreconditionError(
          absl::StrCat("kmctl has inherited no descriptor ", supplied.fd));
    }
    KM_ASSIGN_OR_RETURN(results.emplace_back(), client.Call(std::move(request), {}, supplied.fd));
  }
  return command.json ? Dump(results) : std::string();
}

absl::StatusOr<std::string> Plain(const RemoteCommand& command, ControlClient& client,
                                  Json request) {
  KM_ASSIGN_OR_RETURN(const Json result, client.Call(std::move(request)));
  if (command.json) return Dump(result);
  if (command.verb == "info") return InfoText(result);
  return std::string();
}

absl::StatusOr<Json> PlainRequest(const RemoteCommand& command) {
  Json request = {{"verb", command.verb}};
  if (command.verb == "signal") {
    KM_ASSIGN_OR_RETURN(request["signal"], SignalNumber(command.words[1]));
  } else if (command.verb == "trace") {
    if (command.words[1] != "on" && command.words[1] != "off") {
      return absl::InvalidArgumentError("trace wants on or off");
    }
    request["on"] = command.words[1] == "on";
    if (command.words.size() > 2) request["filter"] = command.words[2];
  }
  return request;
}

struct RemoteVerb {
  const char* name;
  size_t least, most;  // words behind it
};
constexpr RemoteVerb kVerbs[] = {{"list", 0, 0},  {"info", 1, 1},   {"stats", 1, 1},
                                 {"pause", 1, 1}, {"resume", 1, 1}, {"snapshot", 1, 1},
                                 {"check", 1, 1}, {"signal", 2, 2}, {"trace", 2, 3},
                                 {"wait", 1, 1},  {"top", 0, 0},    {"supply", 2, SIZE_MAX}};

const RemoteVerb* FindVerb(const std::string& name) {
  const auto* verb = std::find_if(std::begin(kVerbs), std::end(kVerbs),
                                  [&name](const RemoteVerb& one) { return name == one.name; });
  return verb != std::end(kVerbs) ? verb : nullptr;
}

std::string List(bool json) {
  const std::vector<RunningMonitor> monitors = FindMonitors();
  if (!json) return monitors.empty() ? "no km is running\n" : ListText(monitors);
  Json all = Json::array();
  for (const RunningMonitor& one : monitors) all.push_back(one.info);
  return Dump(all);
}

}  // namespace

bool IsRemoteVerb(const std::string& verb) { return FindVerb(verb) != nullptr; }

absl::StatusOr<std::string> RunRemote(const RemoteCommand& command, int* exit_status) {
  const RemoteVerb& verb = *FindVerb(command.verb);
  if (command.words.size() < verb.least || command.words.size() > verb.most) {
    return absl::InvalidArgumentError(absl::StrCat(
        command.verb,
        verb.most == 0 ? " takes no target" : " wants a target: a pid, a name or a socket",
        verb.least > 1 ? ", and what to do" : ""));
  }
  if (command.verb == "list") return List(command.json);
  if (command.verb == "top") return Top(command);
  KM_ASSIGN_OR_RETURN(Json request, PlainRequest(command));
  KM_ASSIGN_OR_RETURN(const std::vector<SuppliedFile> supplied, SuppliedFiles(command));
  KM_ASSIGN_OR_RETURN(ControlClient client, ConnectTo(command.words[0]));
  if (command.verb == "snapshot") return Snapshot(command, client);
  if (command.verb == "supply") return Supply(command, supplied, client);
  if (command.verb == "check") return Check(command, client, exit_status);
  if (command.verb == "stats") return Statistics(command, client);
  if (command.verb == "wait") return Wait(command, client, exit_status);
  return Plain(command, client, std::move(request));
}

}  // namespace km
