// Calls on names of files.
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <utime.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "km/files/host_path.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/open_path.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/proc_path.h"

namespace km {
namespace {

LastLink Follows(uint64_t at_flags) {
  return (at_flags & AT_SYMLINK_NOFOLLOW) ? LastLink::kKeep : LastLink::kFollow;
}

// A call `number` on (path, a, b, c) with the path in argument `i`, relative to guest_dirfd.
template <typename... Rest>
int64_t At(Call& call, long number, int guest_dirfd, size_t i, LastLink last, Rest... rest) {
  HostPath path;
  if (int error = PathArg(call, guest_dirfd, i, last, &path); error != 0) return error;
  return HostResult(syscall(number, path.dirfd, path.c_str(), rest...));
}

// The same for calls that change the file itself and follow a link at the path's end unless `last`
// says otherwise.
template <typename... Rest>
int64_t ChangeAt(Call& call, long number, int guest_dirfd, size_t i, LastLink last, Rest... rest) {
  if (last == LastLink::kKeep) return At(call, number, guest_dirfd, i, last, rest...);
  HostPath path;
  if (int64_t error = PinnedPath(call, guest_dirfd, i, &path); error != 0) return error;
  return HostResult(syscall(number, path.dirfd, path.c_str(), rest...));
}

template <typename... Rest>
int64_t OnFd(Call& call, long number, Rest... rest) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return HostResult(syscall(number, file->host.get(), rest...));
}

// Since Linux 6.11 a null pointer may stand for the empty path of AT_EMPTY_PATH: the host's kernel
// says.
template <typename... Rest>
int64_t StatAt(Call& call, long number, uint64_t flags, Rest... rest) {
  if (!call.Addr(1).null() || !(flags & AT_EMPTY_PATH)) {
    return At(call, number, call.Int(0), 1, Follows(flags), rest...);
  }
  if (call.Int(0) == AT_FDCWD) return HostResult(syscall(number, AT_FDCWD, nullptr, rest...));
  return OnFd(call, number, nullptr, rest...);
}

uint64_t StatBuffer(const Call& call, size_t i) { return call.HostArg(i, sizeof(struct stat)); }

int64_t AccessAt(Call& call, int guest_dirfd, size_t i, uint32_t mode) {
  return At(call, SYS_faccessat, guest_dirfd, i, LastLink::kFollow, mode);
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
  int64_t error = act == DoLink && (flags & AT_SYMLINK_FOLLOW)
                      ? PinnedPath(call, from_dirfd, first, &from)
                      : PathArg(call, from_dirfd, first, LastLink::kKeep, &from);
  if (error == 0) error = PathArg(call, to_dirfd, at ? 3 : 1, LastLink::kKeep, &to);
  return error != 0 ? error : act(from, to, flags);
}

int64_t SymlinkTo(Call& call, int guest_dirfd, size_t i) {
  HostPath text;
  if (int error = CopyPath(call, AT_FDCWD, call.Addr(0), &text); error != 0) return error;
  HostPath path;
  if (int error = PathArg(call, guest_dirfd, i, LastLink::kKeep, &path); error != 0) return error;
  return HostResult(syscall(SYS_symlinkat, text.c_str(), path.dirfd, path.c_str()));
}

bool IsOwnPath(const std::string& path) {
  return path == "/proc/self" || absl::StartsWith(path, "/proc/self/");
}

// Where one of the program's own links has led to one in procfs.
bool IsLinkInProc(const HostPath& path) {
  struct stat link, proc;
  return !path.path.empty() && fstatat(path.dirfd, path.c_str(), &link, AT_SYMLINK_NOFOLLOW) == 0 &&
         S_ISLNK(link.st_mode) && stat("/proc", &proc) == 0 && link.st_dev == proc.st_dev;
}

// The text that the program sees where the host's would show the monitor; empty: the host's.
std::string VirtualLink(const Call& call, const HostPath& path) {
  if (!MayLeadToProc(path) && !IsLinkInProc(path)) return "";
  ProcPath target;
  if (WalkPath(call.process, path, LastLink::kKeep, &target) != 0) return "";
  if (target.kind == ProcPath::Kind::kDescriptor) {
    auto file = call.process.files().Get(target.fd);
    if (file == nullptr) return "";
    if (!IsOwnPath(file->description->path)) return HostPathOf(file->host.get());
    return absl::StrCat("/proc/", call.process.identity().pid,
                        absl::StripPrefix(file->description->path, "/proc/self"));
  }
  if (target.kind == ProcPath::Kind::kOrdinary) {
    if (target.path == "/proc/self") return OwnLink(call.process, call.thread.tid, "self");
    if (target.path == "/proc/thread-self") {
      return OwnLink(call.process, call.thread.tid, "thread-self");
    }
    return "";
  }
  return OwnLink(call.process, call.thread.tid, target.path);
}

int64_t ReadlinkAt(Call& call, int guest_dirfd, size_t i) {
  HostPath path;
  if (int error = CopyPath(call, guest_dirfd, call.Addr(i), &path); error != 0) return error;
  int size = call.Int(i + 2);
  if (size <= 0) return -EINVAL;
  std::string text = VirtualLink(call, path);
  if (text.empty()) {
    if (int error = PathArg(call, guest_dirfd, i, LastLink::kKeep, &path); error != 0) return error;
    return HostResult(syscall(SYS_readlinkat, path.dirfd, path.c_str(),
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
  return At(call, SYS_mknodat, guest_dirfd, i, LastLink::kKeep, mode, 0);
}

}  // namespace

SyscallResult Stat(Call& call) {
  return At(call, SYS_newfstatat, AT_FDCWD, 0, LastLink::kFollow, StatBuffer(call, 1), 0);
}

SyscallResult Lstat(Call& call) {
  return At(call, SYS_newfstatat, AT_FDCWD, 0, LastLink::kKeep, StatBuffer(call, 1),
            AT_SYMLINK_NOFOLLOW);
}

SyscallResult Fstat(Call& call) { return OnFd(call, SYS_fstat, StatBuffer(call, 1)); }

SyscallResult Newfstatat(Call& call) {
  return StatAt(call, SYS_newfstatat, call.arguments[3], StatBuffer(call, 2), call.Uint(3));
}

SyscallResult Statx(Call& call) {
  return StatAt(call, SYS_statx, call.arguments[2], call.Uint(2), call.Uint(3),
                call.HostArg(4, sizeof(struct statx)));
}

SyscallResult Statfs(Call& call) {
  HostPath path;
  if (int error = PathArg(call, AT_FDCWD, 0, LastLink::kFollow, &path); error != 0) return error;
  return HostResult(syscall(SYS_statfs, path.c_str(), call.HostArg(1, sizeof(struct statfs))));
}

SyscallResult Fstatfs(Call& call) {
  return OnFd(call, SYS_fstatfs, call.HostArg(1, sizeof(struct statfs)));
}

SyscallResult Access(Call& call) { return AccessAt(call, AT_FDCWD, 0, call.Uint(1)); }
SyscallResult Faccessat(Call& call) { return AccessAt(call, call.Int(0), 1, call.Uint(2)); }

SyscallResult Faccessat2(Call& call) {
  return At(call, SYS_faccessat2, call.Int(0), 1, Follows(call.arguments[3]), call.Uint(2),
            call.Uint(3));
}

SyscallResult Readlink(Call& call) { return ReadlinkAt(call, AT_FDCWD, 0); }
SyscallResult Readlinkat(Call& call) { return ReadlinkAt(call, call.Int(0), 1); }

SyscallResult Mkdir(Call& call) {
  return At(call, SYS_mkdirat, AT_FDCWD, 0, LastLink::kKeep, call.Uint(1));
}
SyscallResult Mkdirat(Call& call) {
  return At(call, SYS_mkdirat, call.Int(0), 1, LastLink::kKeep, call.Uint(2));
}
SyscallResult Mknod(Call& call) { return MakeNode(call, AT_FDCWD, 0); }
SyscallResult Mknodat(Call& call) { return MakeNode(call, call.Int(0), 1); }
SyscallResult Rmdir(Call& call) {
  return At(call, SYS_unlinkat, AT_FDCWD, 0, LastLink::kKeep, AT_REMOVEDIR);
}
SyscallResult Unlink(Call& call) { return At(call, SYS_unlinkat, AT_FDCWD, 0, LastLink::kKeep, 0); }
SyscallResult Unlinkat(Call& call) {
  return At(call, SYS_unlinkat, call.Int(0), 1, LastLink::kKeep, call.Uint(2));
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
