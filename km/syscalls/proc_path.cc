#include "km/syscalls/proc_path.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "km/base/owned.h"
#include "km/files/host_path.h"

namespace km {
namespace {

constexpr int kMostLinks = 40;  // as in the kernel

// A number as procfs writes it. False for everything else.
bool ParseNumber(const std::string& name, uint64_t* out) {
  if (name.empty() || name.size() > 10 || (name[0] == '0' && name.size() > 1)) return false;
  if (name.find_first_not_of("0123456789") != std::string::npos) return false;
  return absl::SimpleAtoi(name, out);
}

// Whether /proc/`name` is of a thread of the monitor, or of the writer of a live snapshot: a copy
// of it, and its only child without an exit signal.
bool IsMonitors(const std::string& name) {
  uint64_t id = 0;
  if (!ParseNumber(name, &id)) return false;
  const std::string thread = absl::StrCat("/proc/self/task/", name);
  if (access(thread.c_str(), F_OK) == 0 || errno != ENOENT) return true;
  siginfo_t info;
  constexpr int kLook = WEXITED | WNOHANG | WNOWAIT | __WCLONE;
  return waitid(P_PID, static_cast<id_t>(id), &info, kLook) == 0;
}

// By its name alone.
bool IsBelowProc(absl::string_view path) {
  return path == "/proc" || absl::StartsWith(path, "/proc/");
}

// Below the directory of a process.
bool IsBelowProcess(const std::string& path) {
  std::vector<std::string> parts = absl::StrSplit(path, absl::MaxSplits('/', 3));
  uint64_t id = 0;
  return parts.size() >= 3 && parts[1] == "proc" && ParseNumber(parts[2], &id);
}

// Whether the text of a link into another process is a name of what it leads to: not of a file that
// is deleted or has none, nor in another mount namespace.
bool IsNameOf(const std::string& text, const std::string& link) {
  constexpr unsigned kWanted = STATX_INO | STATX_MNT_ID;
  struct statx named, linked;
  return text[0] == '/' && statx(AT_FDCWD, text.c_str(), AT_NO_AUTOMOUNT, kWanted, &named) == 0 &&
         statx(AT_FDCWD, link.c_str(), AT_NO_AUTOMOUNT, kWanted, &linked) == 0 &&
         (named.stx_mask & linked.stx_mask & STATX_MNT_ID) != 0 &&
         named.stx_mnt_id == linked.stx_mnt_id && named.stx_ino == linked.stx_ino;
}

// Why the host would not follow a link in an ordinary directory: on a file system where none are
// followed, or somebody else's where everybody may write (fs.protected_symlinks). It looks no
// further than that directory and what is below it, where its answer is the program's as well.
int Refusal(const std::string& directory, const std::string& link) {
  OwnedFd at(open(directory.empty() ? "/" : directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  open_how look = {};
  look.flags = O_PATH | O_CLOEXEC;
  look.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
  OwnedFd fd(static_cast<int>(syscall(SYS_openat2, at.get(), link.c_str(), &look, sizeof(look))));
  return !fd.valid() && (errno == EACCES || errno == ELOOP) ? -errno : 0;
}

// As the program calls it: the host's name of a directory below /proc/self has host's numbers.
std::string DirectoryPath(const OpenFile& file) {
  const std::string& own = file.description->path;
  return absl::StartsWith(own, "/proc/self") ? own : HostPathOf(file.host.get());
}

bool ReadLink(const std::string& path, std::string* target) {
  char text[PATH_MAX];
  ssize_t length = readlink(path.c_str(), text, sizeof(text));
  if (length < 0) return false;
  target->assign(text, static_cast<size_t>(length));
  return true;
}

class Walk {
 public:
  Walk(const Call& call, LastLink last, ProcPath* out)
      : process_(call.process), tid_(call.thread.tid), last_(last), out_(out) {}

  int Run(const std::string& path) {
    if (path.empty()) return -ENOENT;
    Push(path);
    if (path.back() == '/') last_ = LastLink::kFollow;
    while (!rest_.empty() && !ended_) {
      if (int error = Step(Pop()); error != 0) return error;
    }
    if (ended_) return 0;
    out_->kind = ProcPath::Kind::kOrdinary;
    out_->path = at_.empty() ? "/" : at_;
    if (path.back() == '/' && !at_.empty()) out_->path += '/';
    return 0;
  }

 private:
  // The components of `path` come before what is left.
  void Push(const std::string& path) {
    if (path[0] == '/') at_.clear();
    std::vector<std::string> names = absl::StrSplit(path, '/', absl::SkipEmpty());
    rest_.insert(rest_.end(), names.rbegin(), names.rend());
  }
  std::string Pop() {
    std::string name = std::move(rest_.back());
    rest_.pop_back();
    return name;
  }
  bool KeepLink() const { return rest_.empty() && last_ == LastLink::kKeep; }

  int Step(const std::string& name) {
    if (name == ".") return 0;
    if (name == "..") {
      at_.resize(at_.empty() ? 0 : at_.rfind('/'));
      return 0;
    }
    std::string next = absl::StrCat(at_, "/", name);
    if (at_ == "/proc") {
      if (name == "self" || name == "thread-self") {
        if (KeepLink()) return End(ProcPath::Kind::kOrdinary, next);
        return name == "self" ? StepOwn("") : StepThread(absl::StrCat(tid_));
      }
      uint64_t id = 0;
      if (ParseNumber(name, &id)) {
        if (id == process_.identity().pid || id == static_cast<uint64_t>(getpid())) {
          return StepOwn("");
        }
        // Natively a thread can be entered by its number, too.
        if (process_.HasThread(static_cast<uint32_t>(id))) return StepThread(name);
        if (IsMonitors(name)) return -ENOENT;
      }
    }
    std::string target;
    if (!KeepLink() && ReadLink(next, &target) && !target.empty()) {
      if (IsBelowProcess(at_) && !IsNameOf(target, next)) return EndForeign(name);
      if (!IsBelowProc(at_)) {
        if (int error = Refusal(at_, name); error != 0) return error;
      }
      return Follow(target);
    }
    at_ = next;
    return 0;
  }

  int Follow(const std::string& target) {
    if (++links_ > kMostLinks) return -ELOOP;
    Push(target);
    return 0;
  }

  int End(ProcPath::Kind kind, std::string path, uint64_t fd = 0) {
    ended_ = true;
    out_->kind = kind;
    out_->path = std::move(path);
    out_->fd = fd;
    return 0;
  }

  int EndForeign(const std::string& name) {
    out_->name = name;
    out_->rest = absl::StrJoin(rest_.rbegin(), rest_.rend(), "/");
    return End(ProcPath::Kind::kForeignLink, at_);
  }

  std::string PopOwn() {
    while (!rest_.empty() && rest_.back() == ".") rest_.pop_back();
    return rest_.empty() ? "" : Pop();
  }

  // The program's own directory, or that of one of its threads, has been entered: `directory` is
  // "" or "task/TID/".
  int StepOwn(const std::string& directory) {
    at_ = "/proc/self";
    std::string name = PopOwn(), next;
    if (name.empty()) return End(ProcPath::Kind::kOwn, directory.substr(0, directory.size() - 1));
    if (name == "..") {
      if (!directory.empty()) return StepTask();
      at_ = "/proc";
      return 0;
    }
    if (name == "task" && directory.empty()) return StepTask();
    if (name == "fd" || name == "fdinfo") return StepDescriptors(directory, name);
    bool named = name == "exe" && process_.identity().program.file == nullptr;
    if (named || name == "cwd" || name == "root") {
      if (KeepLink()) return End(ProcPath::Kind::kOwn, directory + name);
      return Follow(OwnLink(process_, 0, name));
    }
    while (!(next = PopOwn()).empty()) {
      if (next != "..") {
        absl::StrAppend(&name, "/", next);
      } else if (size_t slash = name.rfind('/'); slash != std::string::npos) {
        name.resize(slash);
      } else {
        return StepOwn(directory);
      }
    }
    return End(ProcPath::Kind::kOwn, directory + name);
  }

  int StepTask() {
    std::string name = PopOwn();
    if (name.empty()) return End(ProcPath::Kind::kOwn, "task");
    if (name == "..") return StepOwn("");
    uint64_t id = 0;
    if (!ParseNumber(name, &id) || !process_.HasThread(static_cast<uint32_t>(id))) return -ENOENT;
    return StepThread(name);
  }

  int StepThread(const std::string& tid) { return StepOwn(absl::StrCat("task/", tid, "/")); }

  int StepDescriptors(const std::string& parent, const std::string& directory) {
    std::string name = PopOwn();
    if (name.empty()) return End(ProcPath::Kind::kOwn, parent + directory);
    if (name == "..") return StepOwn(parent);
    uint64_t fd = 0;
    if (!ParseNumber(name, &fd)) return -ENOENT;
    auto file = process_.files().Get(fd);
    if (file == nullptr) return -ENOENT;
    if (directory == "fdinfo") {
      if (!rest_.empty()) return -ENOTDIR;
      return End(ProcPath::Kind::kOwn, absl::StrCat(parent, "fdinfo/", fd));
    }
    if (rest_.empty()) return End(ProcPath::Kind::kDescriptor, "", fd);
    std::string target = DirectoryPath(*file);
    return !target.empty() && target[0] == '/' ? Follow(target) : -ENOTDIR;
  }

  Process& process_;
  const uint32_t tid_;  // whose thread-self is asked for
  LastLink last_;
  ProcPath* const out_;
  std::string at_;                 // absolute, without a slash at its end: "" is the root
  std::vector<std::string> rest_;  // the next one is the last
  int links_ = 0;
  bool ended_ = false;
};

}  // namespace

bool MayLeadToProc(const HostPath& path) {
  if (path.path.empty()) return false;
  if (path.path[0] != '/') {
    return path.directory != nullptr && IsBelowProc(path.directory->description->path);
  }
  size_t start = path.path.find_first_not_of('/');
  if (start == std::string::npos) return false;
  absl::string_view from_root = absl::string_view(path.path).substr(start - 1);
  return IsBelowProc(from_root) || absl::StartsWith(from_root, "/dev/");
}

int WalkPath(const Call& call, const HostPath& path, LastLink last, ProcPath* out) {
  std::string directory;
  if (!path.path.empty() && path.path[0] != '/') {
    directory = path.directory != nullptr ? path.directory->description->path
                                          : OwnLink(call.process, 0, "cwd");
    if (directory.empty() || directory[0] != '/') return -ENOTDIR;
    // The directory's own name goes through the walk as well: it may be one below /proc.
    return Walk(call, last, out).Run(absl::StrCat(directory, "/", path.path));
  }
  return Walk(call, last, out).Run(path.path);
}

OwnName ParseOwnName(const std::string& name) {
  std::vector<std::string> parts = absl::StrSplit(name, absl::MaxSplits('/', 2));
  uint64_t tid = 0;
  if (parts.size() < 2 || parts[0] != "task" || !ParseNumber(parts[1], &tid)) return {0, name};
  return {static_cast<uint32_t>(tid), parts.size() == 3 ? parts[2] : ""};
}

std::string HostPathOfOwn(Process& process, const OwnName& own) {
  // What the kernel shows of the first thread where the process is asked for.
  static constexpr const char* kOfThread[] = {"personality", "sched", "schedstat", "timerslack_ns",
                                              "wchan"};
  std::string name = own.name;
  if (absl::StartsWith(name, "fdinfo/")) {
    uint64_t fd = 0;
    auto file =
        ParseNumber(name.substr(sizeof("fdinfo/") - 1), &fd) ? process.files().Get(fd) : nullptr;
    if (file == nullptr) return "";
    name = absl::StrCat("fdinfo/", file->host.get());
  }
  bool of_thread =
      std::find(std::begin(kOfThread), std::end(kOfThread), name) != std::end(kOfThread);
  uint32_t tid = own.tid != 0 || !of_thread ? own.tid : process.identity().pid;
  // Not by the link: what is asked for may be the directory.
  if (tid == 0) return absl::StrCat("/proc/", getpid(), name.empty() ? "" : "/", name);
  if (!process.HasThread(tid)) return own.tid == 0 ? absl::StrCat("/proc/self/", name) : "";
  int host_tid = process.HostTid(static_cast<int>(tid));
  // By its number alone a thread has what only processes show in "task".
  if (own.tid == 0) return absl::StrCat("/proc/", host_tid, "/", name);
  return absl::StrCat("/proc/self/task/", host_tid, name.empty() ? "" : "/", name);
}

bool IsOwnPath(const std::string& path) {
  return path == "/proc/self" || absl::StartsWith(path, "/proc/self/");
}

int JudgeProcFile(int host_fd) {
  struct statfs system;
  if (fstatfs(host_fd, &system) != 0) return -errno;
  if (system.f_type != PROC_SUPER_MAGIC) return 0;
  const std::string path = HostPathOf(host_fd);
  if (!IsBelowProc(path)) return -EACCES;
  std::vector<std::string> parts = absl::StrSplit(path, absl::MaxSplits('/', 3));
  uint64_t id = 0;
  if (parts.size() < 3 || !ParseNumber(parts[2], &id)) return 0;
  if (IsMonitors(parts[2])) return -ELOOP;
  // A thread of the monitor's that has ended is not found, but what was opened in its directory
  // stays good. So the file must still be there after the look: then the number was its process's
  // meanwhile. A name that was looked up again, as below net, the host calls deleted.
  const std::string name(absl::StripSuffix(path, " (deleted)"));
  struct stat opened, found;
  const bool there = fstat(host_fd, &opened) == 0 && lstat(name.c_str(), &found) == 0 &&
                     opened.st_ino == found.st_ino && opened.st_dev == found.st_dev;
  return there ? 0 : -ESRCH;
}

std::string OwnLink(Process& process, uint32_t tid, const std::string& name) {
  uint32_t pid = process.identity().pid;
  if (name == "exe") {
    const MappedFile* file = process.identity().program.file.get();
    // The host's name tells when it was renamed or deleted.
    return file != nullptr ? HostPathOf(file->fd.get()) : process.identity().executable;
  }
  if (name == "root") return "/";
  if (name == "self") return absl::StrCat(pid);
  if (name == "thread-self") return absl::StrCat(pid, "/task/", tid);
  if (name != "cwd") return "";
  char text[PATH_MAX];
  return getcwd(text, sizeof(text)) != nullptr ? text : "/";
}

}  // namespace km
