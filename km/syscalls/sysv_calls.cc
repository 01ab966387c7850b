// System V shared memory, semaphores and message queues: the host's, under the program's ids.
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "km/process/clock.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"

namespace km {
namespace {

using enum SysvKind;

// More operations than any setting of the kernel's allows (SEMOPM).
constexpr uint64_t kMaxOperations = 1 << 16;
// The most that GETALL and SETALL touch: no set has more semaphores (SEMMSL).
constexpr uint64_t kMaxValues = sizeof(uint16_t) << 16;

int HostId(const Call& call, SysvKind kind) { return call.process.sysv().Host(kind, call.Int(0)); }

// After a get: the object's id, the host's to the program's. Without a key it is new, and only the
// program can tell others of it.
SyscallResult GuestId(const Call& call, SysvKind kind, int64_t id) {
  if (id < 0) return id;
  const int host = static_cast<int>(id);
  if (call.Int(0) == IPC_PRIVATE) call.process.sysv().NoteMade(kind, host, false);
  return call.process.sysv().Guest(kind, host);
}

// The same where the program only looks at all there are.
int SeenId(const Call& call, SysvKind kind, int host) {
  SysvObjects& objects = call.process.sysv();
  return objects.Host(kind, host) == host ? host : objects.Guest(kind, host);
}

// After an operation by an id, which the program may have from elsewhere.
void Used(const Call& call, SysvKind kind) {
  (void)call.process.sysv().Guest(kind, HostId(call, kind));
}

// Ids of processes in the kernel's records: the monitor's is the program's.
template <typename Pid>
void TranslatePid(const Call& call, Pid* pid) {
  if (*pid == getpid()) *pid = static_cast<Pid>(call.process.identity().pid);
}

bool IsStatByIndex(int command) {
  return command == SHM_STAT || command == SHM_STAT_ANY || command == SEM_STAT ||
         command == SEM_STAT_ANY || command == MSG_STAT || command == MSG_STAT_ANY;
}

// IPC_STAT and its like: the record goes out by way of the monitor, which translates it.
template <typename Record, typename Translate>
SyscallResult Stat(Call& call, SysvKind kind, long number, GuestAddr to, Translate translate) {
  bool semaphores = kind == kSemaphores;
  int command = call.Int(semaphores ? 2 : 1);
  bool by_index = IsStatByIndex(command);
  int id = by_index ? call.Int(0) : HostId(call, kind);
  Record record = {};
  long result = semaphores ? syscall(number, id, call.Int(1), command, &record)
                           : syscall(number, id, command, &record);
  if (result < 0) return -errno;
  translate(&record);
  if (int error = call.memory().CopyOut(to, record); error != 0) return error;
  return by_index ? SeenId(call, kind, static_cast<int>(result)) : SyscallResult(result);
}

SyscallResult Remove(Call& call, SysvKind kind, long result) {
  if (result < 0) return -errno;
  // Attached memory goes with its last attachment, and can be asked for until then.
  shmid_ds segment;
  const bool there =
      kind == kMemory && syscall(SYS_shmctl, HostId(call, kind), IPC_STAT, &segment) == 0;
  if (!there) call.process.sysv().Forget(kind, call.Int(0));
  return 0;
}

}  // namespace

// Segments in huge pages are longer than they say, and nobody tells by how much.
SyscallResult Shmget(Call& call) {
  if (call.Int(2) & SHM_HUGETLB) return -EINVAL;
  int64_t id = HostResult(syscall(SYS_shmget, call.Int(0), call.arguments[1], call.Int(2)));
  return GuestId(call, kMemory, id);
}

SyscallResult Shmat(Call& call) {
  int flags = call.Int(2);
  uint64_t address = call.arguments[1];
  if (address != 0 && !PageAligned(address)) {
    if (!(flags & SHM_RND)) return -EINVAL;
    address = PageDown(address);
  }
  if (address == 0 && (flags & SHM_REMAP)) return -EINVAL;
  int id = HostId(call, kMemory);
  shmid_ds segment = {};
  if (shmctl(id, IPC_STAT, &segment) != 0) return -errno;
  auto file = std::make_shared<MappedFile>();
  file->path =
      absl::StrFormat("/SYSV%08x (deleted)", static_cast<uint32_t>(segment.shm_perm.__key));
  file->device = 1;  // the kernel's own mount, 00:01
  file->read_only = (flags & SHM_RDONLY) != 0;
  file->inode = static_cast<uint64_t>(call.process.sysv().Guest(kMemory, id));
  return call.process.space().Attach(id, PageUp(segment.shm_segsz), address, flags,
                                     std::move(file));
}

SyscallResult Shmdt(Call& call) { return call.process.space().Detach(call.arguments[0]); }

SyscallResult Shmctl(Call& call) {
  switch (int command = call.Int(1)) {
    case IPC_STAT:
    case SHM_STAT:
    case SHM_STAT_ANY:
      return Stat<shmid_ds>(call, kMemory, SYS_shmctl, call.Addr(2), [&](shmid_ds* record) {
        TranslatePid(call, &record->shm_cpid);
        TranslatePid(call, &record->shm_lpid);
      });
    case IPC_RMID:
      return Remove(call, kMemory, syscall(SYS_shmctl, HostId(call, kMemory), command, 0));
    case IPC_INFO:
    case SHM_INFO:
      return HostResult(
          syscall(SYS_shmctl, call.Int(0), command, call.HostArg(2, sizeof(shminfo))));
    default:  // IPC_SET, SHM_LOCK, SHM_UNLOCK, and what the kernel does not know
      return HostResult(
          syscall(SYS_shmctl, HostId(call, kMemory), command, call.HostArg(2, sizeof(shmid_ds))));
  }
}

SyscallResult Semget(Call& call) {
  int64_t id = HostResult(syscall(SYS_semget, call.Int(0), call.Int(1), call.Int(2)));
  return GuestId(call, kSemaphores, id);
}

SyscallResult Semtimedop(Call& call) {
  uint64_t count = call.Uint(2);
  timespec timeout = {};
  timespec* left = nullptr;
  if (!call.Addr(3).null()) {
    if (int error = call.memory().CopyIn(&timeout, call.Addr(3)); error != 0) return error;
    if (!ValidTime(timeout)) return -EINVAL;
    std::optional<int64_t>& deadline = call.thread.deadline_ns;
    int64_t now = call.process.clock().Monotonic();
    if (!deadline.has_value()) deadline = SaturatingAdd(now, ToNanoseconds(timeout));
    timeout = ToTimespec(std::max<int64_t>(*deadline - now, 0));
    left = &timeout;
  }
  if (count == 0) return -EINVAL;
  if (count > kMaxOperations) return -E2BIG;
  std::vector<sembuf> operations(count);
  int error = call.memory().CopyIn(operations.data(), call.Addr(1), count * sizeof(sembuf));
  if (error != 0) return error;
  int64_t result = call.thread.Block(
      SYS_semtimedop, static_cast<uint64_t>(HostId(call, kSemaphores)),
      reinterpret_cast<uint64_t>(operations.data()), count, reinterpret_cast<uint64_t>(left));
  if (result == 0) {
    Used(call, kSemaphores);
    call.process.sysv().NoteUndo(call.Int(0), operations);
  }
  return result == kKicked ? kRestartNoHandler : result;
}

SyscallResult Semop(Call& call) {
  call.arguments[3] = 0;
  return Semtimedop(call);
}

SyscallResult Semctl(Call& call) {
  SysvObjects& objects = call.process.sysv();
  int id = HostId(call, kSemaphores), command = call.Int(2);
  switch (command) {
    case IPC_STAT:
    case SEM_STAT:
    case SEM_STAT_ANY:
      return Stat<semid_ds>(call, kSemaphores, SYS_semctl, call.Addr(3), [](semid_ds*) {});
    case IPC_RMID:
      return Remove(call, kSemaphores, syscall(SYS_semctl, id, 0, command, 0));
    case IPC_INFO:
    case SEM_INFO:
      return HostResult(
          syscall(SYS_semctl, call.Int(0), 0, command, call.HostArg(3, sizeof(seminfo))));
    case IPC_SET:
      return HostResult(syscall(SYS_semctl, id, 0, command, call.HostArg(3, sizeof(semid_ds))));
    case GETALL:
    case SETALL: {
      int64_t result = HostResult(syscall(SYS_semctl, id, 0, command, call.HostArg(3, kMaxValues)));
      if (command == SETALL && result == 0) objects.ForgetUndo(call.Int(0), -1);
      return result;
    }
    case SETVAL: {
      int64_t result = HostResult(syscall(SYS_semctl, id, call.Int(1), command, call.Int(3)));
      if (result == 0) objects.ForgetUndo(call.Int(0), call.Int(1));
      return result;
    }
    case GETPID: {
      int64_t pid = HostResult(syscall(SYS_semctl, id, call.Int(1), command, 0));
      TranslatePid(call, &pid);
      return pid;
    }
    default:  // GETVAL, GETNCNT, GETZCNT, and what the kernel does not know
      return HostResult(syscall(SYS_semctl, id, call.Int(1), command, 0));
  }
}

SyscallResult Msgget(Call& call) {
  int64_t id = HostResult(syscall(SYS_msgget, call.Int(0), call.Int(1)));
  return GuestId(call, kQueue, id);
}

namespace {

SyscallResult AfterMessage(const Call& call, int64_t result) {
  if (result >= 0) Used(call, kQueue);
  return result == kKicked ? kRestartNoHandler : result;
}

// The type of a message, then its text. A negative size is refused when the type has been read.
uint64_t MessageArg(const Call& call) {
  if (static_cast<int64_t>(call.arguments[2]) < 0) return call.HostArg(1, sizeof(long));
  uint64_t size = std::min(call.arguments[2], call.memory().end() - sizeof(long));
  return call.HostArg(1, sizeof(long) + size);
}

}  // namespace

SyscallResult Msgsnd(Call& call) {
  return AfterMessage(call,
                      call.thread.Block(SYS_msgsnd, static_cast<uint64_t>(HostId(call, kQueue)),
                                        MessageArg(call), call.arguments[2], call.arguments[3]));
}

SyscallResult Msgrcv(Call& call) {
  return AfterMessage(
      call,
      call.thread.Block(SYS_msgrcv, static_cast<uint64_t>(HostId(call, kQueue)), MessageArg(call),
                        call.arguments[2], call.arguments[3], call.arguments[4]));
}

SyscallResult Msgctl(Call& call) {
  switch (int command = call.Int(1)) {
    case IPC_STAT:
    case MSG_STAT:
    case MSG_STAT_ANY:
      return Stat<msqid_ds>(call, kQueue, SYS_msgctl, call.Addr(2), [&](msqid_ds* record) {
        TranslatePid(call, &record->msg_lspid);
        TranslatePid(call, &record->msg_lrpid);
      });
    case IPC_RMID:
      return Remove(call, kQueue, syscall(SYS_msgctl, HostId(call, kQueue), command, 0));
    case IPC_INFO:
    case MSG_INFO:
      return HostResult(
          syscall(SYS_msgctl, call.Int(0), command, call.HostArg(2, sizeof(msginfo))));
    default:
      return HostResult(
          syscall(SYS_msgctl, HostId(call, kQueue), command, call.HostArg(2, sizeof(msqid_ds))));
  }
}

}  // namespace km
