#include "km/process/file_signals.h"

#include <optional>

#include "km/signals/siginfo.h"

namespace km {

// siginfo_layout() of kernel/signal.c.
bool TellsOfFile(int sig, int code) {
  switch (sig) {
    case SIGILL:
    case SIGFPE:
    case SIGSEGV:
    case SIGBUS:
    case SIGTRAP:
    case SIGCHLD:
    case SIGSYS:
      return code == SI_SIGIO;  // others are the signal's own
    default:
      return code == SI_SIGIO || (code >= POLL_IN && code <= POLL_HUP);
  }
}

int SendFileSignal(Process& process, siginfo_t info) {
  std::optional<FdTable::Entry> entry = process.files().FindHost(info.si_fd);
  // The kernel goes on naming a descriptor that was closed; the host's name for it says nothing.
  info.si_fd = entry.has_value() ? entry->number : -1;
  if (!entry.has_value()) return process.Signal(info);
  const FileDescription& description = *entry->file->description;
  uint32_t tid = description.owner_thread.load();
  if (tid == 0) return process.Signal(info);
  return process.SignalThread(tid,
                              description.owner_signal.load() == 0 ? KernelSiginfo(SIGIO) : info);
}

}  // namespace km
