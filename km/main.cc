#include <unistd.h>

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "km/base/log.h"
#include "km/files/fd_table.h"
#include "km/loader/program_path.h"
#include "km/monitor/monitor.h"
#include "km/monitor/options.h"
#include "km/syscalls/call.h"

namespace {

int Print(const std::string& text) {
  return fwrite(text.data(), 1, text.size(), stdout) == text.size() && fflush(stdout) == 0
             ? 0
             : km::kExitOwnFailure;
}

int Fail(const absl::Status& status) {
  km::Log(km::LogLevel::kError, status.message());
  return km::ExitCodeFor(status);
}

}  // namespace

// Linked in place of absl::base_internal::NominalCPUFrequency (Makefile, ABSL_WRAP). That one
// sleeps for 3 ms and more to measure it, in the middle of the first mutex for which two threads
// wait at the same time, and holds up all that want it: at the start of each resumed process with
// threads. What abseil uses it for is to look at a waiting thread's priority again after about a
// second.
extern "C" double km_nominal_frequency() { return 1e9; }

int main(int argc, char** argv) {
  // Debian's abseil is built for debugging: each lock looks for cycles, under a spin lock of all.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  km::FdTable::ReserveStandard();
  km::FdTable::MakeRoom(km::FdTable::kRoom);
  absl::StatusOr<km::Options> options = km::ParseOptions(argc, argv, environ);
  if (!options.ok()) return Fail(options.status());
  switch (options->action) {
    case km::Options::Action::kHelp:
      return Print(km::HelpText());
    case km::Options::Action::kVersion:
      return Print(absl::StrCat("km ", km::kKmVersion, "\n"));
    case km::Options::Action::kPrintSyscalls:
      return Print(km::SyscallsDocument());
    case km::Options::Action::kRun:
      break;
  }
  absl::StatusOr<std::unique_ptr<km::Monitor>> monitor = km::Monitor::Create(*options);
  if (!monitor.ok()) return Fail(monitor.status());
  // Host threads may exist already: nothing is taken down under them.
  if (absl::Status status = (*monitor)->Load(); !status.ok()) _exit(Fail(status));
  (*monitor)->Run();
}
