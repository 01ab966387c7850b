#include "km/syscalls/proc_texts.h"

#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "km/base/host_files.h"
#include "km/base/owned.h"

namespace km {
namespace {

// More of the program's memory is not copied for one file; Linux allows arguments of 6 MiB.
constexpr uint64_t kMostText = uint64_t{8} << 20;

// As the program left it: it may have changed its arguments.
std::string MemoryText(GuestMemory& memory, uint64_t start, uint64_t end) {
  if (start >= end) return "";
  std::string text(std::min(end - start, kMostText), '\0');
  return memory.CopyIn(text.data(), GuestAddr(start), text.size()) == 0 ? text : "";
}

SignalSet SetOf(const std::vector<siginfo_t>& all) {
  SignalSet set = 0;
  for (const siginfo_t& info : all) set |= SignalBit(info.si_signo);
  return set;
}

// `own.tid` 0 tells of the first thread where it tells of one. None: the thread has ended. It may
// do so at any time.
std::optional<OwnStatus> StatusOf(Call& call, const OwnName& own) {
  Process& process = call.process;
  OwnStatus status;
  status.pid = process.identity().pid;
  status.id = own.tid != 0 ? own.tid : status.pid;
  const ProcessIds& ids = process.ids();
  status.group = ids.group();
  status.session = ids.session();
  status.host_group = static_cast<uint32_t>(getpgrp());
  status.host_session = static_cast<uint32_t>(getsid(0));
  status.comm = process.Comm(status.id);
  SignalState& signals = process.signals();
  const std::optional<SignalState::ThreadSets> sets = signals.SetsOf(status.id);
  if (!sets.has_value() && status.id != status.pid) return std::nullopt;
  if (status.id == call.thread.tid) status.state = 'R';  // whoever asks is running
  if (!sets.has_value()) status.state = 'Z';
  status.threads = process.thread_count();
  std::vector<FdTable::Entry> open = process.files().Entries();
  uint64_t highest = open.empty() ? 0 : static_cast<uint64_t>(open.back().number);
  status.descriptors = std::bit_ceil(std::max<uint64_t>(highest + 1, 64));
  status.resident_limit = process.Limits()[RLIMIT_RSS].rlim_cur;
  status.memory = MemoryUseOf(process);
  status.program = AddressesOf(process.identity().program);
  status.layout = process.space().layout();
  status.process_pending = SetOf(signals.ProcessPending());
  if (sets.has_value()) {
    status.thread_pending = sets->pending;
    status.blocked = sets->mask;
  }
  for (int sig = 1; sig <= kMaxSignal; ++sig) {
    SignalAction action = signals.Action(sig);
    if (action.handler == reinterpret_cast<uint64_t>(SIG_IGN)) status.ignored |= SignalBit(sig);
    if (action.handler > reinterpret_cast<uint64_t>(SIG_IGN)) status.caught |= SignalBit(sig);
  }
  return status;
}

// Those that proc(5) shows in "stat".
constexpr SignalSet kOldSignals = 0x7fffffff;

// As the kernel prints a name that may hold anything.
std::string EscapedComm(const std::string& comm) {
  std::string text;
  for (char c : comm) {
    if (c == '\n') {
      text += "\\n";
    } else if (c == '\\') {
      text += "\\\\";
    } else {
      text += c;
    }
  }
  return text;
}

std::string Mask(SignalSet set) { return absl::StrFormat("%016x", set); }

std::string LimitValue(rlim_t value) {
  return value == RLIM_INFINITY ? "unlimited" : absl::StrCat(value);
}

// The fields of /proc/PID/stat behind the name: element i is field i + 3 of proc(5).
std::vector<std::string> StatFields(const std::string& text) {
  // The name may hold anything, also ')'.
  size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  return absl::StrSplit(absl::StripAsciiWhitespace(text.substr(name_end + 1)), ' ');
}

// Kilobytes of a line of /proc/PID/status; 0 when it is not there.
uint64_t StatusValue(const std::string& text, absl::string_view name) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::ConsumePrefix(&line, name) || !absl::ConsumePrefix(&line, ":")) continue;
    uint64_t value = 0;
    absl::ConsumeSuffix(&line, " kB");
    return absl::SimpleAtoi(line, &value) ? value : 0;
  }
  return 0;
}

uint64_t Less(uint64_t whole, uint64_t part) { return whole > part ? whole - part : 0; }

// A number of a process group or session, as the program knows it.
std::string GuestGroup(const OwnStatus& own, const std::string& host) {
  if (host == absl::StrCat(own.host_group)) return absl::StrCat(own.group);
  return host == absl::StrCat(own.host_session) ? absl::StrCat(own.session) : host;
}

std::string StateText(char state) {
  return state == 'R' ? "R (running)" : state == 'Z' ? "Z (zombie)" : "";
}

// A text of numbers for the call that the calling thread is in: proc(5), "syscall".
std::optional<std::string> SyscallText(const Call& call) {
  const Registers& at = call.thread.registers;
  return absl::StrFormat("%d 0x%x 0x%x 0x%x 0x%x 0x%x 0x%x 0x%x 0x%x\n", call.number,
                         call.arguments[0], call.arguments[1], call.arguments[2], call.arguments[3],
                         call.arguments[4], call.arguments[5], at.rsp, at.rip);
}

// The first line names the thread.
std::string SchedText(Process& process, const std::string& host, const OwnName& own) {
  uint32_t id = own.tid != 0 ? own.tid : process.identity().pid;
  size_t line = host.find('\n');
  if (line == std::string::npos) return "";
  return absl::StrFormat("%s (%d, #threads: %d)", process.Comm(id), id, process.thread_count()) +
         host.substr(line);
}

}  // namespace

ProgramAddresses AddressesOf(const LoadedElf& program) {
  ProgramAddresses at;
  at.start_code = ~uint64_t{0};
  for (size_t i = 0; i + sizeof(Elf64_Phdr) <= program.program_headers.size();
       i += sizeof(Elf64_Phdr)) {
    Elf64_Phdr header;
    memcpy(&header, &program.program_headers[i], sizeof(header));
    if (header.p_type != PT_LOAD) continue;
    uint64_t start = program.load_bias + header.p_vaddr, end = start + header.p_filesz;
    at.start_code = std::min(at.start_code, start);
    at.start_data = std::max(at.start_data, start);
    if (header.p_flags & PF_X) at.end_code = std::max(at.end_code, end);
    at.end_data = std::max(at.end_data, end);
  }
  return at.end_data == 0 ? ProgramAddresses() : at;
}

std::string StatText(const std::string& host, const std::string& thread, const OwnStatus& own) {
  std::vector<std::string> fields = StatFields(host), of_thread = StatFields(thread);
  if (fields.empty()) return host;
  auto set = [&fields](size_t field, uint64_t value) {
    if (field - 3 < fields.size()) fields[field - 3] = absl::StrCat(value);
  };
  for (size_t field : {3, 18, 19, 39, 40, 41}) {  // state, priorities, processor, policy
    if (field - 3 < std::min(fields.size(), of_thread.size())) {
      fields[field - 3] = of_thread[field - 3];
    }
  }
  set(5, own.group);
  set(6, own.session);
  if (fields.size() > 8 - 3) fields[8 - 3] = GuestGroup(own, fields[8 - 3]);  // the terminal's
  if (own.state != 0) fields[0].assign(1, own.state);
  set(20, own.threads);
  set(23, own.memory.size);
  uint64_t resident = 0;
  if (fields.size() > 24 - 3 && absl::SimpleAtoi(fields[24 - 3], &resident)) {
    set(24, Less(resident, (own.memory.own_anonymous + own.memory.own_file) / kPageSize));
  }
  set(25, own.resident_limit);
  set(26, own.program.start_code);
  set(27, own.program.end_code);
  set(28, own.layout.stack_end);
  set(29, 0);  // stack pointer and program counter: of the dead only
  set(30, 0);
  set(31, own.thread_pending & kOldSignals);
  set(32, own.blocked & kOldSignals);
  set(33, own.ignored & kOldSignals);
  set(34, own.caught & kOldSignals);
  set(43, 0);  // time in virtual machines
  set(44, 0);
  set(45, own.program.start_data);
  set(46, own.program.end_data);
  set(47, own.layout.brk_start);
  set(48, own.layout.arguments_start);
  set(49, own.layout.arguments_end);
  set(50, own.layout.environment_start);
  set(51, own.layout.environment_end);
  return absl::StrCat(own.id, " (", own.comm, ") ", absl::StrJoin(fields, " "), "\n");
}

std::string StatusText(const std::string& host, const OwnStatus& own) {
  const MemoryUse& memory = own.memory;
  uint64_t own_present = (memory.own_anonymous + memory.own_file) >> 10;
  uint64_t anonymous = Less(StatusValue(host, "RssAnon"), memory.own_anonymous >> 10);
  uint64_t shared = StatusValue(host, "RssShmem");
  // Shared anonymous memory of the monitor's counts as pages of files.
  uint64_t files = Less(StatusValue(host, "RssFile") + shared, memory.own_file >> 10);
  shared = std::min(shared, files);
  uint64_t resident = anonymous + files;
  auto size = [](uint64_t kilobytes) { return absl::StrFormat("%8d kB", kilobytes); };
  struct Field {
    const char* name;
    std::string value;
  };
  const Field own_fields[] = {
      {"Name", EscapedComm(own.comm)},
      {"State", StateText(own.state)},
      {"Tgid", absl::StrCat(own.pid)},
      {"Pid", absl::StrCat(own.id)},
      {"FDSize", absl::StrCat(own.descriptors)},
      {"NStgid", absl::StrCat(own.pid)},
      {"NSpid", absl::StrCat(own.id)},
      {"VmPeak", size(memory.peak >> 10)},
      {"VmSize", size(memory.size >> 10)},
      {"VmHWM", size(std::max(resident, Less(StatusValue(host, "VmHWM"), own_present)))},
      {"VmRSS", size(resident)},
      {"RssAnon", size(anonymous)},
      {"RssFile", size(files - shared)},
      {"RssShmem", size(shared)},
      {"VmData", size(memory.data >> 10)},
      {"VmStk", size(memory.stack >> 10)},
      {"VmExe", size(memory.code >> 10)},
      {"VmLib", size(memory.libraries >> 10)},
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
    if (name == "NSpgid" || name == "NSsid") {
      std::string id(absl::StripAsciiWhitespace(line.substr(name.size() + 1)));
      const bool session = name == "NSsid" && id == absl::StrCat(own.host_session);
      absl::StrAppend(&text, name, ":\t", session ? absl::StrCat(own.session) : GuestGroup(own, id),
                      "\n");
    } else if (field == std::end(own_fields) || field->value.empty()) {
      absl::StrAppend(&text, line, "\n");
    } else {
      absl::StrAppend(&text, name, ":\t", field->value, "\n");
    }
  }
  return text;
}

// size resident shared text lib data dt, in pages
std::string StatmText(const std::string& host, const OwnStatus& own) {
  std::vector<std::string> fields = absl::StrSplit(absl::StripAsciiWhitespace(host), ' ');
  uint64_t resident = 0, shared = 0;
  if (fields.size() < 7 || !absl::SimpleAtoi(fields[1], &resident) ||
      !absl::SimpleAtoi(fields[2], &shared)) {
    return host;
  }
  const MemoryUse& memory = own.memory;
  return absl::StrFormat("%d %d %d %d 0 %d 0\n", memory.size / kPageSize,
                         Less(resident, (memory.own_anonymous + memory.own_file) / kPageSize),
                         Less(shared, memory.own_file / kPageSize), memory.code / kPageSize,
                         (memory.data + memory.stack) / kPageSize);
}

// The host's descriptor has FD_CLOEXEC always, and knows what epoll watches by the host's numbers.
std::string FdInfoText(Process& process, const std::string& host, uint64_t fd) {
  std::string text;
  for (absl::string_view line : absl::StrSplit(host, '\n', absl::SkipEmpty())) {
    int watched = -1;
    unsigned flags = 0;
    std::string copy(line);
    if (sscanf(copy.c_str(), "flags:\t%o", &flags) == 1) {
      flags &= ~unsigned{O_CLOEXEC};
      if (process.files().CloseOnExec(fd) == 1) flags |= O_CLOEXEC;
      absl::StrAppendFormat(&text, "flags:\t0%o\n", flags);
    } else if (sscanf(copy.c_str(), "tfd: %d", &watched) == 1) {
      for (const FdTable::Entry& entry : process.files().Entries()) {
        if (entry.file->host.get() != watched) continue;
        absl::StrAppendFormat(&text, "tfd: %8d%s\n", entry.number,
                              copy.substr(std::min<size_t>(copy.find(" events"), copy.size())));
      }
    } else {
      absl::StrAppend(&text, line, "\n");
    }
  }
  return text;
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

bool MakesText(const std::string& name) {
  static constexpr const char* kNames[] = {"auxv",  "cmdline", "comm",   "environ",      "limits",
                                           "maps",  "sched",   "smaps",  "smaps_rollup", "stat",
                                           "statm", "status",  "syscall"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames) ||
         absl::StartsWith(name, "fdinfo/");
}

namespace {

// Of what is the same for all threads.
std::optional<std::string> ProcessText(Process& process, const std::string& name) {
  const AddressSpace::Layout layout = process.space().layout();
  if (name == "maps") return process.space().MapsText();
  if (name == "smaps") return SmapsText(process);
  if (name == "smaps_rollup") return SmapsRollupText(process);
  if (name == "limits") return LimitsText(process.Limits());
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
  return std::nullopt;
}

std::optional<std::string> StatusFile(Call& call, const OwnName& own, const std::string& path,
                                      uint32_t id) {
  // Of the first thread, where the process's own files tell of it.
  const std::string of_thread = HostPathOfOwn(call.process, {id, own.name});
  const std::string host = HostText(path);
  const std::optional<OwnStatus> status = StatusOf(call, own);
  if (host.empty() || !status.has_value()) return std::nullopt;
  if (own.name == "statm") return StatmText(host, *status);
  const std::string thread = HostText(of_thread);
  if (own.name == "stat") return StatText(host, thread, *status);
  return StatusText(thread.empty() ? host : thread, *status);
}

}  // namespace

std::optional<std::string> OwnText(Call& call, const OwnName& own) {
  Process& process = call.process;
  std::string path = HostPathOfOwn(process, own);
  if (path.empty()) return std::nullopt;
  uint32_t id = own.tid != 0 ? own.tid : process.identity().pid;
  if (own.name == "comm") return process.Comm(id) + "\n";
  if (own.name == "sched") return SchedText(process, HostText(path), own);
  if (own.name == "syscall") {
    return id == call.thread.tid ? SyscallText(call) : std::nullopt;
  }
  uint64_t fd = 0;
  if (absl::StartsWith(own.name, "fdinfo/") && absl::SimpleAtoi(own.name.substr(7), &fd)) {
    return FdInfoText(process, HostText(path), fd);
  }
  if (own.name == "stat" || own.name == "status" || own.name == "statm") {
    return StatusFile(call, own, path, id);
  }
  return ProcessText(process, own.name);
}

}  // namespace km
