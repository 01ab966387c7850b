// What the kernel knows of files and file systems, beside stat(2).
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/open_path.h"
#include "km/syscalls/paths.h"

namespace km {

SyscallResult NameToHandleAt(Call& call) {
  constexpr uint64_t kLargest = sizeof(file_handle) + MAX_HANDLE_SZ;
  auto flags = call.Uint(4);
  HostPath path;
  int64_t error = flags & AT_SYMLINK_FOLLOW ? PinnedPath(call, call.Int(0), 1, &path)
                                            : PathArg(call, call.Int(0), 1, LastLink::kKeep, &path);
  if (error != 0) return error;
  return HostResult(syscall(SYS_name_to_handle_at, path.dirfd, path.c_str(),
                            call.HostArg(2, kLargest), call.HostArg(3, sizeof(uint64_t)), flags));
}

SyscallResult Cachestat(Call& call) {
  constexpr long kCachestat = 451;  // since Linux 6.5; not in all headers
  constexpr uint64_t kRange = 2 * sizeof(uint64_t), kAnswer = 5 * sizeof(uint64_t);
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return HostResult(syscall(kCachestat, file->host.get(), call.HostArg(1, kRange),
                            call.HostArg(2, kAnswer), call.Uint(3)));
}

SyscallResult Ustat(Call& call) {
  constexpr uint64_t kAnswer = 32;  // struct ustat
  return HostResult(syscall(SYS_ustat, call.Uint(0), call.HostArg(1, kAnswer)));
}

SyscallResult Sysfs(Call& call) {
  constexpr int kIndexOf = 1, kNameOf = 2;
  constexpr size_t kLongestName = 4096;
  int option = call.Int(0);
  std::string name;
  uint64_t first = call.arguments[1];
  if (option == kIndexOf) {
    int error = call.memory().CopyInString(&name, call.Addr(1), kLongestName);
    if (error != 0) return error;
    first = reinterpret_cast<uint64_t>(name.c_str());
  }
  // The longest name of a file system's type is far shorter.
  uint64_t answer = option == kNameOf ? call.HostArg(2, kLongestName) : 0;
  return HostResult(syscall(SYS_sysfs, option, first, answer));
}

}  // namespace km
