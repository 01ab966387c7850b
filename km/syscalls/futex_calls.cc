// futex(2): on the host's own futexes, at the host address of the word.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "km/process/clock.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"

namespace km {
namespace {

constexpr uint64_t kWordSize = sizeof(uint32_t);

// Waits at the word until the timeout, which is made absolute on the host's clock.
SyscallResult Wait(Call& call, int operation, bool absolute) {
  Thread& thread = call.thread;
  int command = operation & FUTEX_CMD_MASK;
  bool realtime = operation & FUTEX_CLOCK_REALTIME;
  timespec until = {};
  bool timed = !call.Addr(3).null();
  if (timed) {
    if (int error = call.memory().CopyIn(&until, call.Addr(3)); error != 0) return error;
    if (!ValidTime(until)) return -EINVAL;
    const GuestClock& clock = call.process.clock();
    if (!absolute) {
      if (!thread.deadline_ns.has_value()) {
        thread.deadline_ns = SaturatingAdd(clock.Monotonic(), ToNanoseconds(until));
      }
      until = ToTimespec(clock.ToHost(CLOCK_MONOTONIC, *thread.deadline_ns));
      realtime = false;
    } else if (!realtime) {
      until = ToTimespec(clock.ToHost(CLOCK_MONOTONIC, ToNanoseconds(until)));
    }
  }
  uint32_t mask = command == FUTEX_WAIT_BITSET ? call.Uint(5) : FUTEX_BITSET_MATCH_ANY;
  uint64_t host_operation = FUTEX_WAIT_BITSET |
                            static_cast<uint64_t>(operation & FUTEX_PRIVATE_FLAG) |
                            (realtime ? FUTEX_CLOCK_REALTIME : 0);
  int64_t result =
      thread.Block(SYS_futex, call.HostArg(0, kWordSize), host_operation, call.arguments[2],
                   timed ? reinterpret_cast<uint64_t>(&until) : 0, 0, mask);
  return result == kKicked && timed ? kRestartNoHandler : result;
}

SyscallResult LockPi(Call& call, int operation) {
  timespec until = {};
  std::optional<int64_t> deadline;
  int clock = (operation & FUTEX_CMD_MASK) == FUTEX_LOCK_PI || (operation & FUTEX_CLOCK_REALTIME)
                  ? CLOCK_REALTIME
                  : CLOCK_MONOTONIC;
  if (!call.Addr(3).null()) {
    if (int error = call.memory().CopyIn(&until, call.Addr(3)); error != 0) return error;
    if (!ValidTime(until)) return -EINVAL;
    deadline = call.process.clock().ToHost(clock, ToNanoseconds(until));
  }
  return call.process.pi_futexes().Lock(call.thread, call.memory(), call.Addr(0), clock, deadline);
}

}  // namespace

SyscallResult Futex(Call& call) {
  int operation = call.Int(1);
  PiFutexes& pi = call.process.pi_futexes();
  switch (operation & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
      return Wait(call, operation, false);
    case FUTEX_WAIT_BITSET:
      return Wait(call, operation, true);
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
      return HostResult(syscall(SYS_futex, call.HostArg(0, kWordSize), operation, call.Uint(2),
                                nullptr, nullptr, call.Uint(5)));
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_WAKE_OP:
      // The fourth argument is a number here.
      return HostResult(syscall(SYS_futex, call.HostArg(0, kWordSize), operation, call.Uint(2),
                                call.arguments[3], call.HostArg(4, kWordSize), call.Uint(5)));
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
      return LockPi(call, operation);
    case FUTEX_TRYLOCK_PI:
      return pi.TryLock(call.thread, call.memory(), call.Addr(0));
    case FUTEX_UNLOCK_PI:
      return pi.Unlock(call.thread, call.memory(), call.Addr(0));
    default:
      return -ENOSYS;
  }
}

}  // namespace km
