// futex(2): on the host's own futexes, at the host address of the word.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>

#include "km/process/clock.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"

namespace km {
namespace {

constexpr uint64_t kWordSize = sizeof(uint32_t);
// Of Linux 6.7, which the host's headers may not know.
constexpr long kFutexWake = 454, kFutexWait = 455, kFutexRequeue = 456;

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

// Entries of futex_waitv and futex_requeue, with the host's addresses. The host judges the rest.
int CopyWords(const Call& call, GuestAddr from, size_t count, futex_waitv* words) {
  if (int error = call.memory().CopyIn(words, from, count * sizeof(*words)); error != 0) {
    return error;
  }
  for (size_t i = 0; i < count; ++i) words[i].uaddr = call.Host(words[i].uaddr, kWordSize);
  return 0;
}

// The absolute timeout in arguments `i` (null: none) and i + 1 (its clock), on the host's clock.
int HostTimeout(const Call& call, size_t i, timespec* until, uint64_t* argument) {
  *argument = 0;
  if (call.Addr(i).null()) return 0;
  if (int error = call.memory().CopyIn(until, call.Addr(i)); error != 0) return error;
  *argument = reinterpret_cast<uint64_t>(until);
  if (call.Int(i + 1) == CLOCK_MONOTONIC && ValidTime(*until)) {
    *until = ToTimespec(call.process.clock().ToHost(CLOCK_MONOTONIC, ToNanoseconds(*until)));
  }
  return 0;
}

}  // namespace

SyscallResult FutexWaitv(Call& call) {
  std::array<futex_waitv, FUTEX_WAITV_MAX> words;
  uint32_t count = call.Uint(1);
  if (call.Uint(2) != 0 || count == 0 || count > words.size() || call.Addr(0).null()) {
    return -EINVAL;
  }
  timespec until;
  uint64_t timeout = 0;
  if (int error = HostTimeout(call, 3, &until, &timeout); error != 0) return error;
  if (int error = CopyWords(call, call.Addr(0), count, words.data()); error != 0) return error;
  return call.thread.Block(SYS_futex_waitv, reinterpret_cast<uint64_t>(words.data()), count, 0,
                           timeout, call.arguments[4]);
}

SyscallResult FutexWake(Call& call) {
  return HostResult(syscall(kFutexWake, call.HostArg(0, kWordSize), call.arguments[1],
                            call.arguments[2], call.arguments[3]));
}

SyscallResult FutexWait(Call& call) {
  timespec until;
  uint64_t timeout = 0;
  // What the host cannot read is its to refuse, behind the flags.
  if (HostTimeout(call, 4, &until, &timeout) != 0) timeout = call.Host(~uint64_t{0}, 1);
  return call.thread.Block(kFutexWait, call.HostArg(0, kWordSize), call.arguments[1],
                           call.arguments[2], call.arguments[3], timeout, call.arguments[5]);
}

SyscallResult FutexRequeue(Call& call) {
  std::array<futex_waitv, 2> words;
  if (call.Uint(1) != 0 || call.Addr(0).null()) return -EINVAL;
  if (int error = CopyWords(call, call.Addr(0), words.size(), words.data()); error != 0) {
    return error;
  }
  return HostResult(syscall(kFutexRequeue, words.data(), 0, call.arguments[2], call.arguments[3]));
}

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
