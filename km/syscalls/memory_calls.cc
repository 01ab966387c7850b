// mmap and its relatives.
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/transfer.h"

namespace km {
namespace {

constexpr size_t kMaxVmaName = 80;  // ANON_VMA_NAME_MAX_LEN of the kernel, with the NUL

// How much may be locked: can_do_mlock and capable(CAP_IPC_LOCK) of the kernel's mm/mlock.c.
uint64_t LockLimit() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &header, data) == 0 && (data[0].effective & (1u << CAP_IPC_LOCK))) {
    return RLIM_INFINITY;
  }
  rlimit limit = {};
  return getrlimit(RLIMIT_MEMLOCK, &limit) == 0 ? limit.rlim_cur : 0;
}

// The host's pid that a pidfd is of; -EBADF when it is none, -ESRCH when that has ended.
int64_t PidOfPidfd(int host_fd) {
  char text[512] = {};
  OwnedFd info(open(absl::StrCat("/proc/self/fdinfo/", host_fd).c_str(), O_RDONLY | O_CLOEXEC));
  if (!info.valid() || read(info.get(), text, sizeof(text) - 1) <= 0) return -EBADF;
  const char* line = strstr(text, "\nPid:");
  int pid = 0;
  if (line == nullptr || sscanf(line, "\nPid:%d", &pid) != 1) return -EBADF;
  return pid > 0 ? pid : -ESRCH;
}

}  // namespace

SyscallResult Mmap(Call& call) {
  if (!PageAligned(call.arguments[5])) return -EINVAL;
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
    if (file->description->kind == FileKind::kProc) return -ENODEV;
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
  // A long here, too.
  if (a[3] >> 32 != 0) return -EINVAL;
  return call.process.space().Remap(a[0], a[1], a[2], call.Int(3), a[4]);
}

SyscallResult Brk(Call& call) { return call.process.space().Brk(call.arguments[0]); }

SyscallResult Madvise(Call& call) {
  return call.process.space().Advise(call.arguments[0], call.arguments[1], call.Int(2));
}

// The host's window mirrors the program's mappings, so the host itself can answer these. What is
// not mapped is reserved there, though, and must look unmapped.
SyscallResult Msync(Call& call) {
  int flags = call.Int(2);
  if (flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) return -EINVAL;
  if (!PageAligned(call.arguments[0]) || ((flags & MS_ASYNC) && (flags & MS_SYNC))) return -EINVAL;
  uint64_t start = call.arguments[0], end = start + PageUp(call.arguments[1]);
  if (end < start) return -ENOMEM;
  // A hole is said in the end, when what lies around it has been written.
  uint64_t mapped = 0;
  for (const auto& [from, to] : call.process.space().MappedPieces(start, end)) {
    int64_t result = call.thread.Block(SYS_msync, call.Host(from, to - from), to - from,
                                       static_cast<uint64_t>(flags));
    if (result < 0) return result;
    mapped += to - from;
  }
  return mapped == end - start ? 0 : -ENOMEM;
}

SyscallResult Mincore(Call& call) {
  uint64_t start = call.arguments[0], length = PageUp(call.arguments[1]);
  if (!PageAligned(start)) return -EINVAL;
  if (length < call.arguments[1] || !call.process.space().IsMapped(start, length)) return -ENOMEM;
  return HostResult(
      syscall(SYS_mincore, call.Host(start, length), length, call.HostArg(2, length / kPageSize)));
}

SyscallResult Mlock(Call& call) {
  return call.process.space().Lock(call.arguments[0], call.arguments[1], false);
}

SyscallResult Mlock2(Call& call) {
  if (call.Int(2) & ~MLOCK_ONFAULT) return -EINVAL;
  return call.process.space().Lock(call.arguments[0], call.arguments[1], call.Int(2) != 0);
}

SyscallResult Munlock(Call& call) {
  return call.process.space().Unlock(call.arguments[0], call.arguments[1]);
}

SyscallResult Mlockall(Call& call) {
  int flags = call.Int(0);
  if ((flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) || flags == 0 || flags == MCL_ONFAULT) {
    return -EINVAL;
  }
  uint64_t limit = LockLimit();
  return limit == 0 ? -EPERM : call.process.space().LockAll(flags, limit);
}

SyscallResult Munlockall(Call& call) { return call.process.space().UnlockAll(); }

SyscallResult Mseal(Call& call) {
  if (call.arguments[2] != 0) return -EINVAL;
  return call.process.space().Seal(call.arguments[0], call.arguments[1]);
}

SyscallResult RemapFilePages(Call& call) {
  if (call.arguments[2] != 0) return -EINVAL;
  uint64_t start = PageDown(call.arguments[0]), size = PageDown(call.arguments[1]);
  return call.process.space().RemapFilePages(start, size, call.arguments[3],
                                             static_cast<int>(call.arguments[4]));
}

// Without keys, as on a processor that has none: the keys in a page-table entry do not reach the
// processor through KVM's shadow tables, and a key that protects nothing would be a lie.
SyscallResult PkeyAlloc(Call& call) {
  constexpr uint64_t kRights = 3;  // PKEY_DISABLE_ACCESS, PKEY_DISABLE_WRITE
  return call.arguments[0] != 0 || (call.arguments[1] & ~kRights) ? -EINVAL : -ENOSPC;
}

// Without keys not even key 0 is there to be named.
SyscallResult PkeyFree(Call&) { return -EINVAL; }

SyscallResult PkeyMprotect(Call& call) {
  uint64_t start = call.arguments[0], end = start + PageUp(call.arguments[1]);
  if (call.Int(3) != -1 && PageAligned(start) && end > start) return -EINVAL;
  return Mprotect(call);
}

// Of the process itself; it has no other's memory.
SyscallResult ProcessMadvise(Call& call) {
  if (call.Uint(4) != 0) return -EINVAL;
  // Of the count the kernel takes the lower half.
  if (call.Uint(2) > kMaxIovecs) return -EINVAL;
  std::vector<iovec> ranges(call.Uint(2));
  if (call.memory().CopyIn(ranges.data(), call.Addr(1), ranges.size() * sizeof(iovec)) != 0) {
    return -EFAULT;
  }
  for (const iovec& range : ranges) {
    if (static_cast<int64_t>(range.iov_len) < 0) return -EINVAL;
  }
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  int64_t pid = PidOfPidfd(HostFd(file));
  if (pid < 0) return pid;
  if (pid != getpid()) return -EPERM;
  int64_t done = 0;
  for (const iovec& range : ranges) {
    int64_t result = call.process.space().Advise(reinterpret_cast<uint64_t>(range.iov_base),
                                                 range.iov_len, call.Int(3));
    if (result < 0) return done != 0 ? done : result;
    done += static_cast<int64_t>(range.iov_len);
  }
  return done;
}

SyscallResult PrctlSetVma(Call& call) {
  // Whether this kernel has names (CONFIG_ANON_VMA_NAME).
  std::byte* window = call.memory().window();
  if (call.arguments[1] != PR_SET_VMA_ANON_NAME ||
      prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, window, 0, nullptr) != 0) {
    return -EINVAL;
  }
  std::string name;
  if (!call.Addr(4).null()) {
    int error = call.memory().CopyInString(&name, call.Addr(4), kMaxVmaName);
    if (error != 0) return error == -ENAMETOOLONG ? -EINVAL : error;
    for (char c : name) {
      if (c <= 0x1f || c >= 0x7f || strchr("\\`$[]", c) != nullptr) return -EINVAL;
    }
  }
  return call.process.space().SetName(call.arguments[2], call.arguments[3], name);
}

}  // namespace km
