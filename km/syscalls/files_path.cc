// Calls on names of files.
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <utime.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "km/files/host_path.h"
#include "km/files/named_file.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/open_path.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/proc_files.h"
#include "km/syscalls/proc_path.h"

namespace km {
namespace {

LastLink Follows(uint64_t at_flags) {
  return (at_flags & AT_SYMLINK_NOFOLLOW) ? LastLink::kKeep : LastLink::kFollow;
}

// A call `number` on (path, a, b, c) with the path in argument `i`, relative to guest_dirfd, that
// changes what it names.
template <typename... Rest>
int64_t ChangeAt(Call& call, long number, int guest_dirfd, size_t i, LastLink last, Rest... rest) {
  HostPath path;
  if (int64_t error = PathArg(call, guest_dirfd, i, last, &path); error != 0) return error;
  return HostResult(syscall(number, path.dirfd, path.c_str(), rest...));
}

// The same for a name that is made or removed: a link at the path's end is not followed.
template <typename... Rest>
int64_t NameAt(Call& call, long number, int guest_dirfd, size_t i, Rest... rest) {
  return ChangeAt(call, number, guest_dirfd, i, LastLink::kKeep, rest...);
}

// A call that looks at the file that a path leads to: `act` makes it on (dirfd, path, flags).
// `known` are the flags that it has.
template <typename Act>
int64_t LookAt(Call& call, int guest_dirfd, size_t i, uint64_t all_flags, uint32_t known, Act act) {
  auto flags = static_cast<uint32_t>(all_flags);
  HostPath path;
  // Since Linux 6.11 a null pointer may stand for the empty path of AT_EMPTY_PATH: the host's
  // kernel says.
  bool null = call.Addr(i).null() && (flags & AT_EMPTY_PATH);
  int error = null ? DirectoryOf(call, guest_dirfd, &path)
                   : CopyPath(call, guest_dirfd, call.Addr(i), &path);
  if (error != 0) return error;
  if (path.path.empty()) {
    if (!(flags & AT_EMPTY_PATH)) return -ENOENT;
    OwnedFd own = OwnFileToLookAt(call.process, path.directory);
    int fd = own.valid() ? own.get() : path.dirfd;
    return HostResult(act(fd, null ? nullptr : "", flags));
  }
  if ((flags & ~known) != 0) return -EINVAL;
  if (int64_t failed = Pin(call, Follows(flags), &path); failed != 0) return failed;
  return HostResult(act(path.dirfd, "", flags | AT_EMPTY_PATH));
}

constexpr uint32_t kStatFlags =
    AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE;
constexpr uint32_t kAccessFlags = AT_SYMLINK_NOFOLLOW | AT_EACCESS | AT_EMPTY_PATH;

int64_t StatAt(Call& call, int guest_dirfd, size_t i, uint64_t flags, size_t buffer) {
  uint64_t to = call.HostArg(buffer, sizeof(struct stat));
  return LookAt(call, guest_dirfd, i, flags, kStatFlags,
                [to](int fd, const char* path, uint32_t host_flags) {
                  return syscall(SYS_newfstatat, fd, path, to, host_flags);
                });
}

int64_t AccessAt(Call& call, int guest_dirfd, size_t i, uint32_t mode, uint64_t flags) {
  if ((mode & ~uint32_t{R_OK | W_OK | X_OK}) != 0 || (flags & ~uint64_t{kAccessFlags}) != 0) {
    return -EINVAL;
  }
  return LookAt(call, guest_dirfd, i, flags, kAccessFlags,
                [mode](int fd, const char* path, uint32_t host_flags) {
                  return syscall(SYS_faccessat2, fd, path, mode, host_flags);
                });
}

template <typename... Rest>
int64_t OnFd(Call& call, long number, Rest... rest) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return HostResult(syscall(number, file->host.get(), rest...));
}

// fstat(2) and the like: a file of the program's own directory in /proc looks as it does there.
template <typename... Rest>
int64_t LookAtFd(Call& call, long number, Rest... rest) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  OwnedFd own = OwnFileToLookAt(call.process, file);
  return HostResult(syscall(number, own.valid() ? own.get() : file->host.get(), rest...));
}

int64_t DoRename(const HostPath& from, const HostPath& to, uint32_t flags) {
  return HostResult(syscall(SYS_renameat2, from.dirfd, from.c_str(), to.dirfd, to.c_str(), flags));
}

int64_t DoLink(const HostPath& from, const HostPath& to, uint32_t flags) {
  return HostResult(syscall(SYS_linkat, from.dirfd, from.c_str(), to.dirfd, to.c_str(), flags));
}

using TwoPathCall = int64_t(const HostPath& from, const HostPath& to, uint32_t flags);

int64_t TwoPaths(Call& call, int from_dirfd, int to_dirfd, size_t first, TwoPathCall* act) {
  // Either (from, to) or (dirfd, from, dirfd, to, flags), the paths at `first` and behind.
  bool at = first == 1;
  uint32_t flags = at && call.number != SYS_renameat ? call.Uint(4) : 0;
  HostPath from, to;
  bool follow = act == DoLink && (flags & AT_SYMLINK_FOLLOW);
  LastLink last = follow ? LastLink::kFollow : LastLink::kKeep;
  int64_t error = PathArg(call, from_dirfd, first, last, &from);
  if (error == 0) error = PathArg(call, to_dirfd, at ? 3 : 1, LastLink::kKeep, &to);
  return error != 0 ? error : act(from, to, flags);
}

int64_t SymlinkTo(Call& call, int guest_dirfd, size_t i) {
  HostPath text;
  if (int error = CopyPath(call, AT_FDCWD, call.Addr(0), &text); error != 0) return error;
  HostPath path;
  if (int64_t error = PathArg(call, guest_dirfd, i, LastLink::kKeep, &path); error != 0) {
    return error;
  }
  return HostResult(syscall(SYS_symlinkat, text.c_str(), path.dirfd, path.c_str()));
}

// The text of the link that `link` was opened as (O_PATH and O_NOFOLLOW), where the host's would
// show the monitor; empty: the host's.
std::string VirtualLink(const Call& call, const std::string& link) {
  Process& process = call.process;
  uint32_t tid = call.thread.tid;
  if (link == "/proc/self") return OwnLink(process, tid, "self");
  if (link == "/proc/thread-self") return OwnLink(process, tid, "thread-self");
  if (!IsOwnPath(link)) return "";
  std::string name = link.substr(link.rfind('/') + 1);
  uint64_t fd = 0;
  if (!absl::SimpleAtoi(name, &fd)) return OwnLink(process, tid, name);
  auto file = process.files().Get(fd);
  if (file == nullptr) return "";
  const std::string& path = file->description->path;
  if (!IsOwnPath(path)) return PathNow(*file);
  return absl::StrCat("/proc/", process.identity().pid, absl::StripPrefix(path, "/proc/self"));
}

int64_t ReadlinkAt(Call& call, int guest_dirfd, size_t i) {
  int size = call.Int(i + 2);
  if (size <= 0) return -EINVAL;
  HostPath path;
  if (int error = CopyPath(call, guest_dirfd, call.Addr(i), &path); error != 0) return error;
  bool empty = path.path.empty();
  if (!empty) {
    if (int64_t error = Pin(call, LastLink::kKeep, &path); error != 0) return error;
  }
  struct stat status;
  if (fstatat(path.dirfd, "", &status, AT_EMPTY_PATH) != 0) return -errno;
  if (!S_ISLNK(status.st_mode)) return empty ? -ENOENT : -EINVAL;
  std::string text = VirtualLink(call, path.directory->description->path);
  if (text.empty()) {
    return HostResult(syscall(SYS_readlinkat, path.dirfd, "",
                              call.HostArg(i + 1, static_cast<uint64_t>(size)), size));
  }
  uint64_t length = std::min<uint64_t>(text.size(), static_cast<uint64_t>(size));
  int error = call.memory().CopyOut(call.Addr(i + 1), text.data(), length);
  return error != 0 ? error : static_cast<int64_t>(length);
}

constexpr uint64_t kTwoTimes = 2 * sizeof(timespec);
static_assert(sizeof(timespec) == sizeof(timeval));

int64_t TimesAt(Call& call, long number, int guest_dirfd, size_t i, LastLink last) {
  uint64_t times = call.HostArg(i + 1, kTwoTimes);
  // Without a path: the descriptor itself.
  if (call.Addr(i).null() && guest_dirfd != AT_FDCWD) {
    auto file = call.process.files().Get(static_cast<uint32_t>(guest_dirfd));
    if (file == nullptr) return -EBADF;
    return HostResult(syscall(number, file->host.get(), nullptr, times, call.Uint(i + 2)));
  }
  return ChangeAt(call, number, guest_dirfd, i, last, times, call.Uint(i + 2));
}

// FIFOs, sockets and regular files; a device would lead out of the program.
int64_t MakeNode(Call& call, int guest_dirfd, size_t i) {
  uint32_t mode = call.Uint(i + 1);
  if (S_ISCHR(mode) || S_ISBLK(mode)) return -EPERM;
  return NameAt(call, SYS_mknodat, guest_dirfd, i, mode, 0);
}

}  // namespace

SyscallResult Stat(Call& call) { return StatAt(call, AT_FDCWD, 0, 0, 1); }
SyscallResult Lstat(Call& call) { return StatAt(call, AT_FDCWD, 0, AT_SYMLINK_NOFOLLOW, 1); }
SyscallResult Fstat(Call& call) {
  return LookAtFd(call, SYS_fstat, call.HostArg(1, sizeof(struct stat)));
}
SyscallResult Newfstatat(Call& call) { return StatAt(call, call.Int(0), 1, call.arguments[3], 2); }

SyscallResult Statx(Call& call) {
  uint32_t mask = call.Uint(3), sync = call.Uint(2) & AT_STATX_SYNC_TYPE;
  if ((mask & STATX__RESERVED) != 0 || sync == AT_STATX_SYNC_TYPE) return -EINVAL;
  uint64_t to = call.HostArg(4, sizeof(struct statx));
  return LookAt(call, call.Int(0), 1, call.arguments[2], kStatFlags,
                [mask, to](int fd, const char* path, uint32_t flags) {
                  return syscall(SYS_statx, fd, path, flags, mask, to);
                });
}

SyscallResult Statfs(Call& call) {
  HostPath path;
  if (int error = CopyPath(call, AT_FDCWD, call.Addr(0), &path); error != 0) return error;
  if (path.path.empty()) return -ENOENT;
  if (int64_t error = Pin(call, LastLink::kFollow, &path); error != 0) return error;
  return HostResult(syscall(SYS_fstatfs, path.dirfd, call.HostArg(1, sizeof(struct statfs))));
}

SyscallResult Fstatfs(Call& call) {
  return LookAtFd(call, SYS_fstatfs, call.HostArg(1, sizeof(struct statfs)));
}

SyscallResult Access(Call& call) { return AccessAt(call, AT_FDCWD, 0, call.Uint(1), 0); }
SyscallResult Faccessat(Call& call) { return AccessAt(call, call.Int(0), 1, call.Uint(2), 0); }
SyscallResult Faccessat2(Call& call) {
  return AccessAt(call, call.Int(0), 1, call.Uint(2), call.Uint(3));
}

SyscallResult Readlink(Call& call) { return ReadlinkAt(call, AT_FDCWD, 0); }
SyscallResult Readlinkat(Call& call) { return ReadlinkAt(call, call.Int(0), 1); }

SyscallResult Mkdir(Call& call) { return NameAt(call, SYS_mkdirat, AT_FDCWD, 0, call.Uint(1)); }
SyscallResult Mkdirat(Call& call) {
  return NameAt(call, SYS_mkdirat, call.Int(0), 1, call.Uint(2));
}
SyscallResult Mknod(Call& call) { return MakeNode(call, AT_FDCWD, 0); }
SyscallResult Mknodat(Call& call) { return MakeNode(call, call.Int(0), 1); }
SyscallResult Rmdir(Call& call) { return NameAt(call, SYS_unlinkat, AT_FDCWD, 0, AT_REMOVEDIR); }
SyscallResult Unlink(Call& call) { return NameAt(call, SYS_unlinkat, AT_FDCWD, 0, 0); }
SyscallResult Unlinkat(Call& call) {
  return NameAt(call, SYS_unlinkat, call.Int(0), 1, call.Uint(2));
}

SyscallResult Rename(Call& call) { return TwoPaths(call, AT_FDCWD, AT_FDCWD, 0, DoRename); }
SyscallResult Renameat(Call& call) { return Renameat2(call); }
SyscallResult Renameat2(Call& call) {
  return TwoPaths(call, call.Int(0), call.Int(2), 1, DoRename);
}
SyscallResult Link(Call& call) { return TwoPaths(call, AT_FDCWD, AT_FDCWD, 0, DoLink); }
SyscallResult Linkat(Call& call) { return TwoPaths(call, call.Int(0), call.Int(2), 1, DoLink); }
SyscallResult Symlink(Call& call) { return SymlinkTo(call, AT_FDCWD, 1); }
SyscallResult Symlinkat(Call& call) { return SymlinkTo(call, call.Int(1), 2); }

SyscallResult Chmod(Call& call) {
  return ChangeAt(call, SYS_fchmodat, AT_FDCWD, 0, LastLink::kFollow, call.Uint(1));
}
SyscallResult Fchmodat(Call& call) {
  return ChangeAt(call, SYS_fchmodat, call.Int(0), 1, LastLink::kFollow, call.Uint(2));
}
SyscallResult Fchmodat2(Call& call) {
  constexpr long kFchmodat2 = 452;  // since Linux 6.6; not in all headers
  return ChangeAt(call, kFchmodat2, call.Int(0), 1, Follows(call.arguments[3]), call.Uint(2),
                  call.Uint(3));
}
SyscallResult Fchmod(Call& call) { return OnFd(call, SYS_fchmod, call.Uint(1)); }

SyscallResult Chown(Call& call) {
  return ChangeAt(call, SYS_fchownat, AT_FDCWD, 0, LastLink::kFollow, call.Uint(1), call.Uint(2),
                  0);
}
SyscallResult Lchown(Call& call) {
  return ChangeAt(call, SYS_fchownat, AT_FDCWD, 0, LastLink::kKeep, call.Uint(1), call.Uint(2),
                  AT_SYMLINK_NOFOLLOW);
}
SyscallResult Fchownat(Call& call) {
  return ChangeAt(call, SYS_fchownat, call.Int(0), 1, Follows(call.arguments[4]), call.Uint(2),
                  call.Uint(3), call.Uint(4));
}
SyscallResult Fchown(Call& call) { return OnFd(call, SYS_fchown, call.Uint(1), call.Uint(2)); }

SyscallResult Utimensat(Call& call) {
  return TimesAt(call, SYS_utimensat, call.Int(0), 1, Follows(call.arguments[3]));
}
SyscallResult Futimesat(Call& call) {
  return TimesAt(call, SYS_futimesat, call.Int(0), 1, LastLink::kFollow);
}
SyscallResult Utimes(Call& call) {
  return TimesAt(call, SYS_futimesat, AT_FDCWD, 0, LastLink::kFollow);
}

SyscallResult Utime(Call& call) {
  HostPath path;
  if (int64_t error = PinnedPath(call, AT_FDCWD, 0, &path); error != 0) return error;
  return HostResult(syscall(SYS_utime, path.c_str(), call.HostArg(1, sizeof(utimbuf))));
}

// Into its own directory in /proc the program may not go: the host would take relative paths from
// there for the monitor's.
SyscallResult Chdir(Call& call) {
  HostPath path;
  if (int error = CopyPath(call, AT_FDCWD, call.Addr(0), &path); error != 0) return error;
  Opened directory;
  int64_t result = OpenPath(call, path, {O_PATH | O_DIRECTORY, 0}, &directory);
  if (result < 0) return result;
  if (IsOwnPath(directory.path)) return -EACCES;
  return HostResult(syscall(SYS_fchdir, directory.fd.get()));
}

SyscallResult Fchdir(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (IsOwnPath(file->description->path)) return -EACCES;
  return HostResult(syscall(SYS_fchdir, file->host.get()));
}

SyscallResult Getcwd(Call& call) {
  // The kernel's answer never exceeds a page.
  uint64_t size = std::min<uint64_t>(call.arguments[1], PATH_MAX);
  return HostResult(syscall(SYS_getcwd, call.HostArg(0, size), size));
}

SyscallResult Umask(Call& call) { return HostResult(syscall(SYS_umask, call.Uint(0))); }

}  // namespace km
