#include "km/process/process_ids.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "km/base/owned.h"
#include "km/base/status.h"

namespace km {
namespace {

bool IsMonitorThread(int host) { return host > 0 && syscall(SYS_tgkill, getpid(), host, 0) == 0; }

// Of the process; invalid where it has none.
OwnedFd ControllingTerminal() {
  return OwnedFd(open("/dev/tty", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
}

}  // namespace

bool ProcessIds::InForeground() {
  OwnedFd terminal = ControllingTerminal();
  return terminal.valid() && tcgetpgrp(terminal.get()) == getpgrp();
}

void ProcessIds::Set(uint32_t pid, uint32_t group, uint32_t session) {
  absl::MutexLock lock(&mutex_);
  process_ = {static_cast<int>(pid), getpid()};
  group_ = {static_cast<int>(group), getpgrp()};
  session_ = {static_cast<int>(session), getsid(0)};
}

int ProcessIds::GuestOf(int host) const {
  if (host == group_.host) return group_.guest;
  if (host == session_.host) return session_.guest;
  return host == process_.host ? process_.guest : host;
}

// A process leads the group and session that bear its number.
void ProcessIds::Moved() {
  absl::MutexLock lock(&mutex_);
  int group = getpgrp(), session = getsid(0);
  moved_ = true;
  group_ = {group == process_.host ? process_.guest : GuestOf(group), group};
  if (session != session_.host) {
    session_ = {session == process_.host ? process_.guest : GuestOf(session), session};
  }
}

bool ProcessIds::made_group() const {
  absl::MutexLock lock(&mutex_);
  return moved_ && group_.guest == process_.guest;
}

bool ProcessIds::made_session() const {
  absl::MutexLock lock(&mutex_);
  return moved_ && session_.guest == process_.guest;
}

absl::Status ProcessIds::Make(bool group, bool session, bool foreground) {
  const int self = getpid();
  foreground = foreground && !session && InForeground();
  if (session && getsid(0) != self && setsid() < 0) {
    // It leads a group, as each command of an interactive shell does: left for the shell's own, the
    // group is no more, unless others are in it.
    const int parent = getpgid(getppid());
    if (parent > 0) (void)setpgid(0, parent);
    if (setsid() < 0) {
      return ErrnoStatus(errno,
                         "cannot lead a session, as the program did: it leads a process group that "
                         "others are in (resume it by way of setsid(1))");
    }
  }
  if (group && getpgrp() != self && setpgid(0, 0) < 0) {
    return ErrnoStatus(errno, "cannot lead a process group, as the program did");
  }
  // SIGTTOU is blocked, as all signals are on the main thread: the terminal obeys.
  if (foreground) (void)tcsetpgrp(ControllingTerminal().get(), getpgrp());
  absl::MutexLock lock(&mutex_);
  moved_ = group || session;
  return absl::OkStatus();
}

uint32_t ProcessIds::group() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<uint32_t>(group_.guest);
}

uint32_t ProcessIds::session() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<uint32_t>(session_.guest);
}

int ProcessIds::HostProcess(int guest) const {
  absl::MutexLock lock(&mutex_);
  if (guest == process_.guest) return process_.host;
  return IsMonitorThread(guest) ? kNobody : guest;
}

int ProcessIds::GuestProcess(int host) const {
  absl::MutexLock lock(&mutex_);
  return host == process_.host ? process_.guest : host;
}

int ProcessIds::HostGroup(int guest) const {
  absl::MutexLock lock(&mutex_);
  if (guest == group_.guest) return group_.host;
  if (guest == session_.guest) return session_.host;
  return guest == process_.guest ? process_.host : guest;
}

int ProcessIds::GuestGroup(int host) const {
  absl::MutexLock lock(&mutex_);
  return GuestOf(host);
}

int ProcessIds::GuestSession(int host) const {
  absl::MutexLock lock(&mutex_);
  return host == session_.host ? session_.guest : GuestOf(host);
}

}  // namespace km
