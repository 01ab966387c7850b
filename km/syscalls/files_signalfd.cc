// Signals that are read. Source: signalfd(2), fs/signalfd.c.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

#include <cerrno>

#include "km/signals/siginfo.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/signal_masks.h"
#include "km/syscalls/signal_reads.h"

namespace km {
namespace {

// A new one, or -EMFILE and the like.
int64_t Make(Call& call, SignalSet mask, int flags) {
  int carrier = eventfd(0, EFD_CLOEXEC | (flags & SFD_NONBLOCK ? EFD_NONBLOCK : 0));
  if (carrier < 0) return -errno;
  OwnedFd host(carrier), own(fcntl(carrier, F_DUPFD_CLOEXEC, 0));
  if (!own.valid()) return -errno;
  auto description = std::make_shared<FileDescription>();
  description->kind = FileKind::kSignalFd;
  description->signal_fd = std::make_shared<SignalFd>(std::move(own));
  call.process.signals().AddSignalFd(description->signal_fd, mask);
  return call.process.files().Install(
      std::make_shared<OpenFile>(std::move(host), std::move(description)),
      (flags & SFD_CLOEXEC) != 0);
}

int64_t SignalFdFor(Call& call, int flags) {
  SignalSet mask = 0;
  if (call.arguments[2] != sizeof(mask)) return -EINVAL;
  if (int error = call.memory().CopyIn(&mask, call.Addr(1)); error != 0) return error;
  if (flags & ~(SFD_CLOEXEC | SFD_NONBLOCK)) return -EINVAL;
  if (call.Int(0) == -1) return Make(call, mask, flags);
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (file->description->signal_fd == nullptr) return -EINVAL;
  call.process.signals().SetSignalFd(*file->description->signal_fd, mask);
  call.process.RedirectSignals();
  return call.Int(0);
}

}  // namespace

int64_t ReadSignals(Call& call, const OpenFile& file, GuestAddr buffer, uint64_t size) {
  // Before anything is looked at: access_ok.
  if (size > kTaskSize || buffer.value() > kTaskSize - size) return -EFAULT;
  uint64_t room = size / sizeof(signalfd_siginfo);
  if (room == 0) return -EINVAL;
  SignalState& signals = call.process.signals();
  uint32_t tid = call.thread.tid;
  bool wait = (fcntl(file.host.get(), F_GETFL) & O_NONBLOCK) == 0;
  uint64_t done = 0;
  while (done < room) {
    std::optional<siginfo_t> info = signals.Read(tid, *file.description->signal_fd, wait);
    if (!info.has_value() && !wait) return done != 0 ? done * sizeof(signalfd_siginfo) : -EAGAIN;
    if (!info.has_value()) {
      call.thread.Block(SYS_pause);
      info = signals.Read(tid, *file.description->signal_fd, false);
      if (!info.has_value()) return kRestart;
    }
    wait = false;
    call.process.timers().SignalTaken(&*info);
    int error = call.memory().CopyOut(buffer + done * sizeof(signalfd_siginfo), ReadForm(*info));
    if (error != 0) return done != 0 ? done * sizeof(signalfd_siginfo) : error;
    ++done;
  }
  return done * sizeof(signalfd_siginfo);
}

SyscallResult Signalfd(Call& call) { return SignalFdFor(call, 0); }
SyscallResult Signalfd4(Call& call) { return SignalFdFor(call, call.Int(3)); }

}  // namespace km
