// Timers that are read. Source: timerfd_create(2).
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>

#include "km/files/timer_fd.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/paths.h"

namespace km {

SyscallResult TimerfdCreate(Call& call) {
  int flags = call.Int(1);
  int fd = timerfd_create(call.Int(0), flags | TFD_CLOEXEC);
  if (fd < 0) return -errno;
  return call.process.files().Add(fd, FileKind::kTimerFd, "", (flags & TFD_CLOEXEC) != 0);
}

SyscallResult TimerfdSettime(Call& call) {
  itimerspec wanted, old;
  int flags = call.Int(1);
  if (int error = call.memory().CopyIn(&wanted, call.Addr(2)); error != 0) return error;
  if (!ValidTime(wanted.it_value) || !ValidTime(wanted.it_interval)) return -EINVAL;
  if (flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) return -EINVAL;
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  std::optional<TimerFdState> state = ReadTimerFd(file->host.get());
  if (!state.has_value()) return -EINVAL;
  int64_t offset = call.process.clock().Offset(state->clock);
  bool armed = wanted.it_value.tv_sec != 0 || wanted.it_value.tv_nsec != 0;
  if (armed && (flags & TFD_TIMER_ABSTIME) && offset != 0) {
    int64_t expiry = SaturatingAdd(ToNanoseconds(wanted.it_value), -offset);
    wanted.it_value = ToTimespec(std::max<int64_t>(expiry, 1));
  }
  if (timerfd_settime(file->host.get(), flags, &wanted, &old) != 0) return -errno;
  return call.Addr(3).null() ? 0 : call.memory().CopyOut(call.Addr(3), old);
}

SyscallResult TimerfdGettime(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  itimerspec left;
  if (timerfd_gettime(file->host.get(), &left) != 0) return -errno;
  return call.memory().CopyOut(call.Addr(1), left);
}

}  // namespace km
