// Bytes between descriptors without a copy, and to the disk.
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <cerrno>
#include <vector>

#include "km/syscalls/handlers.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/proc_files.h"
#include "km/syscalls/transfer.h"

namespace km {

SyscallResult Splice(Call& call) {
  auto in = FileArg(call, 0);
  auto out = FileArg(call, 2);
  if (in == nullptr || out == nullptr) return -EBADF;
  if (IsStandIn(*in) || IsStandIn(*out)) return -EINVAL;
  return AfterWrite(
      call,
      call.thread.Block(SYS_splice, HostFd(in), call.HostArg(1, sizeof(loff_t)), HostFd(out),
                        call.HostArg(3, sizeof(loff_t)), call.arguments[4], call.Uint(5)),
      call.arguments[4]);
}

SyscallResult Tee(Call& call) {
  auto in = FileArg(call, 0);
  auto out = FileArg(call, 1);
  if (in == nullptr || out == nullptr) return -EBADF;
  return AfterWrite(
      call, call.thread.Block(SYS_tee, HostFd(in), HostFd(out), call.arguments[2], call.Uint(3)),
      call.arguments[2]);
}

SyscallResult Vmsplice(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (call.Uint(2) > kMaxIovecs) return -EINVAL;
  std::vector<iovec> parts;
  if (int error = CopyIovecs(call, call.Addr(1), call.Uint(2), &parts); error != 0) {
    return error;
  }
  return AfterWrite(
      call,
      call.thread.Block(SYS_vmsplice, HostFd(file), reinterpret_cast<uint64_t>(parts.data()),
                        parts.size(), call.Uint(3)),
      TotalOf(parts));
}

SyscallResult SyncFileRange(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return call.thread.Block(SYS_sync_file_range, HostFd(file), call.arguments[1], call.arguments[2],
                           call.Uint(3));
}

}  // namespace km
