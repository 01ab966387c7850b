// Memory policies (numa(7)). They are the host's: of the host thread that runs the guest's, and of
// the window, which mirrors the program's mappings.
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"

namespace km {
namespace {

constexpr uint64_t kMaxNodeBits = 1 << 16;  // more than the kernel takes (a page of bits)
constexpr uint64_t kPagesAtOnce = 4096;

uint64_t NodesArg(const Call& call, size_t i, uint64_t bits) {
  return call.HostArg(i, std::min(bits, kMaxNodeBits) / 8 + 8);
}

// What is only reserved in the window is no memory to the program.
bool Mapped(const Call& call, uint64_t start, uint64_t length) {
  return call.process.space().IsMapped(start, length);
}

// A range that the host refuses as such, before it looks at what is there.
bool Wraps(uint64_t start, uint64_t length) { return start + length < start; }

// Of the host's, with nothing mapped; as far from a page's begin as `start`.
uint64_t NothingMapped(uint64_t start) { return start % kPageSize; }

// The first argument is a pid: as the host takes it, 0 for the process itself. Others' memory is
// out of reach: of those there is nobody, so that the host looks at all that comes before the pid.
int TargetArg(const Call& call) {
  int pid = call.Int(0);
  return pid == 0 || static_cast<uint32_t>(pid) == call.process.identity().pid
             ? 0
             : ProcessIds::kNobody;
}

// `result` of a call on TargetArg: another process is there, but not to be touched.
int64_t AfterTarget(const Call& call, int64_t result) {
  if (result != -ESRCH || call.Int(0) <= 0) return result;
  int pid = call.process.ids().HostProcess(call.Int(0));
  return kill(pid, 0) == 0 || errno == EPERM ? -EPERM : -ESRCH;
}

// The program has set it itself: a snapshot carries it, or says that it cannot.
int64_t Noted(Call& call, Setting setting, int64_t result) {
  if (result == 0) call.process.changed_settings().Note(setting);
  return result;
}

}  // namespace

// Threads that it makes inherit it.
SyscallResult SetMempolicy(Call& call) {
  int64_t result = HostResult(syscall(SYS_set_mempolicy, call.Int(0),
                                      NodesArg(call, 1, call.arguments[2]), call.arguments[2]));
  if (result == 0) call.process.HostThreadsDiffer();
  return Noted(call, Setting::kMemoryPolicy, result);
}

SyscallResult GetMempolicy(Call& call) {
  constexpr uint64_t kByAddress = 2;  // MPOL_F_ADDR
  uint64_t address = call.arguments[3];
  if ((call.arguments[4] & kByAddress) && !Mapped(call, PageDown(address), kPageSize)) {
    return -EFAULT;
  }
  return HostResult(syscall(SYS_get_mempolicy, call.HostArg(0, sizeof(int)),
                            NodesArg(call, 1, call.arguments[2]), call.arguments[2],
                            call.Host(address, 1), call.arguments[4]));
}

SyscallResult Mbind(Call& call) {
  uint64_t start = call.arguments[0], length = PageUp(call.arguments[1]);
  // The host looks at the range last.
  uint64_t host = Wraps(start, length)          ? start
                  : Mapped(call, start, length) ? call.Host(start, length)
                                                : NothingMapped(start);
  int64_t result =
      HostResult(syscall(SYS_mbind, host, call.arguments[1], call.Int(2),
                         NodesArg(call, 3, call.arguments[4]), call.arguments[4], call.Uint(5)));
  return Noted(call, Setting::kMappingPolicy, result);
}

// What is not mapped in the range has no policy, which is no error; nor has what is only reserved.
SyscallResult SetMempolicyHomeNode(Call& call) {
  uint64_t start = call.arguments[0], length = PageUp(call.arguments[1]);
  uint64_t end = call.memory().end(), host = start;
  if (!Wraps(start, length)) {
    host = NothingMapped(start);
    if (start < end) {
      length = std::min(length, end - PageDown(start));
      host += reinterpret_cast<uint64_t>(call.memory().window()) + PageDown(start);
    } else {
      length = std::min(length, kPageSize);
    }
  }
  int64_t result = HostResult(
      syscall(SYS_set_mempolicy_home_node, host, length, call.arguments[2], call.arguments[3]));
  return Noted(call, Setting::kHomeNode, result);
}

// Addresses are translated a batch at a time; of this process only.
SyscallResult MovePages(Call& call) {
  if (int target = TargetArg(call); target != 0) {
    return AfterTarget(call, HostResult(syscall(SYS_move_pages, target, call.arguments[1], nullptr,
                                                nullptr, nullptr, call.Int(5))));
  }
  uint64_t count = call.arguments[1], nodes = call.arguments[3], status = call.arguments[4];
  std::vector<uint64_t> pages;
  int64_t not_moved = 0;
  for (uint64_t done = 0; done < count; done += pages.size()) {
    pages.resize(std::min(count - done, kPagesAtOnce));
    GuestAddr from = call.Addr(2) + done * sizeof(uint64_t);
    if (call.memory().CopyIn(pages.data(), from, pages.size() * sizeof(uint64_t)) != 0) {
      return -EFAULT;
    }
    for (uint64_t& page : pages) {
      // What is not mapped is -EFAULT in its status.
      bool mapped = Mapped(call, PageDown(page), kPageSize);
      page = call.Host(mapped ? page : ~uint64_t{0}, 1);
    }
    uint64_t offset = done * sizeof(int), size = pages.size() * sizeof(int);
    int64_t result = HostResult(syscall(SYS_move_pages, 0, pages.size(), pages.data(),
                                        nodes != 0 ? call.Host(nodes + offset, size) : 0,
                                        call.Host(status + offset, size), call.Int(5)));
    if (result < 0) return result;
    not_moved += result;
  }
  return not_moved;
}

SyscallResult MigratePages(Call& call) {
  int64_t result = HostResult(syscall(SYS_migrate_pages, TargetArg(call), call.arguments[1],
                                      NodesArg(call, 2, call.arguments[1]),
                                      NodesArg(call, 3, call.arguments[1])));
  return TargetArg(call) == 0 ? result : AfterTarget(call, result);
}

}  // namespace km
