// kmctl: talks to running monitors, and looks at snapshots.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "km/base/host_files.h"
#include "km/base/owned.h"
#include "km/base/status.h"
#include "km/base/version.h"
#include "km/snapshot/bases.h"
#include "km/snapshot/checksum.h"
#include "km/snapshot/parser.h"
#include "tools/kmctl/answers.h"
#include "tools/kmctl/binfmt.h"
#include "tools/kmctl/inspect.h"
#include "tools/kmctl/names.h"
#include "tools/kmctl/progress.h"
#include "tools/kmctl/remote.h"

namespace km {
namespace {

enum ExitStatus { kFine = 0, kFailed = 1, kUsage = 2 };

constexpr absl::string_view kHelp =
    R"(Usage: kmctl list                       show the running monitors
       kmctl top [--interval SECONDS] [--once]
                                        the same, with what they use, again and again; q ends it
       kmctl info TARGET                what one runs, and how it is
       kmctl pause | resume TARGET      stop the program; let it go on
       kmctl supply TARGET N=PATH|fd:M...
                                        what descriptors of a snapshot that km --paused holds are
                                        open on instead, as with km --fd
       kmctl snapshot TARGET [-o FILE] [--stop [--tcp=keep]] [--dontdump=keep]
                      [--base | --full] [--label TEXT] [--description TEXT]
                                        write a snapshot; the program goes on, or ends with --stop
       kmctl check TARGET               would a snapshot be possible now?
       kmctl signal TARGET SIGNAL       send a signal to the program
       kmctl trace TARGET on [REGEX] | off
                                        print its system calls to km's standard error
       kmctl stats TARGET [--interval SECONDS]
                                        system calls and exits, counted for a while
       kmctl wait TARGET                wait until it ends, and end as it does
       kmctl inspect FILE               show everything in a snapshot
       kmctl verify FILE                check all checksums of a snapshot, its memory's too
       kmctl merge FILE -o FILE         make a snapshot that needs no other of one that does
       kmctl binfmt --register | --unregister
                                        have the kernel run snapshots by themselves (./FILE)
       kmctl --help | --version

TARGET is a pid of km, the path of its socket, or its program's name. --json prints JSON.

Exit status: 0 fine; 1 it failed, or FILE is damaged or no snapshot; 2 wrong usage, or FILE cannot
be read; of wait, the program's, or 128 and the signal that killed it.
)";

int Fail(ExitStatus status, absl::string_view message) {
  const std::string line = absl::StrCat("kmctl: ", Printable(std::string(message)), "\n");
  fwrite(line.data(), 1, line.size(), stderr);
  return status;
}

// With --json it is on standard output too, where a script looks for an object.
int Fail(ExitStatus status, absl::string_view message, const RemoteCommand& command) {
  if (command.json) {
    const std::string text = Dump({{"error", {{"message", message}}}});
    fwrite(text.data(), 1, text.size(), stdout);
  }
  return Fail(status, message);
}

int WrongUsage(absl::string_view message) {
  return Fail(kUsage, absl::StrCat(message, " (kmctl --help shows the usage)"));
}

// Writes to standard output; a full disk or a closed pipe is an error.
int Print(absl::string_view text) {
  if (fwrite(text.data(), 1, text.size(), stdout) == text.size() && fflush(stdout) == 0) {
    return kFine;
  }
  return Fail(kUsage, ErrnoStatus(errno, "writing to standard output").message());
}

int Inspect(const Image& image, int fd, const std::string& path, bool json) {
  const nlohmann::ordered_json description = Describe(image, fd, path);
  if (!json) return Print(DescriptionText(description));
  // Names need not be UTF-8; JSON must be.
  constexpr auto kReplace = nlohmann::ordered_json::error_handler_t::replace;
  return Print(absl::StrCat(description.dump(2, ' ', false, kReplace), "\n"));
}

uint64_t MemorySize(const Image& image) {
  uint64_t size = 0;
  for (const ImageMemory& piece : image.memory) size += piece.size;
  return size;
}

absl::Status VerifyShowing(int fd, const Image& image) {
  std::atomic<uint64_t> done = 0;
  const ProgressLine line(&done, MemorySize(image));
  return VerifyMemory(fd, image, &done);
}

// Those that a snapshot is built on, whole.
absl::Status VerifyBases(const Image& image, int fd) {
  KM_ASSIGN_OR_RETURN(const std::vector<OwnedFd> bases, OpenBases(image, fd));
  for (size_t i = 0; i < bases.size(); ++i) {
    const absl::StatusOr<Image> base = ParseSnapshot(bases[i].get());
    absl::Status status = base.status();
    if (base.ok()) status = VerifyShowing(bases[i].get(), *base);
    if (status.ok()) continue;
    return absl::DataLossError(absl::StrCat(image.bases[i].path, ": ", status.message()));
  }
  return absl::OkStatus();
}

int Verify(const Image& image, int fd, const std::string& path) {
  absl::Status status = VerifyShowing(fd, image);
  status.Update(VerifyBases(image, fd));
  if (!status.ok()) return Fail(kFailed, absl::StrCat(path, ": ", status.message()));
  return Print(absl::StrCat(Printable(path), ": undamaged: headers, notes, and ",
                            SizeText(MemorySize(image)), " of memory in ",
                            image.memory_checksums.size(), " chunks",
                            image.bases.empty() ? "" : ", and what it is built on", "\n"));
}

int Remote(const RemoteCommand& command) {
  int exit_status = kFine;
  const absl::StatusOr<std::string> text = RunRemote(command, &exit_status);
  if (absl::IsInvalidArgument(text.status())) return WrongUsage(text.status().message());
  if (!text.ok()) return Fail(kFailed, text.status().message(), command);
  const int printed = Print(*text);
  return printed != kFine ? printed : exit_status;
}

int Merge(Image image, int fd, const std::string& output) {
  const absl::StatusOr<std::string> path = AbsolutePath(output);
  if (!path.ok()) return Fail(kUsage, path.status().message());
  uint64_t size = MemorySize(image);
  for (const ImageBaseMemory& piece : image.base_memory) size += piece.size;
  WriteProgress progress;
  absl::Status status;
  {
    const ProgressLine line(&progress.done, size);
    status = MergeSnapshot(std::move(image), fd, *path, &progress);
  }
  return status.ok() ? kFine : Fail(kFailed, status.message());
}

int OfFile(const RemoteCommand& command) {
  const std::string& path = command.words[0];
  // A FIFO would block.
  const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) {
    return Fail(kUsage, ErrnoStatus(errno, absl::StrCat("opening ", path)).message(), command);
  }
  absl::StatusOr<Image> image = ParseSnapshot(fd.get());
  if (!image.ok()) {
    const bool unreadable = image.status().GetPayload("km/errno").has_value();
    return Fail(unreadable ? kUsage : kFailed, absl::StrCat(path, ": ", image.status().message()),
                command);
  }
  if (command.verb == "inspect") return Inspect(*image, fd.get(), path, command.json);
  if (command.verb == "verify") return Verify(*image, fd.get(), path);
  return Merge(*std::move(image), fd.get(), command.output);
}

int Binfmt(const std::vector<std::string>& words) {
  const bool add = words == std::vector<std::string>{"--register"};
  if (!add && words != std::vector<std::string>{"--unregister"}) {
    return WrongUsage("binfmt wants --register or --unregister");
  }
  const absl::Status status = add ? RegisterBinfmt() : UnregisterBinfmt();
  return status.ok() ? kFine : Fail(kFailed, status.message());
}

// Sets an option of `command`; null when `name` is none of those that take a value.
std::string* ValueOf(absl::string_view name, RemoteCommand* command, std::string* interval) {
  if (name == "-o" || name == "--output") return &command->output;
  if (name == "--label") return &command->label;
  if (name == "--description") return &command->description;
  if (name == "--interval") return interval;
  return nullptr;
}

// The exit status when there is nothing more to do, or a negative number.
int ParseArguments(const std::vector<std::string>& arguments, RemoteCommand* command) {
  std::string interval;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    const size_t equals = argument.find('=');
    const bool option = argument.size() > 1 && argument[0] == '-';
    if (argument == "--help" || argument == "-h") return Print(kHelp);
    if (argument == "--version") return Print(absl::StrCat("kmctl ", kKmVersion, "\n"));
    if (command->verb == "binfmt" && option) {
      command->words.push_back(argument);
    } else if (argument == "--json") {
      command->json = true;
    } else if (argument == "--stop") {
      command->stop = true;
    } else if (argument == "--tcp=keep" || argument == "--tcp=reset") {
      command->keep_tcp = argument == "--tcp=keep";
    } else if (argument == "--dontdump=keep" || argument == "--dontdump=zero") {
      command->keep_dontdump = argument == "--dontdump=keep";
    } else if (argument == "--once") {
      command->once = true;
    } else if (argument == "--base" || argument == "--full") {
      command->base = argument == "--base";
    } else if (std::string* value = ValueOf(argument.substr(0, equals), command, &interval);
               option && value != nullptr) {
      if (equals == argument.npos && ++i == arguments.size()) {
        return WrongUsage(absl::StrCat(argument, " wants a value"));
      }
      *value = equals == argument.npos ? arguments[i] : argument.substr(equals + 1);
    } else if (option) {
      return WrongUsage(absl::StrCat("there is no option ", argument));
    } else if (command->verb.empty()) {
      command->verb = argument;
    } else {
      command->words.push_back(argument);
    }
  }
  if (!interval.empty() && (!absl::SimpleAtod(interval, &command->interval) ||
                            !(command->interval > 0 && command->interval < 1e6))) {
    return WrongUsage("--interval wants a number of seconds");
  }
  return -1;
}

int Main(const std::vector<std::string>& arguments) {
  RemoteCommand command;
  if (int done = ParseArguments(arguments, &command); done >= 0) return done;
  if (command.verb.empty()) return WrongUsage("what to do with which program or file?");
  const bool of_snapshot = !command.label.empty() || !command.description.empty() || command.stop ||
                           command.base.has_value() || command.keep_tcp.has_value() ||
                           command.keep_dontdump.has_value();
  if (of_snapshot && command.verb != "snapshot") {
    return WrongUsage(
        "--label, --description, --stop, --tcp, --dontdump, --base and --full go with snapshot");
  }
  if (command.keep_tcp.value_or(false) && !command.stop) {
    return WrongUsage("--tcp=keep goes with --stop: a connection has one process at either end");
  }
  if (!command.output.empty() && command.verb != "snapshot" && command.verb != "merge") {
    return WrongUsage("-o goes with snapshot and merge");
  }
  if (command.once && command.verb != "top") return WrongUsage("--once goes with top");
  if (IsRemoteVerb(command.verb)) return Remote(command);
  if (command.verb == "binfmt") return Binfmt(command.words);
  const bool inspect = command.verb == "inspect", merge = command.verb == "merge";
  if (!inspect && !merge && command.verb != "verify") {
    return WrongUsage(absl::StrCat("there is no command ", command.verb));
  }
  if (command.words.size() != 1) return WrongUsage(absl::StrCat(command.verb, " wants one file"));
  if (command.json && !inspect) return WrongUsage("--json goes with inspect only");
  if (merge && command.output.empty()) return WrongUsage("merge wants -o FILE");
  return OfFile(command);
}

}  // namespace
}  // namespace km

int main(int argc, char** argv) {
  return km::Main(std::vector<std::string>(argv + 1, argv + argc));
}
