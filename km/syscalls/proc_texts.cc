#include "km/syscalls/proc_texts.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "km/base/owned.h"

namespace km {
namespace {

// More of the program's memory is not copied for one file; Linux allows arguments of 6 MiB.
constexpr uint64_t kMostText = uint64_t{8} << 20;

std::string HostText(const std::string& path) {
  OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char piece[4096];
  ssize_t got = 0;
  while (fd.valid() && (got = read(fd.get(), piece, sizeof(piece))) > 0) {
    text.append(piece, static_cast<size_t>(got));
  }
  return text;
}

// As the program left it: it may have changed its arguments.
std::string MemoryText(GuestMemory& memory, uint64_t start, uint64_t end) {
  if (start >= end) return "";
  std::string text(std::min(end - start, kMostText), '\0');
  return memory.CopyIn(text.data(), GuestAddr(start), text.size()) == 0 ? text : "";
}

OwnStatus Own(Process& process, Thread& thread) {
  OwnStatus own;
  own.pid = process.identity().pid;
  own.host_pid = static_cast<uint32_t>(getpid());
  own.comm = thread.comm;
  own.threads = process.thread_count();
  own.layout = process.space().layout();
  for (const Mapping& mapping : process.space().Mappings())
    own.bytes += mapping.end - mapping.start;
  SignalState& signals = process.signals();
  auto bits = [](const std::vector<siginfo_t>& all) {
    SignalSet set = 0;
    for (const siginfo_t& info : all) set |= SignalBit(info.si_signo);
    return set;
  };
  own.thread_pending = bits(signals.ThreadPending(thread.tid));
  own.process_pending = bits(signals.ProcessPending());
  own.blocked = signals.Mask(thread.tid);
  for (int sig = 1; sig <= kMaxSignal; ++sig) {
    SignalAction action = signals.Action(sig);
    if (action.handler == reinterpret_cast<uint64_t>(SIG_IGN)) own.ignored |= SignalBit(sig);
    if (action.handler > reinterpret_cast<uint64_t>(SIG_IGN)) own.caught |= SignalBit(sig);
  }
  return own;
}

// Those that proc(5) shows in "stat".
constexpr SignalSet kOldSignals = 0x7fffffff;

std::string Mask(SignalSet set) { return absl::StrFormat("%016x", set); }

std::string LimitValue(rlim_t value) {
  return value == RLIM_INFINITY ? "unlimited" : absl::StrCat(value);
}

}  // namespace

std::string StatText(const std::string& host, const OwnStatus& own) {
  // The name may hold anything, also ')'.
  size_t name_end = host.rfind(')');
  if (name_end == std::string::npos) return host;
  // fields[i] is field i + 3 of proc(5).
  std::vector<std::string> fields =
      absl::StrSplit(absl::StripAsciiWhitespace(host.substr(name_end + 1)), ' ');
  auto set = [&fields](size_t field, uint64_t value) {
    if (field - 3 < fields.size()) fields[field - 3] = absl::StrCat(value);
  };
  for (size_t field : {5, 6, 8}) {  // process group, session, the terminal's group
    if (field - 3 < fields.size() && fields[field - 3] == absl::StrCat(own.host_pid)) {
      set(field, own.pid);
    }
  }
  if (!fields.empty()) fields[0].assign(1, 'R');  // whoever asks is running
  set(20, own.threads);
  set(23, own.bytes);
  for (size_t field = 26; field <= 30; ++field) set(field, 0);  // code, stack pointer, pc
  set(28, own.layout.stack_end);
  set(31, own.thread_pending & kOldSignals);
  set(32, own.blocked & kOldSignals);
  set(33, own.ignored & kOldSignals);
  set(34, own.caught & kOldSignals);
  set(45, 0);
  set(46, 0);
  set(47, own.layout.brk_start);
  set(48, own.layout.arguments_start);
  set(49, own.layout.arguments_end);
  set(50, own.layout.environment_start);
  set(51, own.layout.environment_end);
  return absl::StrCat(own.pid, " (", own.comm, ") ", absl::StrJoin(fields, " "), "\n");
}

std::string StatusText(const std::string& host, const OwnStatus& own) {
  struct Field {
    const char* name;
    std::string value;
  };
  const Field own_fields[] = {
      {"Name", own.comm},
      {"State", "R (running)"},
      {"Tgid", absl::StrCat(own.pid)},
      {"Pid", absl::StrCat(own.pid)},
      {"NStgid", absl::StrCat(own.pid)},
      {"NSpid", absl::StrCat(own.pid)},
      {"VmPeak", absl::StrFormat("%8d kB", own.bytes >> 10)},
      {"VmSize", absl::StrFormat("%8d kB", own.bytes >> 10)},
      {"VmData", absl::StrFormat("%8d kB", own.data_bytes >> 10)},
      {"Threads", absl::StrCat(own.threads)},
      {"SigPnd", Mask(own.thread_pending)},
      {"ShdPnd", Mask(own.process_pending)},
      {"SigBlk", Mask(own.blocked)},
      {"SigIgn", Mask(own.ignored)},
      {"SigCgt", Mask(own.caught)},
  };
  std::string text;
  for (absl::string_view line : absl::StrSplit(host, '\n', absl::SkipEmpty())) {
    absl::string_view name = line.substr(0, line.find(':'));
    auto field = std::find_if(std::begin(own_fields), std::end(own_fields),
                              [name](const Field& f) { return name == f.name; });
    if (field == std::end(own_fields)) {
      absl::StrAppend(&text, line, "\n");
    } else {
      absl::StrAppend(&text, name, ":\t", field->value, "\n");
    }
  }
  return text;
}

std::string StatmText(const std::string& host, const OwnStatus& own) {
  size_t space = host.find(' ');
  return space == std::string::npos ? host
                                    : absl::StrCat(own.bytes / kPageSize, host.substr(space));
}

std::string LimitsText(const std::array<rlimit, RLIM_NLIMITS>& limits) {
  struct Row {
    const char* name;
    const char* unit;
  };
  constexpr Row kRows[RLIM_NLIMITS] = {
      {"Max cpu time", "seconds"},     {"Max file size", "bytes"},
      {"Max data size", "bytes"},      {"Max stack size", "bytes"},
      {"Max core file size", "bytes"}, {"Max resident set", "bytes"},
      {"Max processes", "processes"},  {"Max open files", "files"},
      {"Max locked memory", "bytes"},  {"Max address space", "bytes"},
      {"Max file locks", "locks"},     {"Max pending signals", "signals"},
      {"Max msgqueue size", "bytes"},  {"Max nice priority", ""},
      {"Max realtime priority", ""},   {"Max realtime timeout", "us"},
  };
  std::string text =
      absl::StrFormat("%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units");
  for (size_t i = 0; i < limits.size(); ++i) {
    absl::StrAppendFormat(&text, "%-25s %-20s %-20s ", kRows[i].name,
                          LimitValue(limits[i].rlim_cur), LimitValue(limits[i].rlim_max));
    if (*kRows[i].unit != '\0') absl::StrAppendFormat(&text, "%-10s", kRows[i].unit);
    text += '\n';
  }
  return text;
}

std::optional<std::string> OwnText(Process& process, Thread& thread, const std::string& name) {
  const AddressSpace::Layout layout = process.space().layout();
  if (name == "maps") return process.space().MapsText();
  if (name == "environ") {
    return MemoryText(process.memory(), layout.environment_start, layout.environment_end);
  }
  if (name == "cmdline") {
    std::string text = MemoryText(process.memory(), layout.arguments_start, layout.arguments_end);
    return text.empty() ? process.identity().command_line : text;
  }
  if (name == "auxv") {
    const std::vector<uint64_t>& auxv = process.identity().auxv;
    return std::string(reinterpret_cast<const char*>(auxv.data()), auxv.size() * sizeof(uint64_t));
  }
  if (name == "comm") return thread.comm + "\n";
  if (name == "limits") return LimitsText(process.Limits());
  if (name == "stat") return StatText(HostText("/proc/self/stat"), Own(process, thread));
  if (name == "status") return StatusText(HostText("/proc/self/status"), Own(process, thread));
  if (name == "statm") return StatmText(HostText("/proc/self/statm"), Own(process, thread));
  return std::nullopt;
}

}  // namespace km
