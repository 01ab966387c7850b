// Extended attributes of files.
#include <linux/limits.h>
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
namespace {

// A name with its NUL, as getxattr(2) limits it.
int CopyName(const Call& call, std::string* out) {
  int error = call.memory().CopyInString(out, call.Addr(1), XATTR_NAME_MAX + 1);
  return error == -ENAMETOOLONG ? -ERANGE : error;
}

// The host never writes more than the largest value, whatever the buffer's size.
uint64_t ValueBuffer(const Call& call, size_t i) {
  return call.HostArg(i, std::min<uint64_t>(call.arguments[i + 1], XATTR_SIZE_MAX));
}

int64_t Get(Call& call, long number, LastLink last) {
  HostPath path;
  if (int64_t error = PathArg(call, AT_FDCWD, 0, last, &path); error != 0) return error;
  std::string name;
  if (int error = CopyName(call, &name); error != 0) return error;
  return HostResult(
      syscall(number, path.c_str(), name.c_str(), ValueBuffer(call, 2), call.arguments[3]));
}

int64_t List(Call& call, long number, LastLink last) {
  HostPath path;
  if (int64_t error = PathArg(call, AT_FDCWD, 0, last, &path); error != 0) return error;
  return HostResult(syscall(number, path.c_str(), ValueBuffer(call, 1), call.arguments[2]));
}

int64_t Set(Call& call, long number, LastLink last) {
  HostPath path;
  if (int64_t error = PathArg(call, AT_FDCWD, 0, last, &path); error != 0) return error;
  std::string name;
  if (int error = CopyName(call, &name); error != 0) return error;
  return HostResult(syscall(number, path.c_str(), name.c_str(), ValueBuffer(call, 2),
                            call.arguments[3], call.Uint(4)));
}

int64_t Remove(Call& call, long number, LastLink last) {
  HostPath path;
  if (int64_t error = PathArg(call, AT_FDCWD, 0, last, &path); error != 0) return error;
  std::string name;
  if (int error = CopyName(call, &name); error != 0) return error;
  return HostResult(syscall(number, path.c_str(), name.c_str()));
}

}  // namespace

SyscallResult Setxattr(Call& call) { return Set(call, SYS_setxattr, LastLink::kFollow); }
SyscallResult Lsetxattr(Call& call) { return Set(call, SYS_lsetxattr, LastLink::kKeep); }
SyscallResult Removexattr(Call& call) { return Remove(call, SYS_removexattr, LastLink::kFollow); }
SyscallResult Lremovexattr(Call& call) { return Remove(call, SYS_lremovexattr, LastLink::kKeep); }
SyscallResult Getxattr(Call& call) { return Get(call, SYS_getxattr, LastLink::kFollow); }
SyscallResult Lgetxattr(Call& call) { return Get(call, SYS_lgetxattr, LastLink::kKeep); }
SyscallResult Listxattr(Call& call) { return List(call, SYS_listxattr, LastLink::kFollow); }
SyscallResult Llistxattr(Call& call) { return List(call, SYS_llistxattr, LastLink::kKeep); }

SyscallResult Fsetxattr(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  std::string name;
  if (int error = CopyName(call, &name); error != 0) return error;
  return HostResult(syscall(SYS_fsetxattr, file->host.get(), name.c_str(), ValueBuffer(call, 2),
                            call.arguments[3], call.Uint(4)));
}

SyscallResult Fremovexattr(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  std::string name;
  if (int error = CopyName(call, &name); error != 0) return error;
  return HostResult(syscall(SYS_fremovexattr, file->host.get(), name.c_str()));
}

SyscallResult Fgetxattr(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  std::string name;
  if (int error = CopyName(call, &name); error != 0) return error;
  return HostResult(syscall(SYS_fgetxattr, file->host.get(), name.c_str(), ValueBuffer(call, 2),
                            call.arguments[3]));
}

SyscallResult Flistxattr(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return HostResult(
      syscall(SYS_flistxattr, file->host.get(), ValueBuffer(call, 1), call.arguments[2]));
}

}  // namespace km
