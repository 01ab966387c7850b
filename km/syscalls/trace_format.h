// How the trace shows values: from argument kinds (see table.def) and the program's memory to text,
// in the form of strace(1). Pure functions of what they are given.
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

// A call between its begin and its end: the arguments as far as they could be shown already. An
// empty text is an argument that is not shown at all.
struct TraceLine {
  const SyscallRow* row = nullptr;  // null: a number that Linux does not have
  std::array<std::optional<std::string>, 6> shown;
};

// What is known at entry: everything but what the call writes.
TraceLine BeginTraceLine(const SyscallRow* row, const CallArguments& arguments, GuestReader read);
// The whole line behind `prefix`, without newline; without a result the call does not return.
std::string EndTraceLine(absl::string_view prefix, const TraceLine& line, uint64_t number,
                         const CallArguments& arguments, std::optional<int64_t> result,
                         GuestReader read);

// "{si_signo=SIGUSR1, si_code=SI_USER, si_pid=1, si_uid=0}".
std::string FormatSiginfo(const siginfo_t& info);

// ---- For the functions above
// -----------------------------------------------------------------------

// One argument to show. Some kinds depend on other arguments of the call. Kinds whose name ends in
// "out" show what the call wrote, and an address when `result` is an error.
struct TraceValue {
  const CallArguments& arguments;
  size_t index = 0;
  std::optional<int64_t> result;
  GuestReader read;

  uint64_t address() const { return arguments[index]; }
  template <typename T>
  bool Get(T* to) const {
    return read(to, address(), sizeof(T));
  }
};

// Numbers, flags and names (trace_flags.cc). None: no such kind.
std::optional<std::string> FormatScalar(absl::string_view kind, uint64_t value);
// Strings, bytes and arrays (trace_memory.cc). `count` is the suffix of the kind: the place of the
// argument with the number of elements, or "ret". None: no such kind.
std::optional<std::string> FormatArray(absl::string_view kind, absl::string_view count,
                                       const TraceValue& value);
// Structures (trace_structs.cc). None: no such kind.
std::optional<std::string> FormatStruct(absl::string_view kind, const TraceValue& value);

// Socket addresses, messages and options, also by FormatArray (trace_sockets.cc). None: no such
// kind.
std::optional<std::string> FormatSocket(absl::string_view kind, uint64_t count,
                                        const TraceValue& value);

// An array of iovecs; `written`: how many bytes the call put into all of them, without it all are
// shown in full.
std::string FormatIovecs(uint64_t address, uint64_t count, std::optional<uint64_t> written,
                         GuestReader read);
// "NULL" or "0x7f...".
std::string FormatAddress(uint64_t address);
// In quotes, with C escapes.
std::string QuoteBytes(absl::string_view bytes);
// "SIGUSR1", "SIGRT_3", or the number.
std::string FormatSignal(int sig);
// "[INT USR1]", or "~[CHLD]" when most are in it.
std::string FormatSignalSet(uint64_t set);
// What poll and select found: "([{fd=3, revents=POLLIN}])", "(in [3], out [4])".
std::string FormatPollResult(const CallArguments& arguments, int64_t ready, GuestReader read);
std::string FormatSelectResult(const CallArguments& arguments, GuestReader read);

}  // namespace km

#endif  // KM_SYSCALLS_TRACE_FORMAT_H_
