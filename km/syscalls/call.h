// One system call of the program, and what its handler answers.
#ifndef KM_SYSCALLS_CALL_H_
#define KM_SYSCALLS_CALL_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "km/memory/guest_addr.h"
#include "km/process/process.h"

namespace km {

// What happens after a handler; a handler never pauses or ends anything itself.
enum class NextAction {
  kContinue,       // the value goes into RAX
  kKeepRegisters,  // the handler has set all registers (rt_sigreturn)
  kExitThread,     // value: the status, as the program gave it
  kExitProcess,    // value: the status, as the program gave it
  kSnapshot,       // call.snapshot says what for
  kMainThread,     // then the value, after the main thread did call.on_main
};

struct SyscallResult {
  // NOLINTNEXTLINE(google-explicit-constructor): most handlers have nothing but a value to say.
  SyscallResult(int64_t result, NextAction next = NextAction::kContinue)
      : value(result), action(next) {}
  int64_t value;  // a result, a negative errno, or kRestart and the like
  NextAction action;
};

struct SnapshotRequest {
  std::string label;
  std::string description;
  bool go_on = false;
};

struct Call {
  Process& process;
  Thread& thread;
  uint64_t number;
  std::array<uint64_t, 6> arguments;
  SnapshotRequest snapshot;       // OUT
  std::function<void()> on_main;  // OUT: may be empty. Signals sent before are then in the queues

  GuestMemory& memory() const { return process.memory(); }
  // The caller's process, as it knows it: the program, or a process beside it (companion.h).
  uint32_t pid() const { return thread.companion != nullptr ? thread.tid : process.identity().pid; }
  GuestAddr Addr(size_t i) const { return GuestAddr(arguments[i]); }
  // An argument that the kernel takes as int or unsigned int: the upper half does not count.
  int Int(size_t i) const { return static_cast<int>(arguments[i]); }
  uint32_t Uint(size_t i) const { return static_cast<uint32_t>(arguments[i]); }
  // The host address of a buffer that only the host kernel reads or writes. A null pointer stays
  // null; a buffer outside the program's addresses becomes one that the host answers EFAULT to.
  uint64_t Host(uint64_t address, uint64_t size) const;
  uint64_t HostArg(size_t i, uint64_t size) const { return Host(arguments[i], size); }
};

using SyscallHandler = SyscallResult (*)(Call& call);

enum class Support {
  kFull,
  kPartial,  // with the caveat in the row
  kRefused,  // on purpose: the caveat says why
  kLater,    // not yet: ENOSYS
};

struct SyscallRow {
  uint32_t number;
  const char* name;
  SyscallHandler handler;
  Support support;
  const char* arguments;  // kinds, for the trace: see table.def
  const char* caveat;
};

// The row of a system call or hypercall; null when Linux has none of that number.
const SyscallRow* FindSyscall(uint64_t number);
// All rows, ascending by number.
size_t SyscallCount();
const SyscallRow& SyscallAt(size_t index);

// docs/syscalls.md.
std::string SyscallsDocument();

}  // namespace km

#endif  // KM_SYSCALLS_CALL_H_
