// POSIX message queues (mq_overview(7)): the host's own.
#include <mqueue.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "km/process/clock.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/paths.h"

namespace km {
namespace {

constexpr uint64_t kCookieSize = 32;  // NOTIFY_COOKIE_LEN of the kernel's include/linux/mqueue.h

// The names are those of the namespace, as natively; the kernel copies them in itself.
uint64_t NameArg(const Call& call, size_t i) { return call.HostArg(i, 1); }

// A timeout is a time of CLOCK_REALTIME.
SyscallResult Transfer(Call& call, long number) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  bool receive = number == SYS_mq_timedreceive;
  return call.thread.Block(number, HostFd(file), call.HostArg(1, call.arguments[2]),
                           call.arguments[2],
                           receive ? call.HostArg(3, sizeof(unsigned)) : call.arguments[3],
                           call.HostArg(4, sizeof(timespec)));
}

}  // namespace

SyscallResult MqOpen(Call& call) {
  ReservedFd reserved(call.process.files());
  if (reserved.error() != 0) return reserved.error();
  int64_t host = HostResult(syscall(SYS_mq_open, NameArg(call, 0), call.Int(1) | O_CLOEXEC,
                                    call.Uint(2), call.HostArg(3, sizeof(mq_attr))));
  if (host < 0) return host;
  std::string name;
  (void)call.memory().CopyInString(&name, call.Addr(0), NAME_MAX + 1);
  return reserved.Fill(OpenFile::Of(static_cast<int>(host), FileKind::kMessageQueue, "/" + name),
                       true);
}

SyscallResult MqUnlink(Call& call) { return HostResult(syscall(SYS_mq_unlink, NameArg(call, 0))); }

SyscallResult MqTimedsend(Call& call) { return Transfer(call, SYS_mq_timedsend); }
SyscallResult MqTimedreceive(Call& call) { return Transfer(call, SYS_mq_timedreceive); }

// The signal comes to the monitor, as all do, and goes on to the program. With SIGEV_THREAD the
// number is that of a netlink socket, which gets the cookie.
SyscallResult MqNotify(Call& call) {
  auto file = FileArg(call, 0);
  if (call.Addr(1).null()) {
    return file == nullptr ? SyscallResult(-EBADF)
                           : HostResult(syscall(SYS_mq_notify, HostFd(file), nullptr));
  }
  sigevent event;
  if (int error = call.memory().CopyIn(&event, call.Addr(1)); error != 0) return error;
  std::shared_ptr<OpenFile> socket;
  if (event.sigev_notify == SIGEV_THREAD) {
    auto cookie = reinterpret_cast<uint64_t>(event.sigev_value.sival_ptr);
    event.sigev_value.sival_ptr = reinterpret_cast<void*>(call.Host(cookie, kCookieSize));
    socket = call.process.files().Get(static_cast<uint32_t>(event.sigev_signo));
    if (socket == nullptr) return -EBADF;
    event.sigev_signo = socket->host.get();
  }
  // A number that no descriptor has: the kernel looks at the event first.
  int host = file != nullptr ? file->host.get() : -1;
  const auto value = reinterpret_cast<uint64_t>(event.sigev_value.sival_ptr);
  const int64_t result = HostResult(syscall(SYS_mq_notify, host, &event));
  // For a snapshot: the host does not tell the value.
  static std::atomic<uint64_t> last_number = 1 << 20;  // above those of a resume
  if (result == 0) {
    file->description->SetNotice({++last_number, event.sigev_notify, event.sigev_signo, value});
  }
  return result;
}

SyscallResult MqGetsetattr(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return HostResult(syscall(SYS_mq_getsetattr, HostFd(file), call.HostArg(1, sizeof(mq_attr)),
                            call.HostArg(2, sizeof(mq_attr))));
}

}  // namespace km
