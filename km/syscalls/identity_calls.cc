// The machine that the program sees.
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "km/process/clock.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/transfer.h"

namespace km {

SyscallResult Uname(Call& call) {
  return HostResult(syscall(SYS_uname, call.HostArg(0, sizeof(utsname))));
}

// The time since the start is CLOCK_BOOTTIME in whole seconds, a begun one included.
SyscallResult Sysinfo(Call& call) {
  struct sysinfo info = {};
  if (sysinfo(&info) != 0) return -errno;
  const int64_t offset = call.process.clock().Offset(CLOCK_BOOTTIME);
  if (offset != 0) {
    const int64_t since = SaturatingAdd(HostClock(CLOCK_BOOTTIME), offset);
    info.uptime = since / kNanosecondsPerSecond + (since % kNanosecondsPerSecond > 0 ? 1 : 0);
  }
  return call.memory().CopyOut(call.Addr(0), info);
}

SyscallResult Getrandom(Call& call) {
  auto make = [&] {
    const uint64_t done = call.thread.done, size = call.arguments[1] - done;
    return call.thread.Block(SYS_getrandom, Buffer(call, call.arguments[0] + done, size), size,
                             call.arguments[2]);
  };
  const uint64_t asked = std::min(call.arguments[1], kMaxTransfer);
  return MoveAll(
      call, asked, [] { return true; }, make);
}

SyscallResult Getcpu(Call& call) {
  return HostResult(syscall(SYS_getcpu, call.HostArg(0, 4), call.HostArg(1, 4), 0));
}

// The host's barrier reaches a processor that runs a guest thread as an interrupt, which is one. It
// keeps the registrations, too: the monitor makes none of its own.
SyscallResult Membarrier(Call& call) {
  constexpr uint32_t kRegister = MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED |
                                 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED |
                                 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE |
                                 MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ;
  const SyscallResult result =
      HostResult(syscall(SYS_membarrier, call.Int(0), call.Uint(1), call.Int(2)));
  if (result.value == 0) call.process.membarrier() |= call.Uint(0) & kRegister;
  return result;
}

}  // namespace km
