#include "km/monitor/stats.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "km/base/output.h"

namespace km {
namespace {

constexpr double kSecond = 1e9;
constexpr int64_t kLastErrno = 4095;
constexpr int kLowestFd = 3;  // out of the way of the standard descriptors

constexpr const char* kVectorNames[] = {
    "divide error",   "debug",
    nullptr,          "breakpoint",
    "overflow",       "bound",
    "invalid opcode", "no FPU",
    "double fault",   nullptr,
    "invalid TSS",    "segment not present",
    "stack fault",    "general protection",
    "page fault",     nullptr,
    "x87 error",      "alignment check",
    "machine check",  "SIMD error",
    nullptr,          "control protection",
};

const char* KindName(VcpuExit::Kind kind) {
  switch (kind) {
    case VcpuExit::Kind::kSystemCall:
      return "system call";
    case VcpuExit::Kind::kException:
      return "exception";
    case VcpuExit::Kind::kInterrupted:
      return "kick";
    case VcpuExit::Kind::kHostFault:
      return "host fault";
    case VcpuExit::Kind::kUserOut:
      return "system call by out";
    case VcpuExit::Kind::kStrayPort:
      return "stray port access";
    case VcpuExit::Kind::kFailed:
      return "KVM failure";
  }
  return "";
}

std::string VectorName(size_t vector) {
  const char* name = vector < std::size(kVectorNames) ? kVectorNames[vector] : nullptr;
  return name != nullptr ? name : absl::StrCat("vector ", vector);
}

// "" for 0, as strace -c leaves it empty.
std::string CountText(uint64_t n) { return n != 0 ? absl::StrCat(n) : std::string(); }

using Counted = std::vector<std::pair<uint64_t, std::string>>;

void Sort(Counted* rows) {
  std::stable_sort(rows->begin(), rows->end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
}

std::string RowsText(const Counted& rows) {
  std::string text;
  for (const auto& [count, name] : rows) absl::StrAppendFormat(&text, "%9d %s\n", count, name);
  return text;
}

}  // namespace

Stats::Stats(int64_t now)
    : output_(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, kLowestFd)),
      begin_(now),
      calls_(SyscallCount() + 1) {}

void Stats::CountCall(const SyscallRow* row, int64_t result, int64_t nanoseconds) {
  size_t place = row != nullptr ? static_cast<size_t>(row - &SyscallAt(0)) : SyscallCount();
  CallCounters& counters = calls_[place];
  Add(counters.nanoseconds, static_cast<uint64_t>(std::max<int64_t>(nanoseconds, 0)));
  if (result == kRestart || result == kRestartAlways || result == kRestartNoHandler) return;
  Add(counters.calls, 1);
  if (result < 0 && result >= -kLastErrno) Add(counters.errors, 1);
  if (result == -ENOSYS) Add(counters.unsupported, 1);
}

void Stats::CountExit(const VcpuExit& exit, int64_t guest_nanoseconds) {
  Add(exits_[static_cast<size_t>(exit.kind)], 1);
  if (exit.kind == VcpuExit::Kind::kException && exit.vector < exceptions_.size()) {
    Add(exceptions_[exit.vector], 1);
  }
  Add(guest_nanoseconds_, static_cast<uint64_t>(std::max<int64_t>(guest_nanoseconds, 0)));
}

void Stats::CountSnapshot(int64_t nanoseconds) {
  Add(snapshots_, 1);
  Add(snapshot_nanoseconds_, static_cast<uint64_t>(std::max<int64_t>(nanoseconds, 0)));
}

std::string Stats::NameAt(size_t place) {
  return place < SyscallCount() ? SyscallAt(place).name : "(unknown numbers)";
}

std::vector<Stats::CallRow> Stats::CallRows() const {
  std::vector<CallRow> rows;
  for (size_t i = 0; i < calls_.size(); ++i) {
    const CallCounters& from = calls_[i];
    if (from.calls.load() == 0) continue;
    rows.push_back({NameAt(i), from.calls.load(), from.errors.load(), from.unsupported.load(),
                    from.nanoseconds.load()});
  }
  std::stable_sort(rows.begin(), rows.end(), [](const CallRow& a, const CallRow& b) {
    return a.nanoseconds > b.nanoseconds;
  });
  return rows;
}

std::string Stats::CallTable() const {
  const std::vector<CallRow> rows = CallRows();
  CallRow total = {.name = "total"};
  for (const CallRow& row : rows) {
    total.calls += row.calls;
    total.errors += row.errors;
    total.nanoseconds += row.nanoseconds;
  }
  constexpr const char* kRule =
      "------ ----------- ----------- --------- --------- ----------------\n";
  std::string text =
      absl::StrCat("% time     seconds  usecs/call     calls    errors syscall\n", kRule);
  auto line = [&text, &total](const CallRow& row) {
    double share = total.nanoseconds != 0 ? 100.0 * row.nanoseconds / total.nanoseconds : 0;
    uint64_t each = row.calls != 0 ? row.nanoseconds / 1000 / row.calls : 0;
    absl::StrAppendFormat(&text, "%6.2f %11.6f %11d %9d %9s %s\n", share, row.nanoseconds / kSecond,
                          each, row.calls, CountText(row.errors), row.name);
  };
  for (const CallRow& row : rows) line(row);
  text += kRule;
  line(total);
  return text;
}

std::string Stats::UnsupportedTable() const {
  Counted rows;
  for (size_t i = 0; i < calls_.size(); ++i) {
    if (uint64_t n = calls_[i].unsupported.load(); n != 0) rows.emplace_back(n, NameAt(i));
  }
  if (rows.empty()) return "";
  Sort(&rows);
  return absl::StrCat("\n    calls answered ENOSYS\n", RowsText(rows));
}

Stats::Counted Stats::ExitRows() const {
  Counted rows;
  uint64_t named = 0;
  for (size_t vector = 0; vector < exceptions_.size(); ++vector) {
    uint64_t n = exceptions_[vector].load();
    if (n != 0) rows.emplace_back(n, VectorName(vector));
    named += n;
  }
  for (size_t i = 0; i < exits_.size(); ++i) {
    auto kind = static_cast<VcpuExit::Kind>(i);
    uint64_t n = exits_[i].load();
    if (kind == VcpuExit::Kind::kException) n -= std::min(n, named);
    if (n != 0) rows.emplace_back(n, KindName(kind));
  }
  Sort(&rows);
  return rows;
}

std::string Stats::ExitTable() const {
  const Counted rows = ExitRows();
  uint64_t total = 0;
  for (const auto& [count, name] : rows) total += count;
  return absl::StrCat("\n    exits reason\n", RowsText(rows),
                      absl::StrFormat("%9d total\n", total));
}

uint64_t Stats::CallNanoseconds() const {
  uint64_t sum = 0;
  for (const CallCounters& counters : calls_) sum += counters.nanoseconds.load();
  return sum;
}

Json Stats::Figures(int64_t now) const {
  Json calls = Json::array(), exits = Json::array();
  for (const CallRow& row : CallRows()) {
    calls.push_back({{"name", row.name},
                     {"calls", row.calls},
                     {"errors", row.errors},
                     {"unsupported", row.unsupported},
                     {"ns", row.nanoseconds}});
  }
  for (const auto& [count, reason] : ExitRows()) {
    exits.push_back({{"reason", reason}, {"count", count}});
  }
  return {{"calls", std::move(calls)},
          {"exits", std::move(exits)},
          {"program_ns", guest_nanoseconds_.load()},
          {"calls_ns", CallNanoseconds()},
          {"elapsed_ns", now - begin_},
          {"signals", signals_.load()},
          {"snapshots", snapshots_.load()},
          {"snapshots_ns", snapshot_nanoseconds_.load()}};
}

std::string Stats::Table(int64_t now) const {
  std::string text = absl::StrCat(CallTable(), UnsupportedTable(), ExitTable());
  absl::StrAppendFormat(&text,
                        "\n  seconds, summed over threads\n"
                        "%9.6f in the program\n"
                        "%9.6f in system calls, waiting included\n"
                        "%9.6f from start to end, by the clock\n",
                        guest_nanoseconds_.load() / kSecond, CallNanoseconds() / kSecond,
                        (now - begin_) / kSecond);
  absl::StrAppendFormat(&text, "\n%9d signals\n", signals_.load());
  if (uint64_t n = snapshots_.load(); n != 0) {
    absl::StrAppendFormat(&text, "%9d snapshots, %.6f seconds\n", n,
                          snapshot_nanoseconds_.load() / kSecond);
  }
  return text;
}

void Stats::Print(int64_t now) const { WriteOutput(output_.get(), Table(now)); }

}  // namespace km
