// The machine that the program sees.
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>

#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/transfer.h"

namespace km {

SyscallResult Uname(Call& call) {
  return HostResult(syscall(SYS_uname, call.HostArg(0, sizeof(utsname))));
}

SyscallResult Sysinfo(Call& call) {
  return HostResult(syscall(SYS_sysinfo, call.HostArg(0, sizeof(struct sysinfo))));
}

SyscallResult Getrandom(Call& call) {
  return call.thread.Block(SYS_getrandom, Buffer(call, call.arguments[0], call.arguments[1]),
                           call.arguments[1], call.arguments[2]);
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
