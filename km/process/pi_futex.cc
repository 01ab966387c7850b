#include "km/process/pi_futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "km/memory/guarded_copy.h"
#include "km/process/clock.h"

namespace km {
namespace {

uint32_t* Word(const GuestMemory& memory, GuestAddr word) {
  if (word.value() % sizeof(uint32_t) != 0) return nullptr;
  return reinterpret_cast<uint32_t*>(memory.Span(word, sizeof(uint32_t)));
}

}  // namespace

// 0: owned now. -EBUSY: another owns it (and, if asked for, the word says that somebody waits).
int64_t PiFutexes::Acquire(uint32_t tid, const GuestMemory& memory, GuestAddr word,
                           bool mark_waiters) {
  uint32_t* at = Word(memory, word);
  uint32_t value = 0;
  if (at == nullptr) return word.value() % sizeof(uint32_t) != 0 ? -EINVAL : -EFAULT;
  if (!GuardedLoad32(at, &value)) return -EFAULT;
  while (true) {
    uint32_t owner = value & FUTEX_TID_MASK;
    if (owner == tid) return -EDEADLK;
    uint32_t wanted = owner == 0 ? (value & FUTEX_OWNER_DIED) | tid : value | FUTEX_WAITERS;
    if (owner == 0 && queues_.contains(word.value())) wanted |= FUTEX_WAITERS;
    if (owner != 0 && (!mark_waiters || wanted == value)) return -EBUSY;
    uint32_t expected = value;
    if (!GuardedCompareExchange32(at, &expected, wanted)) return -EFAULT;
    if (expected == value) return owner == 0 ? 0 : -EBUSY;
    value = expected;
  }
}

int64_t PiFutexes::TryLock(Thread& thread, const GuestMemory& memory, GuestAddr word) {
  absl::MutexLock lock(&mutex_);
  int64_t result = Acquire(thread.tid, memory, word, false);
  return result == -EBUSY ? -EAGAIN : result;
}

int64_t PiFutexes::Lock(Thread& thread, const GuestMemory& memory, GuestAddr word, int clock,
                        std::optional<int64_t> deadline_ns) {
  Waiter waiter;
  waiter.tid = thread.tid;
  {
    absl::MutexLock lock(&mutex_);
    int64_t result = Acquire(thread.tid, memory, word, true);
    if (result != -EBUSY) return result;
    queues_[word.value()].push_back(&waiter);
  }
  timespec deadline = ToTimespec(deadline_ns.value_or(0));
  uint64_t operation = FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG;
  if (clock == CLOCK_REALTIME) operation |= FUTEX_CLOCK_REALTIME;
  int64_t result = 0;
  while (waiter.granted.load() == 0 && result != -ETIMEDOUT && result != kKicked) {
    result = thread.Block(SYS_futex, reinterpret_cast<uint64_t>(&waiter.granted), operation, 0,
                          deadline_ns.has_value() ? reinterpret_cast<uint64_t>(&deadline) : 0, 0,
                          FUTEX_BITSET_MATCH_ANY);
  }
  absl::MutexLock lock(&mutex_);
  if (waiter.granted.load() != 0) return 0;
  auto it = queues_.find(word.value());
  it->second.erase(std::find(it->second.begin(), it->second.end(), &waiter));
  if (it->second.empty()) queues_.erase(it);
  return result == -ETIMEDOUT ? -ETIMEDOUT : kRestartAlways;
}

// Gives the word to the first waiter, or to nobody.
int64_t PiFutexes::HandOver(const GuestMemory& memory, GuestAddr word, uint32_t extra_bits) {
  uint32_t* at = Word(memory, word);
  auto it = queues_.find(word.value());
  Waiter* next = it == queues_.end() ? nullptr : it->second.front();
  uint32_t wanted = extra_bits;
  if (next != nullptr) wanted |= next->tid | (it->second.size() > 1 ? FUTEX_WAITERS : 0);
  uint32_t value = 0;
  if (!GuardedLoad32(at, &value)) return -EFAULT;
  for (uint32_t expected = value;; value = expected) {
    if (!GuardedCompareExchange32(at, &expected, wanted)) return -EFAULT;
    if (expected == value) break;
  }
  if (next == nullptr) return 0;
  it->second.pop_front();
  if (it->second.empty()) queues_.erase(it);
  next->granted.store(1);
  syscall(SYS_futex, &next->granted, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, nullptr, nullptr, 0);
  return 0;
}

int64_t PiFutexes::Unlock(Thread& thread, const GuestMemory& memory, GuestAddr word) {
  absl::MutexLock lock(&mutex_);
  uint32_t value = 0;
  // As the kernel does: it reads the word before it looks where that lies.
  if (memory.CopyIn(&value, word) != 0) return -EFAULT;
  if ((value & FUTEX_TID_MASK) != thread.tid) return -EPERM;
  if (Word(memory, word) == nullptr) return -EINVAL;
  return HandOver(memory, word, 0);
}

void PiFutexes::OwnerDied(const GuestMemory& memory, GuestAddr word, uint32_t tid) {
  absl::MutexLock lock(&mutex_);
  uint32_t* at = Word(memory, word);
  uint32_t value = 0;
  if (at == nullptr || !GuardedLoad32(at, &value) || (value & FUTEX_TID_MASK) != tid) return;
  HandOver(memory, word, FUTEX_OWNER_DIED);
}

}  // namespace km
