// inotify(7).
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "km/files/host_path.h"
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

// What a snapshot will know the watched file by; empty when it is gone already.
std::string NameOf(const HostPath& path, bool itself) {
  if (!itself) return HostPathOf(path.directory->host.get());  // pinned
  const OwnedFd link(openat(path.dirfd, path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  return link.valid() ? HostPathOf(link.get()) : "";
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
  const int64_t number = file->description->held_events.AddWatch(host, path.c_str(), call.Uint(2));
  if (number < 0) return number;
  const std::string name = NameOf(path, call.Uint(2) & IN_DONT_FOLLOW);
  file->description->watched.Remember(host, static_cast<int>(number), name);
  return number;
}

SyscallResult InotifyRmWatch(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  const int64_t result = HostResult(syscall(SYS_inotify_rm_watch, file->host.get(), call.Int(1)));
  if (result == 0) file->description->watched.Forget(call.Int(1));
  return result;
}

}  // namespace km
