#include "km/syscalls/proc_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "km/files/proc.h"
#include "km/syscalls/proc_path.h"
#include "km/syscalls/proc_texts.h"

namespace km {
namespace {

int HostOpen(const std::string& path, int flags) {
  int fd = open(path.c_str(), flags | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

template <size_t kCount>
bool IsOneOf(const std::string& name, const char* const (&names)[kCount]) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// What says the same of the program as of the monitor. Nothing here leads to memory or to
// descriptors.
bool PassesOn(const std::string& name) {
  static constexpr const char* kNames[] = {
      "",          "fd",          "fdinfo",         "task",          "net",        "attr",
      "ns",        "arch_status", "autogroup",      "cgroup",        "children",   "cpuset",
      "gid_map",   "io",          "loginuid",       "mountinfo",     "mounts",     "mountstats",
      "oom_adj",   "oom_score",   "oom_score_adj",  "personality",   "projid_map", "schedstat",
      "sessionid", "setgroups",   "timens_offsets", "timerslack_ns", "uid_map",    "wchan"};
  return IsOneOf(name, kNames) || absl::StartsWith(name, "net/") ||
         absl::StartsWith(name, "attr/") || absl::StartsWith(name, "ns/");
}

// What the program may change there as well: it is kept for the process, which is the monitor's.
bool PassesOnWrites(const std::string& name) {
  static constexpr const char* kNames[] = {"oom_adj", "oom_score_adj", "timerslack_ns"};
  return IsOneOf(name, kNames);
}

// Of those, which setting of the program's it is: a snapshot carries it from now on.
Setting SettingIn(const std::string& name) {
  return name == "timerslack_ns" ? Setting::kTimerSlack : Setting::kOomScore;
}

// The file that the program runs from.
int OpenProgram(const Process& process, int flags, std::string* path) {
  const MappedFile* file = process.identity().program.file.get();
  if (file == nullptr) return -ENOENT;
  if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC)) return -ETXTBSY;
  int fd = HostOpen(absl::StrCat("/proc/self/fd/", file->fd.get()), flags);
  *path = file->path;
  return fd;
}

bool IsMade(const OwnName& own) {
  return own.name == "mem" || own.name == "pagemap" || MakesText(own.name);
}

}  // namespace

int OpenOwnFile(Process& process, const std::string& name, int flags, std::string* path) {
  OwnName own = ParseOwnName(name);
  const std::string host = HostPathOfOwn(process, own);
  struct stat status;
  if (lstat(host.c_str(), &status) != 0) return -errno;
  *path = absl::StrCat("/proc/self", name.empty() ? "" : "/", name);
  bool link = S_ISLNK(status.st_mode);
  if (link && own.name == "exe" && !(flags & O_NOFOLLOW)) return OpenProgram(process, flags, path);
  if (flags & O_PATH) return HostOpen(host, flags | (link ? O_NOFOLLOW : 0));
  if (link && (flags & O_NOFOLLOW)) return -ELOOP;
  if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) return -EEXIST;
  bool writes = (flags & O_ACCMODE) != O_RDONLY;
  flags &= ~(O_CREAT | O_TRUNC);
  if (!IsMade(own)) {
    if (!PassesOn(own.name) || (writes && !PassesOnWrites(own.name))) return -EACCES;
    if (writes) process.changed_settings().Note(SettingIn(own.name));
    return HostOpen(host, flags);
  }
  if (flags & O_DIRECTORY) return -ENOTDIR;
  if (writes && own.name != "mem" && own.name != "comm") return -EACCES;
  // The rights are for the host to judge.
  if (int error = faccessat(AT_FDCWD, host.c_str(), writes ? W_OK : R_OK, AT_EACCESS); error != 0) {
    return -errno;
  }
  return OpenProcStandIn(flags);
}

OwnedFd OwnFileToLookAt(Process& process, const std::shared_ptr<OpenFile>& file) {
  if (file == nullptr || file->description->kind != FileKind::kProc) return OwnedFd();
  absl::string_view name = file->description->path;
  absl::ConsumePrefix(&name, "/proc/self/");
  std::string host = HostPathOfOwn(process, ParseOwnName(std::string(name)));
  return OwnedFd(open(host.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
}

bool OwnDirectory(Process& process, const std::string& path, std::vector<uint64_t>* numbers) {
  if (!absl::StartsWith(path, "/proc/self/")) return false;
  bool tasks = path == "/proc/self/task";
  OwnName own = ParseOwnName(path.substr(sizeof("/proc/self/") - 1));
  if (!tasks && own.name != "fd" && own.name != "fdinfo") return false;
  if (tasks) {
    for (uint32_t tid : process.Tids()) numbers->push_back(tid);
    std::sort(numbers->begin(), numbers->end());
  } else {
    for (const FdTable::Entry& entry : process.files().Entries()) {
      numbers->push_back(static_cast<uint64_t>(entry.number));
    }
  }
  return true;
}

}  // namespace km
