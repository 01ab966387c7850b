// kmctl: looks at snapshots.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "km/base/owned.h"
#include "km/base/status.h"
#include "km/base/version.h"
#include "km/snapshot/checksum.h"
#include "km/snapshot/parser.h"
#include "tools/kmctl/inspect.h"
#include "tools/kmctl/names.h"

namespace km {
namespace {

enum ExitStatus { kFine = 0, kDamaged = 1, kUsage = 2 };

constexpr absl::string_view kHelp =
    R"(Usage: kmctl inspect [--json] FILE   show everything in a snapshot
       kmctl verify FILE             check all checksums of a snapshot, its memory's too
       kmctl --help | --version

Exit status: 0 fine; 1 FILE is damaged, or no snapshot; 2 wrong usage, or FILE cannot be read.
)";

int Fail(ExitStatus status, absl::string_view message) {
  const std::string line = absl::StrCat("kmctl: ", Printable(std::string(message)), "\n");
  fwrite(line.data(), 1, line.size(), stderr);
  return status;
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

int Verify(const Image& image, int fd, const std::string& path) {
  if (const absl::Status status = VerifyMemory(fd, image); !status.ok()) {
    return Fail(kDamaged, absl::StrCat(path, ": ", status.message()));
  }
  uint64_t size = 0;
  for (const ImageMemory& piece : image.memory) size += piece.size;
  return Print(absl::StrCat(Printable(path), ": undamaged: headers, notes, and ", SizeText(size),
                            " of memory in ", image.memory_checksums.size(), " chunks\n"));
}

int Main(const std::vector<std::string>& arguments) {
  std::vector<std::string> words;
  bool json = false;
  for (const std::string& argument : arguments) {
    if (argument == "--help" || argument == "-h") return Print(kHelp);
    if (argument == "--version") return Print(absl::StrCat("kmctl ", kKmVersion, "\n"));
    if (argument == "--json") {
      json = true;
    } else if (argument.size() > 1 && argument[0] == '-') {
      return WrongUsage(absl::StrCat("there is no option ", argument));
    } else {
      words.push_back(argument);
    }
  }
  if (words.empty()) return WrongUsage("what to do with which file?");
  const bool inspect = words[0] == "inspect";
  if (!inspect && words[0] != "verify") {
    return WrongUsage(absl::StrCat("there is no command ", words[0]));
  }
  if (words.size() != 2) return WrongUsage(absl::StrCat(words[0], " wants one file"));
  if (json && !inspect) return WrongUsage("--json goes with inspect");

  const std::string& path = words[1];
  // A FIFO would block.
  const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid())
    return Fail(kUsage, ErrnoStatus(errno, absl::StrCat("opening ", path)).message());
  const absl::StatusOr<Image> image = ParseSnapshot(fd.get());
  if (!image.ok()) {
    const bool unreadable = image.status().GetPayload("km/errno").has_value();
    return Fail(unreadable ? kUsage : kDamaged, absl::StrCat(path, ": ", image.status().message()));
  }
  return inspect ? Inspect(*image, fd.get(), path, json) : Verify(*image, fd.get(), path);
}

}  // namespace
}  // namespace km

int main(int argc, char** argv) {
  return km::Main(std::vector<std::string>(argv + 1, argv + argc));
}
