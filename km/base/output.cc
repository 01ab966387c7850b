#include "km/base/output.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "km/base/pending_signal.h"

namespace km {

void WriteOutput(int fd, absl::string_view text) {
  if (write(fd, text.data(), text.size()) >= 0 || errno != EPIPE) return;
  sigset_t blocked;
  if (pthread_sigmask(SIG_BLOCK, nullptr, &blocked) != 0 || !sigismember(&blocked, SIGPIPE)) return;
  siginfo_t info;
  if (TakePendingSignal(SIGPIPE, &info) != PendingSignal::kOthers) return;
  // It was for the program.
  syscall(SYS_rt_sigqueueinfo, getpid(), SIGPIPE, &info);
}

}  // namespace km
