#include "km/monitor/options.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "km/base/log.h"

namespace km {
namespace {

absl::Status Usage(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(what, "; see km --help"));
}

absl::Status SetLevel(absl::string_view name) {
  constexpr std::pair<const char*, LogLevel> kLevels[] = {{"error", LogLevel::kError},
                                                          {"warning", LogLevel::kWarning},
                                                          {"info", LogLevel::kInfo},
                                                          {"debug", LogLevel::kDebug}};
  for (const auto& [known, level] : kLevels) {
    if (name != known) continue;
    SetLogLevel(level);
    return absl::OkStatus();
  }
  return Usage(absl::StrCat("unknown log level '", name, "' (error, warning, info or debug)"));
}

absl::Status SetVariable(absl::string_view assignment, std::vector<std::string>* environment) {
  size_t equals = assignment.find('=');
  if (equals == 0 || equals == assignment.npos) {
    return Usage(absl::StrCat("--env takes KEY=VALUE, not '", assignment, "'"));
  }
  absl::string_view prefix = assignment.substr(0, equals + 1);
  environment->erase(std::remove_if(environment->begin(), environment->end(),
                                    [prefix](const std::string& entry) {
                                      return absl::StartsWith(entry, prefix);
                                    }),
                     environment->end());
  environment->emplace_back(assignment);
  return absl::OkStatus();
}

absl::Status SetFilePolicy(absl::string_view name, Options* options) {
  if (name == "strict") {
    options->files.policy = FilePolicy::kStrict;
  } else if (name == "warn") {
    options->files.policy = FilePolicy::kWarn;
  } else if (name == "ignore") {
    options->files.policy = FilePolicy::kIgnore;
  } else {
    return Usage(absl::StrCat("--files takes strict, warn or ignore, not '", name, "'"));
  }
  return absl::OkStatus();
}

// An option that is "keep", or `otherwise`, the default.
absl::Status SetKeep(absl::string_view name, absl::string_view otherwise, absl::string_view value,
                     bool* keep) {
  if (value != "keep" && value != otherwise) {
    return Usage(absl::StrCat("--", name, " takes keep or ", otherwise, ", not '", value, "'"));
  }
  *keep = value == "keep";
  return absl::OkStatus();
}

absl::Status AddSupplied(absl::string_view value, Options* options) {
  absl::StatusOr<SuppliedFile> supplied = ParseSupplied(value);
  if (!supplied.ok()) return Usage(absl::StrCat("--fd: ", supplied.status().message()));
  options->files.supplied.push_back(*std::move(supplied));
  return absl::OkStatus();
}

absl::Status AddMoved(absl::string_view value, Options* options) {
  absl::StatusOr<MovedListener> moved = ParseMovedListener(value);
  if (!moved.ok()) return Usage(moved.status().message());
  options->files.moved.push_back(*std::move(moved));
  return absl::OkStatus();
}

absl::Status SetIdleExit(absl::string_view value, Options* options) {
  absl::Duration time;
  if (!absl::ParseDuration(value, &time) || time < absl::Milliseconds(1) ||
      time > absl::Hours(24 * 366)) {
    return Usage(absl::StrCat(
        "--idle-exit takes a time from 1ms to a year, like 500ms, 30s or 5m, not '", value, "'"));
  }
  options->idle_exit_ns = absl::ToInt64Nanoseconds(time);
  return absl::OkStatus();
}

absl::Status SetOption(absl::string_view name, absl::string_view value, Options* options) {
  if (name == "snapshot") {
    if (value.empty()) return Usage("--snapshot takes a file name");
    options->snapshot_path = std::string(value);
    return absl::OkStatus();
  }
  if (name == "test-snapshot-at") {
    return absl::SimpleAtoi(value, &options->test_snapshot_at)
               ? absl::OkStatus()
               : Usage("--test-snapshot-at takes a number");
  }
  if (name == "control") {
    if (value.empty()) return Usage("--control takes the path of a socket, or none");
    options->control = std::string(value);
    return absl::OkStatus();
  }
  if (name == "env") return SetVariable(value, &options->environment);
  if (name == "log") return SetLevel(value);
  if (name == "files") return SetFilePolicy(value, options);
  if (name == "tcp") return SetKeep(name, "reset", value, &options->files.keep_tcp);
  if (name == "dontdump") return SetKeep(name, "zero", value, &options->keep_dontdump);
  if (name == "fd") return AddSupplied(value, options);
  if (name == "listen") return AddMoved(value, options);
  if (name == "idle-exit") return SetIdleExit(value, options);
  if (name == "max-unnamed") {
    if (absl::SimpleAtoi(value, &options->unnamed_limit)) return absl::OkStatus();
    return Usage(absl::StrCat("--max-unnamed takes a number of bytes, not '", value, "'"));
  }
  return Usage(absl::StrCat("unknown option '--", name, "'"));
}

bool TakesValue(absl::string_view name) {
  return name == "snapshot" || name == "env" || name == "log" || name == "files" ||
         name == "max-unnamed" || name == "control" || name == "fd" || name == "listen" ||
         name == "idle-exit" || name == "tcp" || name == "dontdump";
}

// Options without a value. False: it is none of them.
bool SetFlag(absl::string_view name, Options* options) {
  if (name == "no-sync")
    options->sync = false;
  else if (name == "no-aslr")
    options->aslr = false;
  else if (name == "clear-env")
    options->environment.clear();
  else if (name == "on-connection")
    options->on_connection = true;
  else if (name == "paused")
    options->paused = true;
  else if (name == "stats")
    options->stats = true;
  else if (name == "test-snapshot-again")
    options->test_snapshot_again = true;
  else if (name == "trace")
    options->trace = "";
  else if (name == "help")
    options->action = Options::Action::kHelp;
  else if (name == "version")
    options->action = Options::Action::kVersion;
  else if (name == "print-syscalls")
    options->action = Options::Action::kPrintSyscalls;
  else
    return false;
  return true;
}

}  // namespace

absl::StatusOr<Options> ParseOptions(int argc, char** argv, char** environment) {
  Options options;
  for (char** entry = environment; *entry != nullptr; ++entry) {
    options.environment.emplace_back(*entry);
  }
  int i = 1;
  for (; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (argument == "--") {
      ++i;
      break;
    }
    if (!absl::StartsWith(argument, "-") || argument == "-") break;
    if (!absl::ConsumePrefix(&argument, "--")) {
      return Usage(absl::StrCat("unknown option '", argument, "'"));
    }
    size_t equals = argument.find('=');
    absl::string_view name = argument.substr(0, equals);
    if (equals == argument.npos && SetFlag(name, &options)) continue;
    if (equals != argument.npos && name == "trace") {
      options.trace = std::string(argument.substr(equals + 1));
      continue;
    }
    absl::string_view value;
    if (equals != argument.npos) {
      value = argument.substr(equals + 1);
    } else if (i + 1 < argc && TakesValue(name)) {
      value = argv[++i];
    }
    if (absl::Status status = SetOption(name, value, &options); !status.ok()) return status;
  }
  for (; i < argc; ++i) options.program.emplace_back(argv[i]);
  if (options.action == Options::Action::kRun && options.program.empty()) {
    return Usage("no program given");
  }
  if (options.paused && options.control == "none") {
    return Usage("--paused without a control socket would never end");
  }
  return options;
}

std::string HelpText() {
  return "usage: km [options] PROGRAM [ARGS...]\n"
         "       km [options] SNAPSHOT\n"
         "\n"
         "Runs one Linux process inside one KVM virtual machine, or goes on with one that a "
         "snapshot\n"
         "holds.\n"
         "\n"
         "  --snapshot=FILE   where the program's snapshot goes (kmsnap)\n"
         "  --no-sync         do not wait until a snapshot is on the disk\n"
         "  --max-unnamed=N   bytes of a deleted file or memfd that a snapshot carries (1 GiB)\n"
         "  --files=POLICY    of a resume, when an open file is not what it was: strict fails, "
         "warn\n"
         "                    (the default) says so, ignore goes on\n"
         "  --fd N=PATH|fd:M  of a resume: PATH, or what km was given as descriptor M, in place "
         "of\n"
         "                    what descriptor N was open on\n"
         "  --listen OLD=NEW  of a resume: a listener at OLD (1.2.3.4:80, [::1]:80, :80 or a path) "
         "is\n"
         "                    bound to NEW instead\n"
         "  --tcp=keep        go on with the TCP connections of a snapshot, and let it hold them "
         "when\n"
         "                    the program ends in one (CAP_NET_ADMIN); the default, reset, resets "
         "them\n"
         "  --dontdump=keep   let snapshots hold memory that the program advised not to dump\n"
         "                    (MADV_DONTDUMP); by default, zero, it is zeros after a resume\n"
         "  --control=PATH    the socket that kmctl talks to; none: without one. Otherwise it is\n"
         "                    PID.sock in $XDG_RUNTIME_DIR/km, /run/user/UID/km or /tmp/km-UID\n"
         "  --on-connection   rest until somebody connects to a socket that SNAPSHOT listens on\n"
         "  --idle-exit=TIME  send the program SIGTERM when nobody was connected to its listeners "
         "for\n"
         "                    TIME (500ms, 30s, 5m)\n"
         "  --paused          begin paused; kmctl resume lets the program go\n"
         "  --env KEY=VALUE   set a variable of the program's environment\n"
         "  --clear-env       give the program only what later --env set\n"
         "  --no-aslr         load at the same addresses every time\n"
         "  --trace[=REGEX]   print system calls as strace does\n"
         "  --stats           print what system calls and exits cost, at the end\n"
         "  --log=LEVEL       error, warning (the default), info or debug\n"
         "  --print-syscalls  print which system calls are supported\n"
         "  --version, --help\n"
         "\n"
         "km exits as the program does, by its status or its signal; with 125 when km itself "
         "failed,\n"
         "126 when PROGRAM cannot be executed or SNAPSHOT not resumed, 127 when it was not "
         "found.\n";
}

}  // namespace km
