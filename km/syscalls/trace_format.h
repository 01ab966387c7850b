// How the trace shows values: from argument kinds (see table.def) and the program's memory to text.
#ifndef KM_SYSCALLS_TRACE_FORMAT_H_
#define KM_SYSCALLS_TRACE_FORMAT_H_

#include <signal.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"

namespace km {

struct SyscallRow;

// Copies bytes of the program's memory in; false when they cannot be read.
using GuestReader = absl::FunctionRef<bool(void* to, uint64_t from, size_t size)>;

using CallArguments = std::array<uint64_t, 6>;

// A call between its begin and its end: the arguments that could be shown already.
struct TraceLine {
  const SyscallRow* row = nullptr;  // null: a number that Linux does not have
  std::array<std::optional<std::string>, 6> shown;
};

// What is known at entry: everything but what the call writes.
TraceLine BeginTraceLine(const SyscallRow* row, const CallArguments& arguments, GuestReader read);
// The whole line without prefix and newline; no `result`: the call does not return.
std::string EndTraceLine(const TraceLine& line, uint64_t number, const CallArguments& arguments,
                         std::optional<int64_t> result, GuestReader read);

// "SIGUSR1", "SIGRT_3", or the number.
std::string SignalName(int sig);
// "{si_signo=SIGUSR1, si_code=SI_USER, si_pid=1, si_uid=0}".
std::string FormatSiginfo(const siginfo_t& info);

// One value. `index` is the argument's place: some kinds depend on others of the call. A kind that
// shows what the call wrote is given the result; it shows an address when that is an error.
struct TraceValue {
  const CallArguments& arguments;
  size_t index;
  std::optional<int64_t> result;
  GuestReader read;

  uint64_t value() const { return arguments[index]; }
};
// A value that is what it is: numbers, flags, names (trace_flags.cc). None: not such a kind.
std::optional<std::string> FormatScalar(absl::string_view kind, uint64_t value);
// What a pointer leads to (trace_memory.cc, trace_structs.cc). `count` is the kind's suffix: the
// place of the argument that holds a count, or "ret". None: not such a kind.
std::optional<std::string> FormatMemory(absl::string_view kind, absl::string_view count,
                                        const TraceValue& value);
std::optional<std::string> FormatStruct(absl::string_view kind, const TraceValue& value);

// "NULL" or "0x7f...".
std::string FormatAddress(uint64_t address);
// Quoted, with C escapes.
std::string QuoteBytes(absl::string_view bytes);
// "[INT USR1]", or the complement as "~[...]".
std::string FormatSignalSet(uint64_t set);
// Flags joined by '|'; "0" form when none.
std::string FormatPollEvents(int events);

}  // namespace km

#endif  // KM_SYSCALLS_TRACE_FORMAT_H_
