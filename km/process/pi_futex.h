// Futexes with an owner (FUTEX_LOCK_PI). The host's cannot serve: they want its own thread ids in
// the word. Ownership passes as in the kernel; priorities are not inherited.
#ifndef KM_PROCESS_PI_FUTEX_H_
#define KM_PROCESS_PI_FUTEX_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "km/memory/guest_memory.h"
#include "km/process/thread.h"

namespace km {

// Thread-safe; the lock is a leaf. Results as futex(2).
class PiFutexes {
 public:
  // `deadline_ns`: absolute, on host clock `clock`; none: for ever. kRestart when interrupted.
  int64_t Lock(Thread& thread, const GuestMemory& memory, GuestAddr word, int clock,
               std::optional<int64_t> deadline_ns) ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t TryLock(Thread& thread, const GuestMemory& memory, GuestAddr word)
      ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t Unlock(Thread& thread, const GuestMemory& memory, GuestAddr word)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The owner died: the word gets FUTEX_OWNER_DIED and the next waiter, if any, owns it.
  void OwnerDied(const GuestMemory& memory, GuestAddr word, uint32_t tid)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Waiter {
    uint32_t tid = 0;
    std::atomic<uint32_t> granted = 0;
  };
  using Queue = std::deque<Waiter*>;

  int64_t HandOver(const GuestMemory& memory, GuestAddr word, uint32_t extra_bits)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Acquire(uint32_t tid, const GuestMemory& memory, GuestAddr word, bool mark_waiters)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  absl::flat_hash_map<uint64_t, Queue> queues_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace km

#endif  // KM_PROCESS_PI_FUTEX_H_
