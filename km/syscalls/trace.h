// --trace: system calls, signals and the end of the program as lines on standard error, in the form
// of strace(1).
#ifndef KM_SYSCALLS_TRACE_H_
#define KM_SYSCALLS_TRACE_H_

#include <signal.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "km/base/owned.h"
#include "km/syscalls/call.h"
#include "km/syscalls/trace_format.h"

namespace km {

// Thread-safe. A call is one line, written by one write(2) when the call has ended.
class Tracer {
 public:
  // `regex` is an extended regular expression (regex(7)), found anywhere in a call's name; empty:
  // all. An error says what is wrong with it, or that it matches no call.
  static absl::StatusOr<std::unique_ptr<Tracer>> Create(absl::string_view regex);

  // Whether a call is traced; a number that Linux does not have (null) always is.
  bool Wants(const SyscallRow* row) const;

  // Before the handler, for a call that Wants() wants: decodes what the call may change.
  TraceLine Begin(const Call& call, const SyscallRow* row) const;
  // After the handler, before signals are delivered. `result` as the handler gave it, kRestart
  // included; none for a call that does not return (exit, exit_group, rt_sigreturn, a snapshot that
  // ends the program).
  void End(const TraceLine& line, const Call& call, std::optional<int64_t> result) const;

  // A signal acted upon: handler, stop or death.
  void Signal(Process& process, const Thread& thread, const siginfo_t& info) const;
  // The end of one thread of several, with its status.
  void ThreadExited(uint32_t tid, int status) const;
  // The end of the program: once, by the main thread.
  void Exited(int status) const;
  void Killed(int sig, bool core_dumped) const;

 private:
  Tracer(OwnedFd output, std::vector<bool> wanted)
      : output_(std::move(output)), wanted_(std::move(wanted)) {}
  void Write(const std::string& line) const;

  // A copy of standard error: the program may close or replace its own.
  const OwnedFd output_;
  const std::vector<bool> wanted_;  // by the row's place in the table
};

}  // namespace km

#endif  // KM_SYSCALLS_TRACE_H_
