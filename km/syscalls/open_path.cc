#include "km/syscalls/open_path.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "km/files/host_path.h"
#include "km/syscalls/proc_files.h"
#include "km/syscalls/proc_path.h"

namespace km {
namespace {

bool IsRunning(const Call& call, const struct stat& status) {
  return call.process.identity().RunsFrom(status.st_dev, status.st_ino);
}

// The flags for the host: the file that the program runs from must not lose its contents before
// Inspect has seen it.
int HostFlags(const Call& call, int dirfd, const char* path, int flags) {
  struct stat status;
  bool running =
      (flags & O_TRUNC) && fstatat(dirfd, path, &status, 0) == 0 && IsRunning(call, status);
  return (running ? flags & ~O_TRUNC : flags) | O_CLOEXEC;
}

int OpenOwn(Call& call, const std::string& name, const Opening& how, Opened* out) {
  int fd = OpenOwnFile(call.process, name, how.flags, &out->path);
  if (fd < 0) return fd;
  out->fd = OwnedFd(fd);
  out->kind = KindOfHostFd(fd);
  // What is made here stands in memory of its own (see proc_files.h).
  if (out->kind == FileKind::kMemFd) out->kind = FileKind::kProc;
  return 0;
}

// Looks at what the host opened: -ELOOP when one of the program's links has led into the monitor's
// directory in /proc. The machine that the program runs in is nothing for it to open.
int Inspect(Call& call, const Opening& how, Opened* out) {
  struct stat status;
  if (fstat(out->fd.get(), &status) != 0) return -errno;
  if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(10, 232)) return -EACCES;
  bool writes = (how.flags & (O_ACCMODE | O_TRUNC)) != 0;
  if (writes && IsRunning(call, status)) return -ETXTBSY;
  if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) || S_ISLNK(status.st_mode)) {
    out->kind = S_ISREG(status.st_mode) ? FileKind::kRegular : FileKind::kDirectory;
    out->path = HostPathOf(out->fd.get());
    if (absl::StartsWith(out->path, "/memfd:")) out->kind = FileKind::kMemFd;
  } else {
    out->kind = KindOfHostFd(out->fd.get());
  }
  if (how.flags & O_PATH) out->kind = FileKind::kPath;
  // Only file systems without a device of their own can be procfs.
  return major(status.st_dev) == 0 ? JudgeProcFile(out->fd.get()) : 0;
}

// Without the links in /proc that are no paths but lead into a process (/proc/PID/fd/N and the
// like).
int64_t HostOpen(Call& call, const HostPath& path, const Opening& how) {
  open_how host = {};
  host.flags = static_cast<uint64_t>(HostFlags(call, path.dirfd, path.c_str(), how.flags));
  host.mode = how.mode;
  host.resolve = how.resolve | RESOLVE_NO_MAGICLINKS;
  return call.thread.Block(SYS_openat2, static_cast<uint64_t>(path.dirfd),
                           reinterpret_cast<uint64_t>(path.c_str()),
                           reinterpret_cast<uint64_t>(&host), sizeof(host));
}

int64_t OpenOrdinary(Call& call, const HostPath& path, const Opening& how, Opened* out) {
  int64_t fd = HostOpen(call, path, how);
  if (fd < 0) return fd;
  out->fd = OwnedFd(static_cast<int>(fd));
  return Inspect(call, how, out);
}

// Another open file description of what a descriptor of the program's stands for.
int64_t OpenDescriptor(Call& call, uint64_t number, const Opening& how, Opened* out) {
  auto file = call.process.files().Get(number);
  if (file == nullptr) return -ENOENT;
  const std::string link = absl::StrCat("/proc/self/fd/", file->host.get());
  if (how.flags & O_NOFOLLOW) {
    if ((how.flags & O_PATH) == 0) return -ELOOP;
    out->fd = OwnedFd(open(link.c_str(), how.flags | O_CLOEXEC));
    if (!out->fd.valid()) return -errno;
    out->kind = FileKind::kPath;
    out->path = absl::StrCat("/proc/self/fd/", number);
    return 0;
  }
  const std::string& path = file->description->path;
  if (IsOwnPath(path)) {
    absl::string_view name = absl::StripPrefix(absl::StripPrefix(path, "/proc/self"), "/");
    return OpenOwn(call, std::string(name), how, out);
  }
  int flags = HostFlags(call, AT_FDCWD, link.c_str(), how.flags);
  int64_t fd = call.thread.Block(SYS_openat, static_cast<uint64_t>(AT_FDCWD),
                                 reinterpret_cast<uint64_t>(link.c_str()),
                                 static_cast<uint64_t>(flags), how.mode);
  if (fd < 0) return fd;
  out->fd = OwnedFd(static_cast<int>(fd));
  return Inspect(call, how, out);
}

// A link that leads into another process. The directory that it is in is held while it is followed:
// by then its number may be one of the monitor's.
int64_t OpenForeignLink(Call& call, const ProcPath& link, const Opening& how, Opened* out) {
  OwnedFd directory(open(link.path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  struct statfs system;
  if (!directory.valid() || fstatfs(directory.get(), &system) != 0) return -errno;
  if (system.f_type != PROC_SUPER_MAGIC) return -ELOOP;
  if (int error = JudgeProcFile(directory.get()); error != 0) return error;
  const char* name = link.name.c_str();
  if (!link.rest.empty()) {
    OwnedFd start(openat(directory.get(), name, O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!start.valid()) return -errno;
    HostPath rest;
    rest.dirfd = start.get();
    rest.path = link.rest;
    return OpenOrdinary(call, rest, how, out);
  }
  int flags = HostFlags(call, directory.get(), name, how.flags);
  int64_t fd =
      call.thread.Block(SYS_openat, static_cast<uint64_t>(directory.get()),
                        reinterpret_cast<uint64_t>(name), static_cast<uint64_t>(flags), how.mode);
  if (fd < 0) return fd;
  out->fd = OwnedFd(static_cast<int>(fd));
  out->foreign = true;
  return Inspect(call, how, out);
}

int64_t OpenWalkedOnce(Call& call, const HostPath& path, Opening how, Opened* out) {
  LastLink last = (how.flags & O_NOFOLLOW) || (how.flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)
                      ? LastLink::kKeep
                      : LastLink::kFollow;
  ProcPath target;
  if (int error = WalkPath(call, path, last, &target); error != 0) return error;
  if (target.kind == ProcPath::Kind::kOrdinary) {
    HostPath ordinary;
    ordinary.path = target.path;
    return OpenOrdinary(call, ordinary, how, out);
  }
  if (path.path.back() == '/') how.flags |= O_DIRECTORY;
  switch (target.kind) {
    case ProcPath::Kind::kOwn:
      return OpenOwn(call, target.path, how, out);
    case ProcPath::Kind::kDescriptor:
      return OpenDescriptor(call, target.fd, how, out);
    default:
      return OpenForeignLink(call, target, how, out);
  }
}

int64_t OpenWalked(Call& call, const HostPath& path, const Opening& how, Opened* out) {
  constexpr int kMostTries = 8;  // another thread may be changing the links
  int64_t result = -ELOOP;
  for (int i = 0; i < kMostTries && result == -ELOOP; ++i) {
    result = OpenWalkedOnce(call, path, how, out);
  }
  return result;
}

// Whether a path that leads nowhere for the host may lead to one of the program's own descriptors
// or threads, whose numbers the host does not know: it comes through procfs.
bool MayComeThroughProc(const HostPath& path) {
  struct statfs system;
  if (path.path[0] != '/' && path.directory == nullptr && statfs(".", &system) == 0 &&
      system.f_type == PROC_SUPER_MAGIC) {
    return true;
  }
  open_how look = {};
  look.flags = O_PATH | O_CLOEXEC;
  look.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
  OwnedFd fd(static_cast<int>(syscall(SYS_openat2, path.dirfd, path.c_str(), &look, sizeof(look))));
  return !fd.valid() && errno == EXDEV;
}

int64_t PinWith(Call& call, int flags, HostPath* path) {
  Opened opened;
  if (int64_t result = OpenPath(call, *path, {flags, 0}, &opened); result < 0) return result;
  auto description = std::make_shared<FileDescription>();
  description->kind = opened.kind;
  description->path = std::move(opened.path);
  path->dirfd = opened.fd.get();
  path->path.clear();
  path->directory = std::make_shared<OpenFile>(std::move(opened.fd), std::move(description));
  return 0;
}

// What the host says of a path under the restrictions that the program asked for, with no more than
// a look at it: 0 or a negative errno.
int64_t Judge(const HostPath& path, uint64_t resolve) {
  open_how look = {};
  look.flags = O_PATH | O_CLOEXEC;
  look.resolve = resolve;
  OwnedFd fd(static_cast<int>(syscall(SYS_openat2, path.dirfd, path.c_str(), &look, sizeof(look))));
  return fd.valid() ? 0 : -errno;
}

// A path that stays below its directory, as an absolute one.
std::string FromRoot(const Call& call, const HostPath& path) {
  std::string directory = path.directory != nullptr ? path.directory->description->path
                                                    : OwnLink(call.process, 0, "cwd");
  return absl::StrCat(directory, "/", path.path);
}

// With RESOLVE_*: the host keeps to them on the path as it stands, and what it opened is looked at
// like any other file. Only what the host does not know the program by is walked to.
int64_t OpenRestricted(Call& call, const HostPath& path, const Opening& how, Opened* out) {
  bool scoped = how.resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT);
  HostPath walked = path;
  if (scoped) walked.path = FromRoot(call, path);
  ProcPath target;
  if (MayLeadToProc(walked)) {
    LastLink last = how.flags & O_NOFOLLOW ? LastLink::kKeep : LastLink::kFollow;
    if (int error = WalkPath(call, walked, last, &target); error != 0) return error;
    if (target.kind == ProcPath::Kind::kDescriptor) {
      return how.resolve & (RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS) ? -ELOOP : -EXDEV;
    }
    if (target.kind == ProcPath::Kind::kOwn) {
      // The program's directory may have another number there: that it is missing says nothing.
      int64_t error = Judge(path, how.resolve);
      return error == 0 || error == -ENOENT ? OpenOwn(call, target.path, how, out) : error;
    }
  }
  int64_t result = OpenOrdinary(call, path, how, out);
  if (result != -ELOOP) return result;
  // A loop, a magic link, which the host was told not to follow, or the program's directory: would
  // the host have refused as well?
  if (int64_t error = Judge(path, how.resolve); error != 0) return error;
  bool own =
      WalkPath(call, walked, LastLink::kKeep, &target) == 0 && target.kind == ProcPath::Kind::kOwn;
  return own ? OpenOwn(call, target.path, how, out) : -EXDEV;
}

}  // namespace

int64_t OpenPath(Call& call, const HostPath& path, const Opening& how, Opened* out) {
  if (how.resolve & ~uint64_t{RESOLVE_CACHED}) return OpenRestricted(call, path, how, out);
  if (MayLeadToProc(path)) return OpenWalked(call, path, how, out);
  int64_t result = OpenOrdinary(call, path, how, out);
  // One of the program's links may lead to one of those in /proc.
  if (result == -ELOOP || (result == -ENOENT && !path.path.empty() && MayComeThroughProc(path))) {
    return OpenWalked(call, path, how, out);
  }
  return result;
}

int64_t Pin(Call& call, LastLink last, HostPath* path) {
  return PinWith(call, last == LastLink::kKeep ? O_PATH | O_NOFOLLOW : O_PATH, path);
}

int64_t PinnedPath(Call& call, int guest_dirfd, size_t i, HostPath* out) {
  if (int error = CopyPath(call, guest_dirfd, call.Addr(i), out); error != 0) return error;
  if (out->path.empty()) return 0;
  if (int64_t error = Pin(call, LastLink::kFollow, out); error != 0) return error;
  out->path = absl::StrCat("/proc/self/fd/", out->dirfd);
  out->dirfd = AT_FDCWD;
  return 0;
}

int64_t PathArg(Call& call, int guest_dirfd, size_t i, LastLink last, HostPath* out) {
  if (last == LastLink::kFollow) return PinnedPath(call, guest_dirfd, i, out);
  if (int error = CopyPath(call, guest_dirfd, call.Addr(i), out); error != 0) return error;
  size_t name_end = out->path.find_last_not_of('/');
  if (name_end == std::string::npos) return 0;  // empty, or the root
  size_t slash = out->path.rfind('/', name_end);
  if (slash == std::string::npos) return 0;  // just a name: no link on the way
  HostPath parent = *out;
  parent.path.resize(slash + 1);
  if (int64_t error = PinWith(call, O_PATH | O_DIRECTORY, &parent); error != 0) return error;
  out->path = absl::StrCat("/proc/self/fd/", parent.dirfd, out->path.substr(slash));
  out->dirfd = AT_FDCWD;
  out->directory = std::move(parent.directory);
  return 0;
}

}  // namespace km
