// Descriptors: made, copied, closed, and their flags.
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/openat2.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "km/files/host_path.h"
#include "km/syscalls/file_owners.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/open_path.h"
#include "km/syscalls/paths.h"

namespace km {
namespace {

// VALID_OPEN_FLAGS of include/linux/fcntl.h: open ignores others, openat2 does not.
constexpr int kOpenFlags = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND |
                           O_NONBLOCK | O_SYNC | O_ASYNC | O_DIRECT | O_DIRECTORY | O_NOFOLLOW |
                           O_NOATIME | O_PATH | O_TMPFILE | O_LARGEFILE;
// Commands of fcntl since Linux 6.10 and 6.12; not in all headers.
constexpr int kFDupfdQuery = 1027, kFCreatedQuery = 1028;
constexpr int kPathFlags = O_PATH | O_DIRECTORY | O_NOFOLLOW;

int64_t AddOpened(Call& call, const HostPath& path, const Opening& how, bool close_on_exec) {
  ReservedFd reserved(call.process.files());
  if (reserved.error() != 0) return reserved.error();
  Opened opened;
  if (int64_t result = OpenPath(call, path, how, &opened); result < 0) return result;
  auto file = OpenFile::Of(opened.fd.Release(), opened.kind, std::move(opened.path));
  file->description->foreign = opened.foreign;
  return reserved.Fill(std::move(file), close_on_exec);
}

int64_t OpenAt(Call& call, int guest_dirfd, size_t i, int flags, uint32_t mode) {
  Opening how = {flags & kOpenFlags, 0};
  if (flags & O_PATH) how.flags = flags & kPathFlags;
  bool creates = (how.flags & O_CREAT) || (how.flags & O_TMPFILE) == O_TMPFILE;
  if (creates) how.mode = mode & 07777;
  HostPath path;
  if (int error = CopyPath(call, guest_dirfd, call.Addr(i), &path); error != 0) return error;
  return AddOpened(call, path, how, (flags & O_CLOEXEC) != 0);
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
  // Before a host descriptor is made: closing it again would drop the program's POSIX locks.
  ReservedFd reserved(call.process.files(), lowest);
  int error = reserved.error();
  auto copy = error == 0 ? Duplicate(file, &error) : nullptr;
  return copy != nullptr ? reserved.Fill(std::move(copy), close_on_exec) : error;
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

int64_t MakeEventFd(Call& call, int flags) {
  int64_t fd = HostResult(syscall(SYS_eventfd2, call.Uint(0), flags | EFD_CLOEXEC));
  int64_t made = AddMade(call, fd, FileKind::kEventFd, (flags & EFD_CLOEXEC) != 0);
  if (made >= 0 && (flags & EFD_SEMAPHORE)) {
    if (auto file = call.process.files().Get(static_cast<uint64_t>(made)); file != nullptr) {
      file->description->semaphore = true;
    }
  }
  return made;
}

int64_t MakeEpoll(Call& call, int flags) {
  int64_t fd = HostResult(syscall(SYS_epoll_create1, flags | EPOLL_CLOEXEC));
  return AddMade(call, fd, FileKind::kEpoll, (flags & EPOLL_CLOEXEC) != 0);
}

// Commands of fcntl that a descriptor with O_PATH has.
bool WorksOnPaths(int command) {
  return command == F_DUPFD || command == F_DUPFD_CLOEXEC || command == F_GETFD ||
         command == F_SETFD || command == F_GETFL || command == kFDupfdQuery ||
         command == kFCreatedQuery;
}

// openat2(2)'s structure, of which newer kernels may know more members. 0 or a negative errno.
int CopyOpenHow(const Call& call, open_how* how) {
  constexpr uint64_t kFirstSize = 24;  // OPEN_HOW_SIZE_VER0
  uint64_t size = call.arguments[3];
  if (size < kFirstSize) return -EINVAL;
  if (size > kPageSize) return -E2BIG;
  std::vector<char> bytes(std::max(size, sizeof(*how)));
  if (int error = call.memory().CopyIn(bytes.data(), call.Addr(2), size); error != 0) return error;
  if (std::any_of(bytes.begin() + sizeof(*how), bytes.end(), [](char c) { return c != 0; })) {
    return -E2BIG;
  }
  memcpy(how, bytes.data(), sizeof(*how));
  // Whether the flags are good is told before the path is looked at: a path of none is EFAULT.
  int64_t error = HostResult(syscall(SYS_openat2, AT_FDCWD, nullptr, how, sizeof(*how)));
  return error == -EFAULT ? 0 : static_cast<int>(error);
}

}  // namespace

int64_t AddMade(Call& call, int64_t host_fd, FileKind kind, bool close_on_exec) {
  if (host_fd < 0) return host_fd;
  auto fd = static_cast<int>(host_fd);
  return call.process.files().Add(fd, kind, HostPathOf(fd), close_on_exec);
}

SyscallResult Open(Call& call) { return OpenAt(call, AT_FDCWD, 0, call.Int(1), call.Uint(2)); }
SyscallResult Openat(Call& call) { return OpenAt(call, call.Int(0), 1, call.Int(2), call.Uint(3)); }
SyscallResult Creat(Call& call) {
  return OpenAt(call, AT_FDCWD, 0, O_CREAT | O_WRONLY | O_TRUNC, call.Uint(1));
}

SyscallResult Openat2(Call& call) {
  open_how how = {};
  if (int error = CopyOpenHow(call, &how); error != 0) return error;
  HostPath path;
  if (int error = CopyPath(call, call.Int(0), call.Addr(1), &path); error != 0) return error;
  bool absolute = !path.path.empty() && path.path[0] == '/';
  if (absolute && (how.resolve & RESOLVE_IN_ROOT) && call.Int(0) != AT_FDCWD) {
    path.directory = FileArg(call, 0);
    if (path.directory == nullptr) return -EBADF;
    path.dirfd = path.directory->host.get();
  }
  return AddOpened(call, path, {static_cast<int>(how.flags), how.mode, how.resolve},
                   (how.flags & O_CLOEXEC) != 0);
}

SyscallResult Close(Call& call) { return call.process.files().Close(call.Uint(0)); }

SyscallResult CloseRange(Call& call) {
  uint32_t first = call.Uint(0), last = call.Uint(1);
  constexpr uint32_t kKnown = CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE;
  if (first > last || (call.Uint(2) & ~kKnown) != 0) return -EINVAL;
  // The only thread shares its table with nobody.
  bool unshare = call.Uint(2) & CLOSE_RANGE_UNSHARE;
  if (unshare && call.process.thread_count() != 1) return -EPERM;
  FdTable& files = call.process.files();
  for (const FdTable::Entry& entry : files.Entries()) {
    auto fd = static_cast<uint32_t>(entry.number);
    if (fd < first || fd > last) continue;
    if (call.Uint(2) & CLOSE_RANGE_CLOEXEC) {
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
  if (file->description->kind == FileKind::kPath && !WorksOnPaths(call.Int(1))) return -EBADF;
  if (std::optional<int64_t> result = OwnerCommand(call, file)) return *result;
  FdTable& files = call.process.files();
  uint64_t argument = call.arguments[2];
  std::shared_ptr<OpenFile> other;
  switch (call.Int(1)) {
    case F_DUPFD:
      return DuplicateFrom(call, call.Uint(2), false);
    case F_DUPFD_CLOEXEC:
      return DuplicateFrom(call, call.Uint(2), true);
    case F_GETFD:
      return files.CloseOnExec(call.Uint(0));
    case F_SETFD:
      return files.SetCloseOnExec(call.Uint(0), (argument & FD_CLOEXEC) != 0);
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
      file->description->may_hold_locks = true;
      [[fallthrough]];
    case F_GETLK:
    case F_OFD_GETLK:
      argument = call.HostArg(2, sizeof(struct flock));
      break;
    case F_GET_RW_HINT:
    case F_SET_RW_HINT:
    case F_GET_FILE_RW_HINT:
    case F_SET_FILE_RW_HINT:
      argument = call.HostArg(2, sizeof(uint64_t));
      break;
    case kFDupfdQuery:
      other = FileArg(call, 2);
      if (other == nullptr) return -EBADF;
      argument = HostFd(other);
      break;
    case F_GETFL:
    case F_SETFL:
    case kFCreatedQuery:
    case F_GETPIPE_SZ:
    case F_SETPIPE_SZ:
    case F_ADD_SEALS:
    case F_GET_SEALS:
      break;
    default:
      return -EINVAL;
  }
  return call.thread.Block(SYS_fcntl, HostFd(file), call.arguments[1], argument);
}

SyscallResult Pipe(Call& call) { return MakePipe(call, 0); }
SyscallResult Pipe2(Call& call) { return MakePipe(call, call.Int(1)); }

SyscallResult Eventfd(Call& call) { return MakeEventFd(call, 0); }
SyscallResult Eventfd2(Call& call) { return MakeEventFd(call, call.Int(1)); }

SyscallResult MemfdCreate(Call& call) {
  constexpr size_t kLongestName = NAME_MAX - (sizeof("memfd:") - 1);
  std::string name;
  int error = call.memory().CopyInString(&name, call.Addr(0), kLongestName + 1);
  if (error != 0) return error == -ENAMETOOLONG ? -EINVAL : error;
  bool close_on_exec = (call.Uint(1) & MFD_CLOEXEC) != 0;
  int64_t fd = HostResult(syscall(SYS_memfd_create, name.c_str(), call.Uint(1) | MFD_CLOEXEC));
  return AddMade(call, fd, FileKind::kMemFd, close_on_exec);
}

SyscallResult EpollCreate(Call& call) { return call.Int(0) <= 0 ? -EINVAL : MakeEpoll(call, 0); }
SyscallResult EpollCreate1(Call& call) { return MakeEpoll(call, call.Int(0)); }

// Which of two errors comes first depends on the kernel: the host's is asked even without a
// descriptor.
SyscallResult Flock(Call& call) {
  auto file = FileArg(call, 0);
  uint64_t host = file != nullptr ? HostFd(file) : ~uint64_t{0};
  if (file != nullptr) file->description->may_hold_locks = true;
  return call.thread.Block(SYS_flock, host, call.arguments[1]);
}

}  // namespace km
