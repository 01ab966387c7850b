// Futexes with an owner (FUTEX_LOCK_PI), on the host's own. The host wants ids of its threads in
// the word, where the program's word has the program's. So each futex that somebody waits for has a
// second word, the shadow, in the monitor's memory, with the host's id of the owner: threads wait
// at that one, and the host boosts its owner and hands it on. docs/decisions/0025.
#ifndef KM_PROCESS_PI_FUTEX_H_
#define KM_PROCESS_PI_FUTEX_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <ctime>
#include <list>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/node_hash_map.h"
#include "km/base/inheriting_mutex.h"
#include "km/memory/guest_memory.h"
#include "km/process/thread.h"

namespace km {

// Thread-safe; the lock is a leaf. Results as futex(2), or kRestartAlways when interrupted. Times
// are absolute, on the host's clock; null: for ever.
class PiFutexes {
 public:
  // From here on the thread can own and wait.
  void ThreadStarted(uint32_t tid, pid_t host_tid) ABSL_LOCKS_EXCLUDED(mutex_);
  // What the calling thread owns goes to whoever waits for it, with FUTEX_OWNER_DIED. It owns and
  // waits for nothing afterwards.
  void ThreadEnded(const Thread& thread, const GuestMemory& memory) ABSL_LOCKS_EXCLUDED(mutex_);

  // `operation`: FUTEX_LOCK_PI, FUTEX_LOCK_PI2 with or without FUTEX_CLOCK_REALTIME, or
  // FUTEX_TRYLOCK_PI. -ESRCH also when the owner has not started yet.
  int64_t Lock(Thread& thread, const GuestMemory& memory, GuestAddr word, int operation,
               const timespec* until) ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t Unlock(const Thread& thread, const GuestMemory& memory, GuestAddr word)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // FUTEX_WAIT_REQUEUE_PI: waits at `word` while it is `value`, to be moved to `target`.
  struct RequeueWait {
    GuestAddr word, target;
    uint32_t value = 0;
    bool realtime = false;
    const timespec* until = nullptr;
  };
  int64_t WaitRequeue(Thread& thread, const GuestMemory& memory, const RequeueWait& wait)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // FUTEX_CMP_REQUEUE_PI: moves one and `more` to `target`; how many there were, some of which may
  // own it now.
  int64_t Requeue(const GuestMemory& memory, GuestAddr word, GuestAddr target, uint32_t more,
                  uint32_t value) ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether somebody waits there in one of the ways above: plain operations then answer EINVAL.
  bool AnyWaiter(GuestAddr word) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Of how many words something is kept: none when nobody waits.
  size_t size() const { return used_.load(); }

 private:
  // A futex that somebody waits for, or may be moved to.
  struct Futex {
    std::atomic<uint32_t> shadow = 0;
    uint32_t owner = 0;   // the program's id of whom the shadow names, as the word tells; 0: nobody
    size_t waiters = 0;   // at the shadow, or on their way; with none it means nothing
    size_t sleepers = 0;  // that may be moved to it
  };
  // One that waits to be moved. It does so at a word of its own: so it is known who was moved.
  struct Sleeper {
    enum class State {
      kWaiting,
      kMoved,  // the host has moved it to the shadow: it is one of the waiters there
      kSent,   // it was not at its word, neither yet nor any more: it has to go there by itself
    };
    std::atomic<uint32_t> word = 0;
    State state = State::kWaiting;
    GuestAddr target;
    int priority = 0;
  };
  using Sleepers = std::list<Sleeper*>;  // those of higher priority first

  int64_t Attach(const GuestMemory& memory, GuestAddr word, uint32_t claim, Futex** futex)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Detach(const GuestMemory& memory, GuestAddr word, Futex* futex)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Publish(const GuestMemory& memory, GuestAddr word, Futex* futex, uint32_t kept,
                  uint32_t bits) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Settle(const GuestMemory& memory, GuestAddr word, Futex* futex)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t HandOver(const GuestMemory& memory, GuestAddr word, Futex* futex, uint32_t bits)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EraseUnused(GuestAddr word) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Futex* FindWaited(GuestAddr word) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint32_t OwnerInShadow(const Futex& futex) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t BeginSleep(const GuestMemory& memory, const RequeueWait& wait, Sleeper* sleeper,
                     Futex** target) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndSleep(GuestAddr word, Sleeper* sleeper) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Move(const GuestMemory& memory, Sleeper* sleeper) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Not absl::Mutex: who unlocks a futex loses its priority with this one held.
  mutable InheritingMutex mutex_;
  absl::node_hash_map<uint64_t, Futex> futexes_ ABSL_GUARDED_BY(mutex_);  // by the word's address
  absl::flat_hash_map<uint64_t, Sleepers> sleepers_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint32_t, pid_t> host_tids_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<pid_t, uint32_t> tids_ ABSL_GUARDED_BY(mutex_);
  // How many there are in the first two: plain operations look here before they take the lock.
  std::atomic<size_t> used_ = 0;
};

}  // namespace km

#endif  // KM_PROCESS_PI_FUTEX_H_
