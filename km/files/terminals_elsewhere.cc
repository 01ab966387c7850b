#include "km/files/terminals_elsewhere.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace km {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

}  // namespace

absl::flat_hash_set<std::pair<dev_t, ino_t>> TerminalsElsewhere() {
  absl::flat_hash_set<std::pair<dev_t, ino_t>> found;
  const Directory processes(opendir("/proc"));
  while (const dirent* process = processes != nullptr ? readdir(processes.get()) : nullptr) {
    int pid = 0;
    if (!absl::SimpleAtoi(process->d_name, &pid) || pid == getpid()) continue;
    const Directory fds(opendir(absl::StrCat("/proc/", pid, "/fd").c_str()));
    while (const dirent* fd = fds != nullptr ? readdir(fds.get()) : nullptr) {
      char target[PATH_MAX];
      const ssize_t length = readlinkat(dirfd(fds.get()), fd->d_name, target, sizeof(target));
      if (length <= 0 ||
          !absl::StartsWith(absl::string_view(target, static_cast<size_t>(length)), "/dev/pts/")) {
        continue;
      }
      struct stat status;
      if (fstatat(dirfd(fds.get()), fd->d_name, &status, 0) == 0) {
        found.insert({status.st_dev, status.st_ino});
      }
    }
  }
  return found;
}

}  // namespace km
