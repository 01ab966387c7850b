#include "km/process/pi_futex.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "km/memory/guarded_copy.h"

namespace km {
namespace {

// *at gets a word of the program's: 0, or why there can be none.
int64_t FindWord(const GuestMemory& memory, GuestAddr word, uint32_t** at) {
  if (word.value() % sizeof(uint32_t) != 0) return -EINVAL;
  *at = reinterpret_cast<uint32_t*>(memory.Span(word, sizeof(uint32_t)));
  return *at != nullptr ? 0 : -EFAULT;
}

int64_t Read(const GuestMemory& memory, GuestAddr word, uint32_t* value) {
  uint32_t* at = nullptr;
  if (int64_t error = FindWord(memory, word, &at); error != 0) return error;
  return GuardedLoad32(at, value) ? 0 : -EFAULT;
}

// The word gets `bits`, and keeps those in `kept`.
int64_t Write(const GuestMemory& memory, GuestAddr word, uint32_t kept, uint32_t bits) {
  uint32_t* at = nullptr;
  if (int64_t error = FindWord(memory, word, &at); error != 0) return error;
  uint32_t value = 0;
  if (!GuardedLoad32(at, &value)) return -EFAULT;
  for (uint32_t expected = value;; value = expected) {
    if (!GuardedCompareExchange32(at, &expected, (value & kept) | bits)) return -EFAULT;
    if (expected == value) return 0;
  }
}

long HostFutex(std::atomic<uint32_t>* word, int operation, uint32_t value = 0,
               std::atomic<uint32_t>* second = nullptr, uint32_t third = 0) {
  // The fourth argument is the count of others that are moved: none.
  long result =
      syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, nullptr, second, third);
  return result < 0 ? -errno : result;
}

// By which the kernel queues the calling thread at a plain futex.
int OwnPriority() {
  sched_param param = {};
  int policy = sched_getscheduler(0);
  if (policy == SCHED_DEADLINE) return sched_get_priority_max(SCHED_FIFO) + 1;
  return sched_getparam(0, &param) == 0 ? param.sched_priority : 0;
}

}  // namespace

void PiFutexes::ThreadStarted(uint32_t tid, pid_t host_tid) {
  InheritingMutexLock lock(&mutex_);
  host_tids_[tid] = host_tid;
  tids_[host_tid] = tid;
}

void PiFutexes::ThreadEnded(const Thread& thread, const GuestMemory& memory) {
  InheritingMutexLock lock(&mutex_);
  auto it = host_tids_.find(thread.tid);
  if (it == host_tids_.end()) return;
  for (auto& [word, futex] : futexes_) {
    if (futex.waiters == 0 || OwnerInShadow(futex) != thread.tid) continue;
    // Where the word is gone its waiters see for themselves.
    (void)HandOver(memory, GuestAddr(word), &futex, FUTEX_OWNER_DIED);
  }
  tids_.erase(it->second);
  host_tids_.erase(it);
}

PiFutexes::Futex* PiFutexes::FindWaited(GuestAddr word) {
  auto it = futexes_.find(word.value());
  return it != futexes_.end() && it->second.waiters != 0 ? &it->second : nullptr;
}

uint32_t PiFutexes::OwnerInShadow(const Futex& futex) const {
  auto it = tids_.find(static_cast<pid_t>(futex.shadow.load() & FUTEX_TID_MASK));
  return it != tids_.end() ? it->second : 0;
}

void PiFutexes::EraseUnused(GuestAddr word) {
  auto it = futexes_.find(word.value());
  if (it->second.waiters != 0 || it->second.sleepers != 0) return;
  futexes_.erase(it);
  used_.fetch_sub(1);
}

// One more waiter at *futex, with what the kernel demands of the word (attach_to_pi_state,
// futex_lock_pi_atomic). One that nobody owns or waits for gets `claim` instead of an owner; if
// that is a thread's id then it has it, and *futex is null.
int64_t PiFutexes::Attach(const GuestMemory& memory, GuestAddr word, uint32_t claim,
                          Futex** futex) {
  *futex = nullptr;
  uint32_t* at = nullptr;
  if (int64_t error = FindWord(memory, word, &at); error != 0) return error;
  uint32_t value = 0, owner = 0;
  if (!GuardedLoad32(at, &value)) return -EFAULT;
  if ((value & FUTEX_TID_MASK) == claim) return -EDEADLK;
  if (Futex* waited = FindWaited(word); waited != nullptr) {
    owner = value & FUTEX_TID_MASK;
    bool orphan = owner == 0 && (value & FUTEX_OWNER_DIED) != 0;
    if (owner != waited->owner && !orphan) return -EINVAL;
    ++waited->waiters;
    *futex = waited;
    return 0;
  }
  for (uint32_t expected = value;; value = expected) {
    owner = value & FUTEX_TID_MASK;
    if (owner == claim) return -EDEADLK;
    uint32_t wanted = owner == 0 ? (value & FUTEX_OWNER_DIED) | claim : value | FUTEX_WAITERS;
    if (!GuardedCompareExchange32(at, &expected, wanted)) return -EFAULT;
    if (expected == value) break;
  }
  if (owner == 0 && claim != FUTEX_WAITERS) return 0;
  auto host = host_tids_.find(owner);
  if (owner != 0 && host == host_tids_.end()) return -ESRCH;
  auto [it, is_new] = futexes_.try_emplace(word.value());
  if (is_new) used_.fetch_add(1);
  *futex = &it->second;
  (*futex)->owner = owner;
  (*futex)->shadow.store(owner != 0 ? static_cast<uint32_t>(host->second) : 0);
  (*futex)->waiters = 1;
  return 0;
}

// The word names whom the shadow names, or else whoever comes to own it is told.
int64_t PiFutexes::Publish(const GuestMemory& memory, GuestAddr word, Futex* futex, uint32_t kept,
                           uint32_t bits) {
  uint32_t owner = OwnerInShadow(*futex);
  int64_t error = Write(memory, word, kept, bits | FUTEX_WAITERS | owner);
  if (error == 0) futex->owner = owner;
  return error;
}

// The host may have handed the shadow to another one, or that one have been quicker.
int64_t PiFutexes::Settle(const GuestMemory& memory, GuestAddr word, Futex* futex) {
  if (OwnerInShadow(*futex) == futex->owner) return 0;
  return Publish(memory, word, futex, FUTEX_OWNER_DIED, 0);
}

// A waiter less.
int64_t PiFutexes::Detach(const GuestMemory& memory, GuestAddr word, Futex* futex) {
  int64_t error = Settle(memory, word, futex);
  --futex->waiters;
  EraseUnused(word);
  return error;
}

// The calling thread owns it no longer; whom the host chooses does. Nobody when all waiters are
// still on their way: the first to come will.
int64_t PiFutexes::HandOver(const GuestMemory& memory, GuestAddr word, Futex* futex,
                            uint32_t bits) {
  if (long error = HostFutex(&futex->shadow, FUTEX_UNLOCK_PI); error != 0) return error;
  return Publish(memory, word, futex, 0, bits);
}

int64_t PiFutexes::Lock(Thread& thread, const GuestMemory& memory, GuestAddr word, int operation,
                        const timespec* until) {
  Futex* futex = nullptr;
  {
    InheritingMutexLock lock(&mutex_);
    int64_t result = Attach(memory, word, thread.tid, &futex);
    if (futex == nullptr) return result;
  }
  int64_t result = thread.Block(SYS_futex, reinterpret_cast<uint64_t>(&futex->shadow),
                                static_cast<uint64_t>(operation | FUTEX_PRIVATE_FLAG), 0,
                                reinterpret_cast<uint64_t>(until));
  InheritingMutexLock lock(&mutex_);
  int64_t error = Detach(memory, word, futex);
  if (result == 0) return error;
  return result == kKicked ? kRestartAlways : result;
}

int64_t PiFutexes::Unlock(const Thread& thread, const GuestMemory& memory, GuestAddr word) {
  InheritingMutexLock lock(&mutex_);
  while (true) {
    uint32_t value = 0;
    // As the kernel does: it reads the word before it looks where that lies.
    if (memory.CopyIn(&value, word) != 0) return -EFAULT;
    if ((value & FUTEX_TID_MASK) != thread.tid) return -EPERM;
    uint32_t* at = nullptr;
    if (int64_t error = FindWord(memory, word, &at); error != 0) return error;
    if (Futex* futex = FindWaited(word); futex != nullptr) {
      return futex->owner == thread.tid ? HandOver(memory, word, futex, 0) : -EINVAL;
    }
    uint32_t expected = value;
    if (!GuardedCompareExchange32(at, &expected, 0)) return -EFAULT;
    if (expected == value) return 0;
  }
}

int64_t PiFutexes::BeginSleep(const GuestMemory& memory, const RequeueWait& wait, Sleeper* sleeper,
                              Futex** target) {
  uint32_t* at = nullptr;
  if (int64_t error = FindWord(memory, wait.target, &at); error != 0) return error;
  uint32_t value = 0;
  if (int64_t error = Read(memory, wait.word, &value); error != 0) return error;
  if (value != wait.value) return -EAGAIN;
  auto [futex, is_new] = futexes_.try_emplace(wait.target.value());
  auto [queue, is_first] = sleepers_.try_emplace(wait.word.value());
  used_.fetch_add((is_new ? 1 : 0) + (is_first ? 1 : 0));
  ++futex->second.sleepers;
  *target = &futex->second;
  auto behind =
      std::find_if(queue->second.begin(), queue->second.end(),
                   [sleeper](const Sleeper* other) { return other->priority < sleeper->priority; });
  queue->second.insert(behind, sleeper);
  return 0;
}

void PiFutexes::EndSleep(GuestAddr word, Sleeper* sleeper) {
  if (sleeper->state == Sleeper::State::kWaiting) {
    auto it = sleepers_.find(word.value());
    it->second.remove(sleeper);
    if (it->second.empty()) {
      sleepers_.erase(it);
      used_.fetch_sub(1);
    }
  }
  --futexes_.find(sleeper->target.value())->second.sleepers;
  EraseUnused(sleeper->target);
}

int64_t PiFutexes::WaitRequeue(Thread& thread, const GuestMemory& memory, const RequeueWait& wait) {
  if (wait.word == wait.target) return -EINVAL;
  Sleeper sleeper;
  sleeper.target = wait.target;
  sleeper.priority = OwnPriority();
  Futex* target = nullptr;
  {
    InheritingMutexLock lock(&mutex_);
    if (int64_t error = BeginSleep(memory, wait, &sleeper, &target); error != 0) return error;
  }
  const int clock = wait.realtime ? FUTEX_CLOCK_REALTIME : 0;
  int64_t result = thread.Block(
      SYS_futex, reinterpret_cast<uint64_t>(&sleeper.word),
      static_cast<uint64_t>(FUTEX_WAIT_REQUEUE_PI | FUTEX_PRIVATE_FLAG | clock), 0,
      reinterpret_cast<uint64_t>(wait.until), reinterpret_cast<uint64_t>(&target->shadow));
  {
    InheritingMutexLock lock(&mutex_);
    int64_t error = 0;
    if (sleeper.state == Sleeper::State::kMoved) error = Detach(memory, wait.target, target);
    EndSleep(wait.word, &sleeper);
    if (sleeper.state == Sleeper::State::kWaiting && result == kKicked) return kRestartAlways;
    if (sleeper.state != Sleeper::State::kSent) return result == 0 ? error : result;
  }
  result =
      Lock(thread, memory, wait.target,
           wait.realtime || wait.until == nullptr ? FUTEX_LOCK_PI : FUTEX_LOCK_PI2, wait.until);
  // Nor does the kernel make the call again when it was moved before it was interrupted.
  return result == kRestartAlways ? -EAGAIN : result;
}

// Gives the target to the sleeper, or makes it a waiter there: 0. It stays where it is otherwise.
int64_t PiFutexes::Move(const GuestMemory& memory, Sleeper* sleeper) {
  Futex* futex = nullptr;
  int64_t error = Attach(memory, sleeper->target, FUTEX_WAITERS, &futex);
  if (error != 0) return error;
  sleeper->word.store(1);
  long moved = HostFutex(&sleeper->word, FUTEX_CMP_REQUEUE_PI, 1, &futex->shadow, 1);
  if (moved == 1) {
    sleeper->state = Sleeper::State::kMoved;
    return Settle(memory, sleeper->target, futex);
  }
  if (moved == 0) {
    sleeper->state = Sleeper::State::kSent;
  } else {
    sleeper->word.store(0);
  }
  error = Detach(memory, sleeper->target, futex);
  return moved < 0 ? moved : error;
}

int64_t PiFutexes::Requeue(const GuestMemory& memory, GuestAddr word, GuestAddr target,
                           uint32_t more, uint32_t value) {
  InheritingMutexLock lock(&mutex_);
  uint32_t found = 0;
  if (int64_t error = Read(memory, word, &found); error != 0) return error;
  if (found != value) return -EAGAIN;
  auto queue = sleepers_.find(word.value());
  if (queue == sleepers_.end()) return 0;
  int64_t count = 0;
  while (!queue->second.empty() && count <= int64_t{more}) {
    Sleeper* next = queue->second.front();
    if (next->target != target) return -EINVAL;
    int64_t error = Move(memory, next);
    if (next->state == Sleeper::State::kWaiting) return error;
    queue->second.pop_front();
    ++count;
  }
  if (queue->second.empty()) {
    sleepers_.erase(queue);
    used_.fetch_sub(1);
  }
  return count;
}

bool PiFutexes::AnyWaiter(GuestAddr word) const {
  if (used_.load() == 0) return false;
  InheritingMutexLock lock(&mutex_);
  auto it = futexes_.find(word.value());
  return (it != futexes_.end() && it->second.waiters != 0) || sleepers_.contains(word.value());
}

}  // namespace km
