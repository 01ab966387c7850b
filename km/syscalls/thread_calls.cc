// Threads: clone, exit, and what the kernel does when one ends.
#include <linux/futex.h>
#include <linux/sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "km/base/log.h"
#include "km/memory/guarded_copy.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/thread_exit.h"

namespace km {
namespace {

constexpr uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
constexpr uint64_t kKnownFlags = kThreadFlags | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                                 CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | CLONE_DETACHED |
                                 CLONE_UNTRACED | CSIGNAL;
// As the kernel does (ROBUST_LIST_LIMIT): a list may be circular or endless.
constexpr int kRobustListLimit = 2048;

struct CloneRequest {
  uint64_t flags = 0;
  GuestAddr stack;  // the first stack pointer; null: the caller's
  GuestAddr parent_tid, child_tid;
  uint64_t tls = 0;
};

// A process of its own that shares all that it could (companion.h).
bool IsCompanion(uint64_t flags) {
  constexpr uint64_t kShared = CLONE_VM | CLONE_FS | CLONE_FILES;
  return (flags & (kThreadFlags | CLONE_VFORK | CSIGNAL)) == kShared;
}

SyscallResult CloneThread(Call& call, const CloneRequest& request) {
  if ((request.flags & CLONE_THREAD) && !(request.flags & CLONE_SIGHAND)) return -EINVAL;
  if ((request.flags & CLONE_SIGHAND) && !(request.flags & CLONE_VM)) return -EINVAL;
  const bool thread = (request.flags & kThreadFlags) == kThreadFlags;
  // Such a process makes neither: what it made would be the program's.
  if (call.thread.companion != nullptr || (!thread && !IsCompanion(request.flags))) return -ENOSYS;
  if (request.flags & ~kKnownFlags) return -EINVAL;
  if ((request.flags & CLONE_SETTLS) && request.tls >= call.memory().end()) return -EPERM;
  Process& process = call.process;
  Thread& parent = call.thread;
  if (!process.SaveState(parent).ok()) return -EAGAIN;
  const SignalSet mask = process.signals().Mask(parent.tid);
  absl::StatusOr<Thread*> made =
      thread ? process.NewThread(0, mask, Process::VcpuFrom::kStart) : process.NewCompanion(mask);
  if (!made.ok()) {
    Log(LogLevel::kInfo, made.status().message());
    return -EAGAIN;
  }
  Thread* child = *made;
  child->comm = process.Comm(parent.tid);
  child->registers = parent.registers;
  child->xsave = parent.xsave;
  child->registers.rax = 0;
  child->registers.orig_rax = ~uint64_t{0};
  if (!request.stack.null()) child->registers.rsp = request.stack.value();
  if (request.flags & CLONE_SETTLS) child->registers.fs_base = request.tls;
  if (request.flags & CLONE_CHILD_CLEARTID) child->clear_child_tid = request.child_tid;
  // As natively a bad address is not an error.
  uint32_t tid = child->tid;
  if (request.flags & CLONE_PARENT_SETTID) {
    (void)process.memory().CopyOut(request.parent_tid, tid);
  }
  if (request.flags & CLONE_CHILD_SETTID) (void)process.memory().CopyOut(request.child_tid, tid);
  process.Start(child);
  return tid;
}

// What a robust list says of a futex: that the thread has it, or that it was about to lock or to
// unlock it.
enum class Entry { kListed, kPending };

void WakeOne(void* word) { syscall(SYS_futex, word, FUTEX_WAKE, 1, nullptr, nullptr, 0); }

// One entry of a robust list (handle_futex_death in the kernel). False: the memory is gone.
bool FutexDeath(Process& process, GuestAddr word, uint32_t tid, bool pi, Entry kind) {
  auto* host = reinterpret_cast<uint32_t*>(process.memory().Span(word, sizeof(uint32_t)));
  if (host == nullptr || word.value() % sizeof(uint32_t) != 0) return false;
  uint32_t value = 0;
  if (!GuardedLoad32(host, &value)) return false;
  // It ended between the unlock and the wake, or when it was woken and before it locked.
  if (kind == Entry::kPending && !pi && (value & FUTEX_TID_MASK) == 0) WakeOne(host);
  while ((value & FUTEX_TID_MASK) == tid) {
    uint32_t expected = value;
    if (!GuardedCompareExchange32(host, &expected, (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED)) {
      return false;
    }
    if (expected == value) {
      // Who waits for one with an owner is served behind the list (PiFutexes::ThreadEnded).
      if (!pi && (value & FUTEX_WAITERS)) WakeOne(host);
      break;
    }
    value = expected;
  }
  return true;
}

void ReleaseRobustFutexes(Process& process, Thread& thread) {
  struct Head {
    uint64_t next;
    int64_t offset;
    uint64_t pending;
  } head;
  GuestAddr list = thread.robust_list;
  if (list.null() || process.memory().CopyIn(&head, list) != 0) return;
  auto word = [&head](uint64_t entry) {
    return GuestAddr((entry & ~uint64_t{1}) + static_cast<uint64_t>(head.offset));
  };
  uint64_t entry = head.next;
  for (int i = 0; i < kRobustListLimit && (entry & ~uint64_t{1}) != list.value(); ++i) {
    uint64_t next = 0;
    bool readable = process.memory().CopyIn(&next, GuestAddr(entry & ~uint64_t{1})) == 0;
    if (entry != head.pending &&
        !FutexDeath(process, word(entry), thread.tid, entry & 1, Entry::kListed)) {
      return;
    }
    if (!readable) return;
    entry = next;
  }
  if (head.pending != 0) {
    FutexDeath(process, word(head.pending), thread.tid, head.pending & 1, Entry::kPending);
  }
}

// Wakes who joins it: not where no thread is left that could (mm_release of the kernel's fork.c).
void ClearTid(Process& process, const Thread& thread) {
  GuestAddr word = thread.clear_child_tid;
  if (word.null() || process.memory().CopyOut(word, uint32_t{0}) != 0) return;
  WakeOne(process.memory().Span(word, sizeof(uint32_t)));
}

}  // namespace

void ReleaseThread(Process& process, Thread& thread) {
  ReleaseRobustFutexes(process, thread);
  process.pi_futexes().ThreadEnded(thread, process.memory());
  if (process.thread_count() > 1) ClearTid(process, thread);
}

// Futexes with an owner are the process's own: nobody is left to hand them to.
void ReleaseThreads(Process& process) {
  const std::vector<Thread*> threads = process.ParkedThreads();
  for (Thread* thread : threads) {
    ReleaseRobustFutexes(process, *thread);
    if (thread != threads.back()) ClearTid(process, *thread);
  }
}

SyscallResult Clone(Call& call) {
  CloneRequest request;
  request.flags = call.arguments[0];
  request.stack = call.Addr(1);
  request.parent_tid = call.Addr(2);
  request.child_tid = call.Addr(3);
  request.tls = call.arguments[4];
  return CloneThread(call, request);
}

SyscallResult Clone3(Call& call) {
  clone_args args = {};
  uint64_t size = call.arguments[1];
  if (size < CLONE_ARGS_SIZE_VER0) return -EINVAL;
  if (size > kPageSize) return -E2BIG;
  std::vector<uint8_t> bytes(size);
  if (int error = call.memory().CopyIn(bytes.data(), call.Addr(0), size); error != 0) return error;
  // What a newer program knows and we do not must be zero.
  if (size > sizeof(args) && std::any_of(bytes.begin() + sizeof(args), bytes.end(),
                                         [](uint8_t byte) { return byte != 0; })) {
    return -E2BIG;
  }
  std::copy_n(bytes.data(), std::min<size_t>(size, sizeof(args)),
              reinterpret_cast<uint8_t*>(&args));
  if (args.set_tid_size != 0 || (args.flags & CLONE_INTO_CGROUP)) return -EINVAL;
  if ((args.stack == 0) != (args.stack_size == 0)) return -EINVAL;
  if (args.flags & (CLONE_DETACHED | CSIGNAL)) return -EINVAL;
  if ((args.flags & CLONE_THREAD) && args.exit_signal != 0) return -EINVAL;
  if (args.exit_signal & ~uint64_t{CSIGNAL}) return -EINVAL;
  CloneRequest request;
  request.flags = args.flags | args.exit_signal;
  if (args.stack != 0) request.stack = GuestAddr(args.stack + args.stack_size);
  request.parent_tid = GuestAddr(args.parent_tid);
  request.child_tid = GuestAddr(args.child_tid);
  request.tls = args.tls;
  return CloneThread(call, request);
}

SyscallResult Exit(Call& call) { return {call.Int(0), NextAction::kExitThread}; }
SyscallResult ExitGroup(Call& call) { return {call.Int(0), NextAction::kExitProcess}; }

SyscallResult SetTidAddress(Call& call) {
  call.thread.clear_child_tid = call.Addr(0);
  return call.thread.tid;
}

SyscallResult Gettid(Call& call) { return call.thread.tid; }

SyscallResult SetRobustList(Call& call) {
  if (call.arguments[1] != sizeof(robust_list_head)) return -EINVAL;
  call.process.SetRobustList(call.thread, call.Addr(0));
  call.thread.robust_list_length = call.arguments[1];
  return 0;
}

SyscallResult GetRobustList(Call& call) {
  uint32_t tid = call.Int(0) != 0 ? call.Uint(0) : call.thread.tid;
  GuestAddr list;
  if (call.process.RobustList(tid, &list) != 0) {
    return HostResult(syscall(SYS_get_robust_list, call.process.HostTid(call.Int(0)),
                              call.HostArg(1, sizeof(uint64_t)), call.HostArg(2, sizeof(size_t))));
  }
  uint64_t length = sizeof(robust_list_head);
  if (int error = call.memory().CopyOut(call.Addr(2), length); error != 0) return error;
  return call.memory().CopyOut(call.Addr(1), list.value());
}

// What the only thread of a process asks to have for itself it has already.
SyscallResult Unshare(Call& call) {
  constexpr uint64_t kNewTime = 0x80;  // CLONE_NEWTIME, where clone has the signal
  constexpr uint64_t kNamespaces = kNewTime | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
                                   CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
  constexpr uint64_t kWithThreads = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
  uint64_t flags = call.arguments[0];
  if (flags & ~(kNamespaces | kWithThreads | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM)) {
    return -EINVAL;
  }
  bool alone = call.process.thread_count() == 1;
  if ((flags & (kWithThreads | CLONE_NEWUSER)) && !alone) return -EINVAL;
  if (flags & (kNamespaces | CLONE_SYSVSEM)) return -EPERM;
  return alone || flags == 0 ? 0 : -EPERM;
}

}  // namespace km
