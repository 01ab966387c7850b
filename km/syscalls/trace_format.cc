#include "km/syscalls/trace_format.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "km/syscalls/call.h"

namespace km {
namespace {

// strace's: results stand below each other.
constexpr size_t kResultColumn = 40;
constexpr absl::string_view kHidden = "hidden";

struct Kinds {
  std::vector<absl::string_view> arguments;
  absl::string_view result;
};

Kinds KindsOf(const SyscallRow* row) {
  // Linux has no such call: all that could be arguments.
  if (row == nullptr) return {std::vector<absl::string_view>(6, "hex"), ""};
  std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(row->arguments, absl::MaxSplits("=>", 1));
  Kinds kinds = {absl::StrSplit(parts.first, ' ', absl::SkipEmpty()), parts.second};
  if (kinds.arguments.size() > 6) kinds.arguments.resize(6);
  return kinds;
}

absl::string_view FutexKind(absl::string_view kind, uint64_t op) {
  bool waits = false;
  bool requeues = false;
  switch (op & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
      waits = true;
      break;
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_WAKE_OP:
    case FUTEX_CMP_REQUEUE_PI:
      requeues = true;
      break;
    case FUTEX_WAIT_REQUEUE_PI:
      waits = requeues = true;
      break;
  }
  if (kind == "futex_val") {
    return (op & FUTEX_CMD_MASK) == FUTEX_UNLOCK_PI ? kHidden : "uint";
  }
  if (kind == "futex_timeout") return waits ? "timespec_in" : requeues ? "uint" : kHidden;
  if (kind == "futex_addr2") return requeues ? "addr" : kHidden;
  switch (op & FUTEX_CMD_MASK) {
    case FUTEX_WAIT_BITSET:
    case FUTEX_WAKE_BITSET:
      return "futex_bitset";
    case FUTEX_CMP_REQUEUE:
    case FUTEX_CMP_REQUEUE_PI:
      return "uint";
    case FUTEX_WAKE_OP:
      return "hex";
  }
  return kHidden;
}

absl::string_view FcntlKind(uint64_t command) {
  switch (static_cast<int>(command)) {
    case F_GETFD:
    case F_GETFL:
    case F_GETPIPE_SZ:
    case F_GET_SEALS:
    case F_GETOWN:
    case F_GETSIG:
    case F_GETLEASE:
      return kHidden;
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
    case F_SETPIPE_SZ:
    case F_SETOWN:
      return "int";
    case F_SETSIG:
      return "signal";
    case F_SETLEASE:
      return "lock_type";
    case F_NOTIFY:
      return "directory_notify";
    case F_ADD_SEALS:
      return "seals";
    case F_SETOWN_EX:
      return "f_owner_in";
    case F_GETOWN_EX:
      return "f_owner_out";
    case F_SETFD:
      return "fd_flags";
    case F_SETFL:
      return "open_flags";
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
      return "flock_in";
    case F_GETLK:
    case F_OFD_GETLK:
      return "flock_out";
  }
  return "hex";
}

absl::string_view IoctlKind(uint64_t request) {
  switch (request) {
    case FIONREAD:
    case TIOCGPGRP:
    case TIOCGSID:
      return "int_out";
    case FIONBIO:
    case FIOASYNC:
    case TIOCSPGRP:
      return "int_in";
    case TIOCGWINSZ:
      return "winsize_out";
    case TIOCSWINSZ:
      return "winsize_in";
    case FIOCLEX:
    case FIONCLEX:
    case TIOCNOTTY:
      return kHidden;
  }
  return "addr";
}

absl::string_view PrctlKind(uint64_t operation, size_t index) {
  switch (static_cast<int>(operation)) {
    case PR_SET_NAME:
      return index == 1 ? "str" : kHidden;
    case PR_GET_NAME:
      return index == 1 ? "str_out" : kHidden;
    case PR_SET_PDEATHSIG:
      return index == 1 ? "signal" : kHidden;
    case PR_GET_PDEATHSIG:
      return index == 1 ? "int_out" : kHidden;
    case PR_SET_DUMPABLE:
    case PR_CAPBSET_READ:
    case PR_SET_TIMERSLACK:
      return index == 1 ? "uint" : kHidden;
    case PR_GET_DUMPABLE:
    case PR_GET_TIMERSLACK:
      return kHidden;
  }
  return "hex";
}

// Kinds that depend on another argument of the call.
absl::string_view ResolveKind(absl::string_view kind, const CallArguments& arguments,
                              size_t index) {
  if (kind == "open_mode") {
    bool creates = (arguments[index - 1] & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) != 0;
    return creates ? "mode" : kHidden;
  }
  if (kind == "mremap_addr") return (arguments[3] & MREMAP_FIXED) != 0 ? "addr" : kHidden;
  if (kind == "fcntl_arg") return FcntlKind(arguments[1]);
  if (kind == "ioctl_arg") return IoctlKind(arguments[1]);
  if (kind == "prctl_arg") return PrctlKind(arguments[0], index);
  if (kind != "futex_op" && kind != "futex_bitset" && absl::StartsWith(kind, "futex_")) {
    return FutexKind(kind, arguments[1]);
  }
  return kind;
}

// "NAME:COUNT".
std::pair<absl::string_view, absl::string_view> SplitCount(absl::string_view kind) {
  return absl::StrSplit(kind, absl::MaxSplits(':', 1));
}

std::string FormatArgument(absl::string_view kind, const TraceValue& value) {
  if (kind == kHidden) return "";
  auto [name, count] = SplitCount(kind);
  bool written_by_call = absl::EndsWith(name, "out");
  if (std::optional<std::string> text = FormatScalar(name, value.address())) return *text;
  // Nothing was written, or there is nowhere to look.
  bool failed = value.result.has_value() && *value.result < 0;
  // What remains of a sleep is written only when it was interrupted.
  if (name == "remaining_out") {
    failed = value.result != -EINTR;
    name = "timespec_in";
  }
  if (value.address() == 0 || (failed && written_by_call)) {
    return FormatAddress(value.address());
  }
  std::optional<std::string> text = FormatArray(name, count, value);
  if (!text.has_value()) text = FormatStruct(name, value);
  return text.value_or(FormatAddress(value.address()));
}

std::string FormatError(int64_t error) {
  switch (error) {
    case -kRestart:
      return "? ERESTARTSYS (To be restarted if SA_RESTART is set)";
    case -kRestartAlways:
      return "? ERESTARTNOINTR (To be restarted)";
    case -kRestartNoHandler:
      return "? ERESTARTNOHAND (To be restarted if no handler)";
  }
  const char* name = strerrorname_np(static_cast<int>(error));
  if (name == nullptr) return absl::StrCat("-1 (errno ", error, ")");
  return absl::StrCat("-1 ", name, " (", strerrordesc_np(static_cast<int>(error)), ")");
}

std::string FormatFcntlResult(const CallArguments& arguments, int64_t result) {
  switch (static_cast<int>(arguments[1])) {
    case F_GETFD:
      if (result == FD_CLOEXEC) return "0x1 (flags FD_CLOEXEC)";
      break;
    case F_GETLEASE:
    case F_GET_SEALS:
      return absl::StrFormat("%#x (%s)", result,
                             FormatScalar(arguments[1] == F_GETLEASE ? "lock_type" : "seals",
                                          static_cast<uint64_t>(result))
                                 .value_or(""));
    case F_GETFL:
      return absl::StrFormat(
          "%#x (flags %s)", result,
          FormatScalar("open_flags", static_cast<uint64_t>(result)).value_or(""));
  }
  return absl::StrCat(result);
}

std::string FormatResult(absl::string_view kind, const CallArguments& arguments, int64_t result,
                         GuestReader read) {
  // The kernel's range of errors: an address may have its top bit set without being one.
  if (result < 0 && result >= -4095) return FormatError(-result);
  if (kind == "fcntl") return FormatFcntlResult(arguments, result);
  if (kind == "signal") {
    return absl::StrCat(result, " (", FormatSignal(static_cast<int>(result)), ")");
  }
  if (kind == "poll" || kind == "select") {
    if (result == 0) return "0 (Timeout)";
    return absl::StrCat(result, " ",
                        kind == "poll" ? FormatPollResult(arguments, result, read)
                                       : FormatSelectResult(arguments, read));
  }
  if (kind == "addr" || kind == "hex" || kind == "mode") {
    return FormatScalar(kind, static_cast<uint64_t>(result)).value_or("");
  }
  return absl::StrCat(result);
}

}  // namespace

TraceLine BeginTraceLine(const SyscallRow* row, const CallArguments& arguments, GuestReader read) {
  TraceLine line;
  line.row = row;
  Kinds kinds = KindsOf(row);
  for (size_t i = 0; i < kinds.arguments.size(); ++i) {
    absl::string_view kind = ResolveKind(kinds.arguments[i], arguments, i);
    if (absl::EndsWith(SplitCount(kind).first, "out")) continue;
    line.shown[i] = FormatArgument(kind, {arguments, i, std::nullopt, read});
  }
  return line;
}

std::string EndTraceLine(absl::string_view prefix, const TraceLine& line, uint64_t number,
                         const CallArguments& arguments, std::optional<int64_t> result,
                         GuestReader read) {
  Kinds kinds = KindsOf(line.row);
  std::vector<std::string> shown;
  for (size_t i = 0; i < kinds.arguments.size(); ++i) {
    absl::string_view kind = ResolveKind(kinds.arguments[i], arguments, i);
    std::string text = line.shown[i].has_value()
                           ? *line.shown[i]
                           : FormatArgument(kind, {arguments, i, result, read});
    if (!text.empty()) shown.push_back(std::move(text));
  }
  std::string name = line.row != nullptr ? line.row->name : absl::StrFormat("syscall_%#x", number);
  std::string text = absl::StrCat(prefix, name, "(", absl::StrJoin(shown, ", "), ")");
  text.resize(std::max(text.size() + 1, kResultColumn), ' ');
  absl::StrAppend(&text, "= ");
  absl::StrAppend(&text, result.has_value() ? FormatResult(kinds.result, arguments, *result, read)
                                            : std::string("?"));
  return text;
}

}  // namespace km
