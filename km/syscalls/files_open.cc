// Descriptors: made, copied, closed, and their flags.
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "km/files/host_path.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/proc_files.h"
#include "km/syscalls/proc_path.h"

namespace km {
namespace {

// VALID_OPEN_FLAGS of include/linux/fcntl.h: open ignores others, openat2 does not.
constexpr int kOpenFlags = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND |
                           O_NONBLOCK | O_SYNC | O_ASYNC | O_DIRECT | O_DIRECTORY | O_NOFOLLOW |
                           O_NOATIME | O_PATH | O_TMPFILE | O_LARGEFILE;
constexpr int kPathFlags = O_PATH | O_DIRECTORY | O_NOFOLLOW;

struct Opening {
  int flags;
  uint64_t mode;
};

// A file that was opened, and what FileDescription says of it.
struct Opened {
  OwnedFd fd;
  FileKind kind = FileKind::kOther;
  std::string path;
};

bool BelowProc(const OwnedFd& fd) {
  struct statfs system;
  return fstatfs(fd.get(), &system) == 0 && system.f_type == PROC_SUPER_MAGIC;
}

int OpenOwn(Call& call, const std::string& name, const Opening& how, Opened* out) {
  int fd = OpenOwnFile(call.process, call.thread, name, how.flags, &out->path);
  if (fd < 0) return fd;
  out->fd = OwnedFd(fd);
  out->kind = KindOfHostFd(fd);
  if (out->kind == FileKind::kMemFd) out->kind = FileKind::kRegular;
  return 0;
}

// Looks at what the host opened. The monitor's own directory in /proc is exchanged for the program's;
// the machine that the program runs in is nothing for it to open.
int Inspect(Call& call, const Opening& how, Opened* out) {
  struct stat status;
  if (fstat(out->fd.get(), &status) != 0) return -errno;
  if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(10, 232)) return -EACCES;
  if (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) {
    out->kind = S_ISREG(status.st_mode) ? FileKind::kRegular : FileKind::kDirectory;
    out->path = HostPathOf(out->fd.get());
    if (absl::StartsWith(out->path, "/memfd:")) out->kind = FileKind::kMemFd;
  } else {
    out->kind = KindOfHostFd(out->fd.get());
  }
  if (how.flags & O_PATH) out->kind = FileKind::kPath;
  // Only file systems without a device of their own can be procfs.
  if (major(status.st_dev) != 0 || !BelowProc(out->fd)) return 0;
  HostPath path;
  path.path = HostPathOf(out->fd.get());
  if (!MayLeadToProc(path)) return -EACCES;  // procfs in another place
  ProcPath target;
  if (int error = WalkPath(call.process, path, LastLink::kKeep, &target); error != 0) return error;
  if (target.kind == ProcPath::Kind::kOrdinary) return 0;
  if (target.kind == ProcPath::Kind::kDescriptor) return -EACCES;
  return OpenOwn(call, target.path, how, out);
}

// Without the links in /proc that are no paths but lead into a process (/proc/PID/fd/N and the like).
int64_t HostOpen(Call& call, const HostPath& path, const Opening& how) {
  open_how host = {};
  host.flags = static_cast<uint64_t>(how.flags) | O_CLOEXEC;
  host.mode = how.mode;
  host.resolve = RESOLVE_NO_MAGICLINKS;
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
  if (how.flags & O_NOFOLLOW) return -ELOOP;
  std::string link = absl::StrCat("/proc/self/fd/", file->host.get());
  int64_t fd = call.thread.Block(SYS_openat, static_cast<uint64_t>(AT_FDCWD),
                                 reinterpret_cast<uint64_t>(link.c_str()),
                                 static_cast<uint64_t>(how.flags | O_CLOEXEC), how.mode);
  if (fd < 0) return fd;
  out->fd = OwnedFd(static_cast<int>(fd));
  return Inspect(call, how, out);
}

int64_t OpenWalked(Call& call, const HostPath& path, const Opening& how, Opened* out) {
  LastLink last = (how.flags & O_NOFOLLOW) || (how.flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)
                      ? LastLink::kKeep
                      : LastLink::kFollow;
  ProcPath target;
  if (int error = WalkPath(call.process, path, last, &target); error != 0) return error;
  switch (target.kind) {
    case ProcPath::Kind::kOwn: return OpenOwn(call, target.path, how, out);
    case ProcPath::Kind::kDescriptor: return OpenDescriptor(call, target.fd, how, out);
    case ProcPath::Kind::kOrdinary: break;
  }
  HostPath ordinary;
  ordinary.path = target.path;
  return OpenOrdinary(call, ordinary, how, out);
}

int64_t OpenPath(Call& call, const HostPath& path, const Opening& how, Opened* out) {
  if (MayLeadToProc(path)) return OpenWalked(call, path, how, out);
  int64_t result = OpenOrdinary(call, path, how, out);
  // One of the program's links may lead to one of those in /proc.
  return result == -ELOOP ? OpenWalked(call, path, how, out) : result;
}

int64_t OpenAt(Call& call, int guest_dirfd, size_t i, int flags, uint32_t mode) {
  HostPath path;
  if (int error = CopyPath(call, guest_dirfd, call.Addr(i), &path); error != 0) return error;
  bool close_on_exec = (flags & O_CLOEXEC) != 0;
  Opening how = {flags & kOpenFlags, 0};
  if (flags & O_PATH) how.flags = flags & kPathFlags;
  bool creates = (how.flags & O_CREAT) || (how.flags & O_TMPFILE) == O_TMPFILE;
  if (creates) how.mode = mode & 07777;
  Opened opened;
  if (int64_t result = OpenPath(call, path, how, &opened); result < 0) return result;
  return call.process.files().Add(opened.fd.Release(), opened.kind, std::move(opened.path),
                                  close_on_exec);
}

// Another descriptor of the same open file description, not yet in the table. Null with *error set.
std::shared_ptr<OpenFile> Duplicate(const std::shared_ptr<OpenFile>& file, int* error) {
  int fd = fcntl(file->host.get(), F_DUPFD_CLOEXEC, 3);
  *error = fd < 0 ? -errno : 0;
  return fd < 0 ? nullptr : std::make_shared<OpenFile>(OwnedFd(fd), file->description);
}

int64_t DuplicateFrom(Call& call, uint64_t lowest, bool close_on_exec) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  int error = 0;
  auto copy = Duplicate(file, &error);
  if (copy == nullptr) return error;
  return call.process.files().Install(std::move(copy), close_on_exec, lowest);
}

int64_t DuplicateAt(Call& call, bool close_on_exec) {
  auto file = FileArg(call, 0);
  if (file == nullptr || call.Uint(1) >= call.process.files().limit()) return -EBADF;
  int error = 0;
  auto copy = Duplicate(file, &error);
  if (copy == nullptr) return error;
  return call.process.files().InstallAt(call.Uint(1), std::move(copy), close_on_exec);
}

int64_t MakePipe(Call& call, int flags) {
  int host[2];
  if (pipe2(host, flags | O_CLOEXEC) != 0) return -errno;
  bool close_on_exec = (flags & O_CLOEXEC) != 0;
  FdTable& files = call.process.files();
  OwnedFd writing(host[1]);
  int fds[2];
  fds[0] = files.Add(host[0], FileKind::kPipe, HostPathOf(host[0]), close_on_exec);
  if (fds[0] < 0) return fds[0];
  std::string name = HostPathOf(writing.get());
  fds[1] = files.Add(writing.Release(), FileKind::kPipe, std::move(name), close_on_exec);
  int error = fds[1] < 0 ? fds[1] : call.memory().CopyOut(call.Addr(0), fds);
  if (error == 0) return 0;
  files.Close(static_cast<uint64_t>(fds[0]));
  if (fds[1] >= 0) files.Close(static_cast<uint64_t>(fds[1]));
  return error;
}

}  // namespace

SyscallResult Open(Call& call) { return OpenAt(call, AT_FDCWD, 0, call.Int(1), call.Uint(2)); }
SyscallResult Openat(Call& call) {
  return OpenAt(call, call.Int(0), 1, call.Int(2), call.Uint(3));
}
SyscallResult Creat(Call& call) {
  return OpenAt(call, AT_FDCWD, 0, O_CREAT | O_WRONLY | O_TRUNC, call.Uint(1));
}

SyscallResult Close(Call& call) { return call.process.files().Close(call.Uint(0)); }

SyscallResult CloseRange(Call& call) {
  uint32_t first = call.Uint(0), last = call.Uint(1);
  if (first > last || (call.Uint(2) & ~uint32_t{CLOSE_RANGE_CLOEXEC}) != 0) return -EINVAL;
  FdTable& files = call.process.files();
  for (const FdTable::Entry& entry : files.Entries()) {
    auto fd = static_cast<uint32_t>(entry.number);
    if (fd < first || fd > last) continue;
    if (call.Uint(2) != 0) {
      files.SetCloseOnExec(fd, true);
    } else {
      files.Close(fd);
    }
  }
  return 0;
}

SyscallResult Dup(Call& call) { return DuplicateFrom(call, 0, false); }

SyscallResult Dup2(Call& call) {
  if (call.Uint(0) != call.Uint(1)) return DuplicateAt(call, false);
  return FileArg(call, 0) != nullptr ? call.Int(0) : -EBADF;
}

SyscallResult Dup3(Call& call) {
  if ((call.Int(2) & ~O_CLOEXEC) != 0 || call.Uint(0) == call.Uint(1)) return -EINVAL;
  return DuplicateAt(call, call.Int(2) != 0);
}

SyscallResult Fcntl(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  FdTable& files = call.process.files();
  uint64_t argument = call.arguments[2];
  switch (call.Int(1)) {
    case F_DUPFD: return DuplicateFrom(call, call.Uint(2), false);
    case F_DUPFD_CLOEXEC: return DuplicateFrom(call, call.Uint(2), true);
    case F_GETFD: return files.CloseOnExec(call.Uint(0));
    case F_SETFD: return files.SetCloseOnExec(call.Uint(0), (argument & FD_CLOEXEC) != 0);
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW: argument = call.HostArg(2, sizeof(struct flock)); break;
    case F_GET_RW_HINT:
    case F_SET_RW_HINT:
    case F_GET_FILE_RW_HINT:
    case F_SET_FILE_RW_HINT: argument = call.HostArg(2, sizeof(uint64_t)); break;
    case F_GETFL:
    case F_SETFL:
    case F_GETPIPE_SZ:
    case F_SETPIPE_SZ:
    case F_ADD_SEALS:
    case F_GET_SEALS: break;
    default: return -EINVAL;
  }
  return call.thread.Block(SYS_fcntl, HostFd(file), call.arguments[1], argument);
}

SyscallResult Pipe(Call& call) { return MakePipe(call, 0); }
SyscallResult Pipe2(Call& call) { return MakePipe(call, call.Int(1)); }

SyscallResult Flock(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return call.thread.Block(SYS_flock, HostFd(file), call.arguments[1]);
}

}  // namespace km
