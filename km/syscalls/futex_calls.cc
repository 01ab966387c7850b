// futex(2): on the host's own futexes, at the host address of the word.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "absl/functional/function_ref.h"
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

// The absolute timeout in argument 3, on the host's clock. *argument: null when there is none.
int AbsoluteTimeout(const Call& call, bool realtime, timespec* until, const timespec** argument) {
  *argument = nullptr;
  if (call.Addr(3).null()) return 0;
  if (int error = call.memory().CopyIn(until, call.Addr(3)); error != 0) return error;
  if (!ValidTime(*until)) return -EINVAL;
  int clock = realtime ? CLOCK_REALTIME : CLOCK_MONOTONIC;
  *until = ToTimespec(call.process.clock().ToHost(clock, ToNanoseconds(*until)));
  *argument = until;
  return 0;
}

// Does `work`, which looks for the owner of a PI futex at `word`. One that a resume has not started
// yet has no host thread; it is waited for.
int64_t WithOwner(Call& call, GuestAddr word, absl::FunctionRef<int64_t()> work) {
  int64_t result = work();
  uint32_t value = 0;
  if (result != -ESRCH || call.memory().CopyIn(&value, word) != 0) return result;
  call.process.HostTid(static_cast<int>(value & FUTEX_TID_MASK));
  return work();
}

SyscallResult LockPi(Call& call, int operation) {
  int command = operation & FUTEX_CMD_MASK;
  timespec until;
  const timespec* timeout = nullptr;
  if (command != FUTEX_TRYLOCK_PI) {
    bool realtime = command == FUTEX_LOCK_PI || (operation & FUTEX_CLOCK_REALTIME);
    if (int error = AbsoluteTimeout(call, realtime, &until, &timeout); error != 0) return error;
  }
  return WithOwner(call, call.Addr(0), [&] {
    return call.process.pi_futexes().Lock(call.thread, call.memory(), call.Addr(0),
                                          operation & ~FUTEX_PRIVATE_FLAG, timeout);
  });
}

SyscallResult WaitRequeuePi(Call& call, int operation) {
  PiFutexes::RequeueWait wait = {call.Addr(0), call.Addr(4), call.Uint(2),
                                 (operation & FUTEX_CLOCK_REALTIME) != 0, nullptr};
  timespec until;
  if (int error = AbsoluteTimeout(call, wait.realtime, &until, &wait.until); error != 0) {
    return error;
  }
  return call.process.pi_futexes().WaitRequeue(call.thread, call.memory(), wait);
}

SyscallResult CompareRequeuePi(Call& call, int operation) {
  // The host judges the arguments. It has no waiters there, other than plain ones, which it
  // refuses.
  int64_t judged =
      HostResult(syscall(SYS_futex, call.HostArg(0, kWordSize), operation, call.Uint(2),
                         call.arguments[3], call.HostArg(4, kWordSize), call.Uint(5)));
  if (judged != 0) return judged;
  return WithOwner(call, call.Addr(4), [&] {
    return call.process.pi_futexes().Requeue(call.memory(), call.Addr(0), call.Addr(4),
                                             call.Uint(3), call.Uint(5));
  });
}

// Wakes or moves who waits at plain futexes: refused where others wait.
SyscallResult WakeOrRequeue(Call& call, int operation) {
  const int command = operation & FUTEX_CMD_MASK;
  const bool two = command != FUTEX_WAKE && command != FUTEX_WAKE_BITSET;
  // The fourth argument is a number here.
  int64_t result = HostResult(syscall(SYS_futex, call.HostArg(0, kWordSize), operation,
                                      call.Uint(2), two ? call.arguments[3] : 0,
                                      two ? call.HostArg(4, kWordSize) : 0, call.Uint(5)));
  const PiFutexes& pi = call.process.pi_futexes();
  if (result >= 0 && pi.AnyWaiter(call.Addr(0))) return -EINVAL;
  if (result >= 0 && command == FUTEX_WAKE_OP && pi.AnyWaiter(call.Addr(4))) return -EINVAL;
  return result;
}

// Whether FUTEX_CLOCK_REALTIME can stand with it.
bool HasClock(int command) {
  return command == FUTEX_WAIT_BITSET || command == FUTEX_WAIT_REQUEUE_PI ||
         command == FUTEX_LOCK_PI2;
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
  int command = operation & FUTEX_CMD_MASK;
  if ((operation & FUTEX_CLOCK_REALTIME) && !HasClock(command)) return -ENOSYS;
  switch (command) {
    case FUTEX_WAIT:
      return Wait(call, operation, false);
    case FUTEX_WAIT_BITSET:
      return Wait(call, operation, true);
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_WAKE_OP:
      return WakeOrRequeue(call, operation);
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
    case FUTEX_TRYLOCK_PI:
      return LockPi(call, operation);
    case FUTEX_UNLOCK_PI:
      return call.process.pi_futexes().Unlock(call.thread, call.memory(), call.Addr(0));
    case FUTEX_WAIT_REQUEUE_PI:
      return WaitRequeuePi(call, operation);
    case FUTEX_CMP_REQUEUE_PI:
      return CompareRequeuePi(call, operation);
    default:
      return -ENOSYS;
  }
}

}  // namespace km
