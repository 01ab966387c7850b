#include "km/base/output.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>

namespace km {

void WriteOutput(int fd, absl::string_view text) {
  if (write(fd, text.data(), text.size()) >= 0 || errno != EPIPE) return;
  sigset_t set, blocked;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  if (pthread_sigmask(SIG_BLOCK, nullptr, &blocked) != 0 || !sigismember(&blocked, SIGPIPE)) return;
  siginfo_t info;
  const timespec none = {};
  if (sigtimedwait(&set, &info, &none) != SIGPIPE || info.si_pid == getpid()) return;
  // Somebody else sent it, to the program.
  syscall(SYS_rt_sigqueueinfo, getpid(), SIGPIPE, &info);
}

}  // namespace km
