#include "km/syscalls/proc_path.h"

#include <linux/limits.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
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

bool IsGuestThread(Process& process, uint64_t id) {
  std::vector<uint32_t> tids = process.Tids();
  return id == process.identity().pid || std::find(tids.begin(), tids.end(), id) != tids.end();
}

// The directory of the program, or of a thread of the monitor, which must not be seen either.
bool IsOwnNumber(Process& process, const std::string& name) {
  uint64_t id = 0;
  if (!ParseNumber(name, &id)) return false;
  return IsGuestThread(process, id) || id == static_cast<uint64_t>(getpid()) ||
         access(absl::StrCat("/proc/self/task/", id).c_str(), F_OK) == 0;
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
  Walk(Process& process, LastLink last, ProcPath* out)
      : process_(process), last_(last), out_(out) {}

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
      bool link = name == "self" || name == "thread-self";
      if (link && KeepLink()) {
        at_ = next;
        return 0;
      }
      if (link || IsOwnNumber(process_, name)) return StepOwn();
    }
    std::string target;
    if (!KeepLink() && ReadLink(next, &target) && !target.empty()) return Follow(target);
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

  // The program's own directory has been entered.
  int StepOwn() {
    at_ = "/proc/self";
    while (!rest_.empty() && rest_.back() == ".") rest_.pop_back();
    if (rest_.empty()) return End(ProcPath::Kind::kOwn, "");
    std::string name = Pop();
    if (name == "..") {
      at_ = "/proc";
      return 0;
    }
    if (name == "task") return StepTask();
    if (name == "fd" || name == "fdinfo") return StepDescriptors(name);
    if (name == "exe" || name == "cwd" || name == "root") {
      if (KeepLink()) return End(ProcPath::Kind::kOwn, name);
      return Follow(OwnLink(process_, 0, name));
    }
    while (!rest_.empty()) {
      if (rest_.back() == "..") return -EACCES;
      absl::StrAppend(&name, "/", Pop());
    }
    return End(ProcPath::Kind::kOwn, name);
  }

  // A thread's directory shows what the process's does.
  int StepTask() {
    if (rest_.empty()) return End(ProcPath::Kind::kOwn, "task");
    std::string name = Pop();
    if (name == "..") return StepOwn();
    uint64_t id = 0;
    if (!ParseNumber(name, &id)) return -ENOENT;
    bool ours = IsGuestThread(process_, id) || IsOwnNumber(process_, name);
    return ours ? StepOwn() : -ENOENT;
  }

  int StepDescriptors(const std::string& directory) {
    if (rest_.empty()) return End(ProcPath::Kind::kOwn, directory);
    std::string name = Pop();
    if (name == "..") return StepOwn();
    uint64_t fd = 0;
    if (!ParseNumber(name, &fd)) return -ENOENT;
    auto file = process_.files().Get(fd);
    if (file == nullptr) return -ENOENT;
    if (directory == "fdinfo") {
      return End(ProcPath::Kind::kOwn, absl::StrCat("fdinfo/", file->host.get()));
    }
    if (rest_.empty()) return End(ProcPath::Kind::kDescriptor, "", fd);
    std::string target = HostPathOf(file->host.get());
    return !target.empty() && target[0] == '/' ? Follow(target) : -ENOTDIR;
  }

  Process& process_;
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
    return path.directory != nullptr &&
           absl::StartsWith(path.directory->description->path, "/proc");
  }
  size_t start = path.path.find_first_not_of('/');
  if (start == std::string::npos) return false;
  return path.path.compare(start, 4, "proc") == 0 || path.path.compare(start, 4, "dev/") == 0;
}

int WalkPath(Process& process, const HostPath& path, LastLink last, ProcPath* out) {
  std::string directory;
  if (!path.path.empty() && path.path[0] != '/') {
    directory =
        path.directory != nullptr ? path.directory->description->path : OwnLink(process, 0, "cwd");
    if (directory.empty() || directory[0] != '/') return -ENOTDIR;
    // The directory's own name goes through the walk as well: it may be one below /proc.
    return Walk(process, last, out).Run(absl::StrCat(directory, "/", path.path));
  }
  return Walk(process, last, out).Run(path.path);
}

std::string OwnLink(Process& process, uint32_t tid, const std::string& name) {
  uint32_t pid = process.identity().pid;
  if (name == "exe") return process.identity().executable;
  if (name == "root") return "/";
  if (name == "self") return absl::StrCat(pid);
  if (name == "thread-self") return absl::StrCat(pid, "/task/", tid);
  if (name != "cwd") return "";
  char text[PATH_MAX];
  return getcwd(text, sizeof(text)) != nullptr ? text : "/";
}

}  // namespace km
