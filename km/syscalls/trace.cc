#include "km/syscalls/trace.h"

#include <fcntl.h>
#include <regex.h>

#include <cerrno>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "km/base/output.h"
#include "km/base/status.h"

namespace km {
namespace {

// Out of the way of the standard descriptors, should one of them be closed.
constexpr int kLowestFd = 3;

std::string Prefix(uint32_t tid, bool several) {
  return several ? absl::StrFormat("[pid %5u] ", tid) : std::string();
}

bool HasOthers(const Process& process) {
  return process.thread_count() > 1 || !process.CompanionPids().empty();
}

auto Reader(GuestMemory& memory) {
  return [&memory](void* to, uint64_t from, size_t size) {
    return memory.CopyIn(to, GuestAddr(from), size) == 0;
  };
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tracer>> Tracer::Create(absl::string_view regex) {
  regex_t compiled;
  std::string pattern(regex);
  if (int error = regcomp(&compiled, pattern.c_str(), REG_EXTENDED | REG_NOSUB); error != 0) {
    char reason[128];
    regerror(error, &compiled, reason, sizeof(reason));
    return absl::InvalidArgumentError(
        absl::StrCat("--trace: bad regular expression '", regex, "': ", reason));
  }
  absl::Cleanup free_compiled = [&compiled] { regfree(&compiled); };
  std::vector<bool> wanted(SyscallCount());
  bool any = false;
  for (size_t i = 0; i < wanted.size(); ++i) {
    wanted[i] = regexec(&compiled, SyscallAt(i).name, 0, nullptr, 0) == 0;
    any = any || wanted[i];
  }
  if (!any) {
    return absl::InvalidArgumentError(
        absl::StrCat("--trace: no system call's name matches '", regex, "'"));
  }
  OwnedFd output(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, kLowestFd));
  if (!output.valid()) return ErrnoStatus(errno, "--trace: standard error cannot be used");
  return std::unique_ptr<Tracer>(new Tracer(std::move(output), std::move(wanted)));
}

bool Tracer::Wants(const SyscallRow* row) const {
  return row == nullptr || wanted_[static_cast<size_t>(row - &SyscallAt(0))];
}

TraceLine Tracer::Begin(const Call& call, const SyscallRow* row) const {
  return BeginTraceLine(row, call.arguments, Reader(call.memory()));
}

void Tracer::End(const TraceLine& line, const Call& call, std::optional<int64_t> result) const {
  std::string prefix = Prefix(call.thread.tid, HasOthers(call.process));
  Write(EndTraceLine(prefix, line, call.number, call.arguments, result, Reader(call.memory())));
}

void Tracer::Signal(Process& process, const Thread& thread, const siginfo_t& info) const {
  Write(absl::StrCat(Prefix(thread.tid, HasOthers(process)), "--- ", FormatSignal(info.si_signo),
                     " ", FormatSiginfo(info), " ---"));
}

void Tracer::ThreadExited(uint32_t tid, int status) const {
  Write(absl::StrCat(Prefix(tid, true), "+++ exited with ", status & 0xff, " +++"));
}

void Tracer::Exited(int status) const {
  Write(absl::StrCat("+++ exited with ", status & 0xff, " +++"));
}

void Tracer::Killed(int sig, bool core_dumped) const {
  Write(absl::StrCat("+++ killed by ", FormatSignal(sig), core_dumped ? " (core dumped)" : "",
                     " +++"));
}

void Tracer::Write(const std::string& line) const { WriteOutput(output_.get(), line + "\n"); }

}  // namespace km
