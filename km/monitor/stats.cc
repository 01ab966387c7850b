#include "km/monitor/stats.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

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

std::string SortedRows(std::vector<std::pair<uint64_t, std::string>> rows) {
  std::stable_sort(rows.begin(), rows.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
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

std::string Stats::CallTable() const {
  struct Row {
    size_t place;
    uint64_t calls, errors, nanoseconds;
  };
  std::vector<Row> rows;
  Row total = {};
  for (size_t i = 0; i < calls_.size(); ++i) {
    Row row = {i, calls_[i].calls.load(), calls_[i].errors.load(), calls_[i].nanoseconds.load()};
    if (row.calls == 0) continue;
    rows.push_back(row);
    total.calls += row.calls;
    total.errors += row.errors;
    total.nanoseconds += row.nanoseconds;
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return a.nanoseconds > b.nanoseconds; });
  constexpr const char* kRule =
      "------ ----------- ----------- --------- --------- ----------------\n";
  std::string text =
      absl::StrCat("% time     seconds  usecs/call     calls    errors syscall\n", kRule);
  auto line = [&text, &total](const Row& row, absl::string_view name) {
    double share = total.nanoseconds != 0 ? 100.0 * row.nanoseconds / total.nanoseconds : 0;
    uint64_t each = row.calls != 0 ? row.nanoseconds / 1000 / row.calls : 0;
    absl::StrAppendFormat(&text, "%6.2f %11.6f %11d %9d %9s %s\n", share, row.nanoseconds / kSecond,
                          each, row.calls, CountText(row.errors), name);
  };
  for (const Row& row : rows) line(row, NameAt(row.place));
  text += kRule;
  line(total, "total");
  return text;
}

std::string Stats::UnsupportedTable() const {
  std::vector<std::pair<uint64_t, std::string>> rows;
  for (size_t i = 0; i < calls_.size(); ++i) {
    if (uint64_t n = calls_[i].unsupported.load(); n != 0) rows.emplace_back(n, NameAt(i));
  }
  if (rows.empty()) return "";
  return absl::StrCat("\n    calls answered ENOSYS\n", SortedRows(std::move(rows)));
}

std::string Stats::ExitTable() const {
  std::vector<std::pair<uint64_t, std::string>> rows;
  uint64_t total = 0;
  uint64_t named = 0;
  for (size_t vector = 0; vector < exceptions_.size(); ++vector) {
    uint64_t n = exceptions_[vector].load();
    if (n != 0) rows.emplace_back(n, VectorName(vector));
    named += n;
  }
  for (size_t i = 0; i < exits_.size(); ++i) {
    auto kind = static_cast<VcpuExit::Kind>(i);
    uint64_t n = exits_[i].load();
    total += n;
    if (kind == VcpuExit::Kind::kException) n -= std::min(n, named);
    if (n != 0) rows.emplace_back(n, KindName(kind));
  }
  return absl::StrCat("\n    exits reason\n", SortedRows(std::move(rows)),
                      absl::StrFormat("%9d total\n", total));
}

std::string Stats::Table(int64_t now) const {
  uint64_t in_calls = 0;
  for (const CallCounters& counters : calls_) in_calls += counters.nanoseconds.load();
  std::string text = absl::StrCat(CallTable(), UnsupportedTable(), ExitTable());
  absl::StrAppendFormat(&text,
                        "\n  seconds, summed over threads\n"
                        "%9.6f in the program\n"
                        "%9.6f in system calls, waiting included\n"
                        "%9.6f from start to end, by the clock\n",
                        guest_nanoseconds_.load() / kSecond, in_calls / kSecond,
                        (now - begin_) / kSecond);
  absl::StrAppendFormat(&text, "\n%9d signals\n", signals_.load());
  if (uint64_t n = snapshots_.load(); n != 0) {
    absl::StrAppendFormat(&text, "%9d snapshots, %.6f seconds\n", n,
                          snapshot_nanoseconds_.load() / kSecond);
  }
  return text;
}

void Stats::Print(int64_t now) const {
  std::string text = Table(now);
  // Nothing can be done about a standard error that takes no bytes.
  [[maybe_unused]] ssize_t written = write(output_.get(), text.data(), text.size());
}

}  // namespace km
