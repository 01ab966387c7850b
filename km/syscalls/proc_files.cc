#include "km/syscalls/proc_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "km/base/owned.h"
#include "km/syscalls/proc_texts.h"

namespace km {
namespace {

int HostOpen(const std::string& path, int flags) {
  int fd = open(path.c_str(), flags | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

// A file of `text` that can only be read.
int TextFile(const std::string& text, int flags) {
  OwnedFd file(memfd_create("proc", MFD_CLOEXEC));
  if (!file.valid()) return -errno;
  for (size_t done = 0; done < text.size();) {
    ssize_t wrote = write(file.get(), text.data() + done, text.size() - done);
    if (wrote < 0) return -errno;
    done += static_cast<size_t>(wrote);
  }
  return HostOpen(absl::StrCat("/proc/self/fd/", file.get()), flags & ~(O_CREAT | O_NOFOLLOW));
}

// What says the same of the program as of the monitor. Nothing here leads to memory or to
// descriptors.
bool PassesOn(const std::string& name) {
  constexpr const char* kNames[] = {
      "",           "fd",         "fdinfo",    "task",      "net",           "attr",
      "cgroup",     "cpuset",     "gid_map",   "io",        "loginuid",      "mountinfo",
      "mounts",     "mountstats", "oom_adj",   "oom_score", "oom_score_adj", "personality",
      "projid_map", "schedstat",  "sessionid", "setgroups", "uid_map",       "wchan"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames) ||
         absl::StartsWith(name, "net/") || absl::StartsWith(name, "attr/") ||
         absl::StartsWith(name, "fdinfo/");
}

}  // namespace

int OpenOwnFile(Process& process, Thread& thread, const std::string& name, int flags,
                std::string* path) {
  *path = absl::StrCat("/proc/self", name.empty() ? "" : "/", name);
  if (access(path->c_str(), F_OK) != 0) return -errno;
  std::optional<std::string> text;
  if ((flags & O_PATH) == 0) text = OwnText(process, thread, name);
  if (!text.has_value() && !PassesOn(name)) return -EACCES;
  if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) return -EEXIST;
  if ((flags & O_ACCMODE) != O_RDONLY && (flags & O_PATH) == 0) return -EACCES;
  if (!text.has_value()) return HostOpen(*path, flags & ~O_TRUNC);
  return (flags & O_DIRECTORY) ? -ENOTDIR : TextFile(*text, flags & ~O_TRUNC);
}

bool OwnDirectory(Process& process, const std::string& path, std::vector<std::string>* names) {
  if (!absl::StartsWith(path, "/proc/self/")) return false;
  bool tasks = path == "/proc/self/task";
  if (!tasks && path != "/proc/self/fd" && path != "/proc/self/fdinfo") return false;
  *names = {".", ".."};
  if (tasks) {
    for (uint32_t tid : process.Tids()) names->push_back(absl::StrCat(tid));
  } else {
    for (const FdTable::Entry& entry : process.files().Entries()) {
      names->push_back(absl::StrCat(entry.number));
    }
  }
  return true;
}

}  // namespace km
