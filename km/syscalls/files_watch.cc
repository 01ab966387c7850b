// inotify(7).
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/open_path.h"
#include "km/syscalls/paths.h"

namespace km {
namespace {

int64_t MakeInotify(Call& call, int flags) {
  int64_t fd = HostResult(syscall(SYS_inotify_init1, flags | IN_CLOEXEC));
  return AddMade(call, fd, FileKind::kInotify, (flags & IN_CLOEXEC) != 0);
}

}  // namespace

SyscallResult InotifyInit(Call& call) { return MakeInotify(call, 0); }
SyscallResult InotifyInit1(Call& call) { return MakeInotify(call, call.Int(0)); }

SyscallResult InotifyAddWatch(Call& call) {
  auto file = FileArg(call, 0);
  // Mask and descriptor are looked at before the path: a path of none is EFAULT.
  int host = file != nullptr ? file->host.get() : -1;
  int64_t error = HostResult(syscall(SYS_inotify_add_watch, host, nullptr, call.Uint(2)));
  if (error != -EFAULT) return error;
  HostPath path;
  error = call.Uint(2) & IN_DONT_FOLLOW ? PathArg(call, AT_FDCWD, 1, LastLink::kKeep, &path)
                                        : PinnedPath(call, AT_FDCWD, 1, &path);
  if (error != 0) return error;
  return HostResult(syscall(SYS_inotify_add_watch, host, path.c_str(), call.Uint(2)));
}

SyscallResult InotifyRmWatch(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return HostResult(syscall(SYS_inotify_rm_watch, file->host.get(), call.Int(1)));
}

}  // namespace km
