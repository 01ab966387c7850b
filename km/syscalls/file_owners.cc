// The host's kernel sends its signals to the monitor, and that to the program
// (km/process/file_signals.h). It knows the program's threads by other numbers, and what it sends
// to one of the monitor's threads would get lost: so the owner is always the process for it, and
// the file description remembers the thread.
#include "km/syscalls/file_owners.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "km/syscalls/host.h"
#include "km/syscalls/paths.h"

namespace km {
namespace {

constexpr int kGetOwnerUids = 17;  // F_GETOWNER_UIDS, of linux/fcntl.h

int64_t HostFcntl(const OpenFile& file, int command, uint64_t argument) {
  return HostResult(syscall(SYS_fcntl, file.host.get(), command, argument));
}

int HostOwner(const Process& process, int type, int id) {
  if (type == F_OWNER_PGRP) return process.ids().HostGroup(id);
  return id == static_cast<int>(process.identity().pid) ? getpid() : process.HostTid(id);
}

int GuestOwner(const Process& process, int type, int id) {
  return type == F_OWNER_PGRP ? process.ids().GuestGroup(id) : process.ids().GuestProcess(id);
}

// With a thread as the owner the host has to say which file it is about: it does with a signal
// number of its own only.
int64_t UseSignal(const OpenFile& file, int sig) {
  bool thread = file.description->owner_thread.load() != 0;
  return HostFcntl(file, F_SETSIG, static_cast<uint64_t>(thread && sig == 0 ? SIGIO : sig));
}

int64_t Signal(const OpenFile& file) {
  return file.description->owner_thread.load() != 0 ? file.description->owner_signal.load()
                                                    : HostFcntl(file, F_GETSIG, 0);
}

int64_t SetSignal(const OpenFile& file, uint64_t sig) {
  if (sig >= NSIG) return -EINVAL;
  int64_t result = UseSignal(file, static_cast<int>(sig));
  if (result == 0) file.description->owner_signal.store(static_cast<int>(sig));
  return result;
}

int64_t SetOwner(const Call& call, const OpenFile& file, f_owner_ex owner) {
  FileDescription& description = *file.description;
  int64_t sig = Signal(file);
  if (sig < 0) return sig;
  uint32_t thread = 0;
  f_owner_ex host = owner;
  if (owner.type == F_OWNER_TID) {
    if (owner.pid != 0 && !call.process.HasThread(static_cast<uint32_t>(owner.pid))) return -ESRCH;
    thread = static_cast<uint32_t>(owner.pid);
    host = {F_OWNER_PID, thread != 0 ? getpid() : 0};
  } else if (owner.pid != 0) {
    host.pid = HostOwner(call.process, owner.type, owner.pid);
  }
  int64_t result = HostFcntl(file, F_SETOWN_EX, reinterpret_cast<uint64_t>(&host));
  if (result != 0) return result;
  description.owner_signal.store(static_cast<int>(sig));
  description.owner_thread.store(thread);
  return UseSignal(file, static_cast<int>(sig));
}

int64_t GetOwner(const Call& call, const OpenFile& file, f_owner_ex* owner) {
  if (uint32_t thread = file.description->owner_thread.load(); thread != 0) {
    *owner = {F_OWNER_TID, call.process.HasThread(thread) ? static_cast<pid_t>(thread) : 0};
    return 0;
  }
  int64_t result = HostFcntl(file, F_GETOWN_EX, reinterpret_cast<uint64_t>(owner));
  if (owner->pid != 0) owner->pid = GuestOwner(call.process, owner->type, owner->pid);
  return result;
}

// A lease or a notification makes the caller the owner where there is none: for the host that is a
// thread of the monitor's, for the program its process.
int64_t WithOwner(Call& call, const std::shared_ptr<OpenFile>& file, bool makes) {
  f_owner_ex owner = {};
  bool owned = GetOwner(call, *file, &owner) != 0 || owner.pid != 0;
  int64_t result = call.thread.Block(SYS_fcntl, HostFd(file), call.Uint(1), call.arguments[2]);
  if (result != 0 || owned || !makes || call.thread.tid != call.process.identity().pid) {
    return result;
  }
  owner = {F_OWNER_PID, getpid()};
  HostFcntl(*file, F_SETOWN_EX, reinterpret_cast<uint64_t>(&owner));
  return result;
}

int64_t GetOwnerNumber(const Call& call, const OpenFile& file) {
  f_owner_ex owner = {};
  int64_t result = GetOwner(call, file, &owner);
  if (result != 0) return result;
  return owner.type == F_OWNER_PGRP ? -owner.pid : owner.pid;
}

}  // namespace

std::optional<int64_t> OwnerCommand(Call& call, const std::shared_ptr<OpenFile>& file) {
  f_owner_ex owner = {};
  int number = call.Int(2);
  switch (call.Int(1)) {
    case F_SETOWN:
      if (number == INT_MIN) return -EINVAL;
      owner = {number < 0 ? F_OWNER_PGRP : F_OWNER_PID, number < 0 ? -number : number};
      return SetOwner(call, *file, owner);
    case F_SETOWN_EX:
      if (int error = call.memory().CopyIn(&owner, call.Addr(2)); error != 0) return error;
      return SetOwner(call, *file, owner);
    case F_GETOWN:
      return GetOwnerNumber(call, *file);
    case F_GETOWN_EX:
      if (int64_t error = GetOwner(call, *file, &owner); error != 0) return error;
      return call.memory().CopyOut(call.Addr(2), owner);
    case kGetOwnerUids:
      return HostFcntl(*file, kGetOwnerUids, call.HostArg(2, 2 * sizeof(uid_t)));
    case F_SETSIG:
      return SetSignal(*file, call.arguments[2]);
    case F_GETSIG:
      return Signal(*file);
    case F_SETLEASE: {
      file->description->may_hold_locks = true;
      const int64_t result = WithOwner(call, file, number != F_UNLCK);
      // With the lease the kernel forgets owner and signal.
      if (result == 0 && number == F_UNLCK) file->description->owner_thread.store(0);
      return result;
    }
    case F_NOTIFY: {
      const int64_t result = WithOwner(call, file, number != 0);
      if (result == 0) file->description->notify.store(call.Uint(2));
      return result;
    }
    case F_GETLEASE:
      return HostFcntl(*file, F_GETLEASE, 0);
    default:
      return std::nullopt;
  }
}

}  // namespace km
