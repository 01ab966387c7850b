// mmap and its relatives.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"

namespace km {
SyscallResult Mmap(Call& call) {
  MapRequest request;
  request.address = call.arguments[0];
  request.length = call.arguments[1];
  request.protection = call.Int(2);
  request.flags = call.Int(3);
  request.offset = call.arguments[5];
  std::shared_ptr<OpenFile> file;
  if (!(request.flags & MAP_ANONYMOUS)) {
    file = call.process.files().Get(call.Uint(4));
    if (file == nullptr) return -EBADF;
    request.file = file->description->Mapped(file->host.get());
    if (request.file == nullptr) return -ENFILE;
    request.host_fd = file->host.get();
  }
  return call.process.space().Map(request);
}

SyscallResult Munmap(Call& call) {
  return call.process.space().Unmap(call.arguments[0], call.arguments[1]);
}

SyscallResult Mprotect(Call& call) {
  // Unlike other flags these are a long: what stands in the upper half is unknown, too.
  constexpr int kUnknown = 0x10000000;
  int protection = call.arguments[2] >> 32 != 0 ? kUnknown : call.Int(2);
  return call.process.space().Protect(call.arguments[0], call.arguments[1], protection);
}

SyscallResult Mremap(Call& call) {
  const auto& a = call.arguments;
  return call.process.space().Remap(a[0], a[1], a[2], call.Int(3), a[4]);
}

SyscallResult Brk(Call& call) { return call.process.space().Brk(call.arguments[0]); }

SyscallResult Madvise(Call& call) {
  return call.process.space().Advise(call.arguments[0], call.arguments[1], call.Int(2));
}

// The host's window mirrors the program's mappings, so the host itself can answer these. What is
// not mapped is reserved there, though, and must look unmapped.
SyscallResult Msync(Call& call) {
  uint64_t length = PageUp(call.arguments[1]);
  if (!PageAligned(call.arguments[0])) return -EINVAL;
  if (!call.process.space().IsMapped(call.arguments[0], length)) return -ENOMEM;
  return call.thread.Block(SYS_msync, call.HostArg(0, length), length, call.arguments[2]);
}

SyscallResult Mincore(Call& call) {
  uint64_t length = PageUp(call.arguments[1]);
  if (!PageAligned(call.arguments[0])) return -EINVAL;
  if (length < call.arguments[1]) return -ENOMEM;
  if (!call.process.space().IsMapped(call.arguments[0], length)) return -ENOMEM;
  return HostResult(
      syscall(SYS_mincore, call.HostArg(0, length), length, call.HostArg(2, length / kPageSize)));
}

SyscallResult Mlock(Call& call) {
  uint64_t start = PageDown(call.arguments[0]);
  uint64_t length = PageUp(call.arguments[1] + (call.arguments[0] - start));
  if (start + length < start) return -EINVAL;
  if (!call.process.space().IsMapped(start, length)) return -ENOMEM;
  return HostResult(syscall(SYS_mlock, call.Host(start, length), length));
}

SyscallResult Munlock(Call& call) {
  uint64_t start = PageDown(call.arguments[0]);
  uint64_t length = PageUp(call.arguments[1] + (call.arguments[0] - start));
  if (start + length < start) return -EINVAL;
  if (!call.process.space().IsMapped(start, length)) return -ENOMEM;
  return HostResult(syscall(SYS_munlock, call.Host(start, length), length));
}

}  // namespace km
