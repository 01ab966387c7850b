// Limits. Source: getrlimit(2).
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"

namespace km {

SyscallResult Prlimit64(Call& call) {
  int pid = call.Int(0);
  bool itself = pid == 0 || (pid > 0 && call.process.HasThread(call.Uint(0))) ||
                pid == static_cast<int>(call.process.identity().pid);
  if (!itself) {
    return HostResult(syscall(SYS_prlimit64, call.process.HostTid(pid), call.Int(1),
                              call.HostArg(2, sizeof(rlimit)), call.HostArg(3, sizeof(rlimit))));
  }
  std::optional<rlimit> wanted;
  if (!call.Addr(2).null()) {
    wanted.emplace();
    if (int error = call.memory().CopyIn(&*wanted, call.Addr(2)); error != 0) return error;
  }
  rlimit old;
  if (int error = call.process.Limit(call.Int(1), wanted, &old); error != 0) return error;
  return call.Addr(3).null() ? 0 : call.memory().CopyOut(call.Addr(3), old);
}

SyscallResult Getrlimit(Call& call) {
  rlimit limit;
  if (int error = call.process.Limit(call.Int(0), std::nullopt, &limit); error != 0) return error;
  return call.memory().CopyOut(call.Addr(1), limit);
}

SyscallResult Setrlimit(Call& call) {
  rlimit limit, old;
  if (int error = call.memory().CopyIn(&limit, call.Addr(1)); error != 0) return error;
  return call.process.Limit(call.Int(0), limit, &old);
}

}  // namespace km
