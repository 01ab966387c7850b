// Signals of one process and its threads: dispositions, masks, queues. Source: signal(7).
#ifndef KM_PROCESS_SIGNAL_STATE_H_
#define KM_PROCESS_SIGNAL_STATE_H_

#include <signal.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/synchronization/mutex.h"
#include "km/files/signal_fd.h"
#include "km/signals/actions.h"
#include "km/signals/pending.h"
#include "km/signals/signal_set.h"

namespace km {

// Thread-safe; the lock is a leaf. A `tid` given is one of a thread that was added.
class SignalState {
 public:
  // Who must look at its signals after something was sent: nobody (0) or one thread.
  struct SendResult {
    int error = 0;  // 0, -EAGAIN (queue full)
    uint32_t interrupt_tid = 0;
    bool dropped = false;  // it is ignored
  };
  // What others see of a thread.
  struct ThreadSets {
    SignalSet pending = 0, mask = 0;
  };
  // What a thread has to do now.
  struct Delivery {
    siginfo_t info = {};
    SignalAction action;
    bool ignored = false;      // it was taken out, and that is all
    SignalSet frame_mask = 0;  // what sigreturn restores
  };

  // kProcess: a process of its own (companion.h), which has a copy of the actions and takes no
  // signal that is sent to the program as a whole.
  enum class Owner { kProgram, kProcess };
  void AddThread(uint32_t tid, SignalSet mask, Owner owner = Owner::kProgram)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void RemoveThread(uint32_t tid) ABSL_LOCKS_EXCLUDED(mutex_);

  // The actions are the program's, or those of the process of its own that `tid` is.
  SignalAction Action(int sig, uint32_t tid = 0) const ABSL_LOCKS_EXCLUDED(mutex_);
  // 0 or -EINVAL. A signal that is ignored now is forgotten where it was pending.
  int SetAction(int sig, const SignalAction& action, uint32_t tid = 0) ABSL_LOCKS_EXCLUDED(mutex_);

  void ResetAction(int sig, uint32_t tid) ABSL_LOCKS_EXCLUDED(mutex_);  // to SIG_DFL

  SignalSet Mask(uint32_t tid) const ABSL_LOCKS_EXCLUDED(mutex_);
  void SetMask(uint32_t tid, SignalSet mask) ABSL_LOCKS_EXCLUDED(mutex_);
  // A mask for the length of one system call (sigsuspend, ppoll, ...). A call that is made again
  // keeps the mask that was saved the first time.
  void SetTemporaryMask(uint32_t tid, SignalSet mask) ABSL_LOCKS_EXCLUDED(mutex_);
  // The call ended without a signal: the old mask is back. Whether there was one.
  bool EndTemporaryMask(uint32_t tid) ABSL_LOCKS_EXCLUDED(mutex_);
  std::optional<SignalSet> SavedMask(uint32_t tid) const ABSL_LOCKS_EXCLUDED(mutex_);
  void SetSavedMask(uint32_t tid, SignalSet mask) ABSL_LOCKS_EXCLUDED(mutex_);

  // A thread of the program that is `preferred` comes before the oldest (0: none).
  SendResult SendToProcess(const siginfo_t& info, uint32_t preferred = 0)
      ABSL_LOCKS_EXCLUDED(mutex_);
  SendResult SendToThread(uint32_t tid, const siginfo_t& info) ABSL_LOCKS_EXCLUDED(mutex_);
  // The signal of a timer, to the process (tid 0) or to a thread, which may have ended. It always
  // has room.
  SendResult SendTimer(uint32_t tid, const siginfo_t& info, uint32_t preferred = 0)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether the signal of a timer is pending somewhere; forgets it.
  bool HasTimer(int sig, int timer) const ABSL_LOCKS_EXCLUDED(mutex_);
  void DiscardTimer(int sig, int timer) ABSL_LOCKS_EXCLUDED(mutex_);
  // A fault of the thread's own instruction: where it is blocked or ignored the default action
  // comes.
  void Force(uint32_t tid, const siginfo_t& info) ABSL_LOCKS_EXCLUDED(mutex_);

  // Of any thread, which may have ended: then none.
  std::optional<ThreadSets> SetsOf(uint32_t tid) const ABSL_LOCKS_EXCLUDED(mutex_);
  // How many more signals that queue find room.
  uint64_t QueueRoom() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Pending for the thread or the process, blocked or not.
  SignalSet Pending(uint32_t tid) const ABSL_LOCKS_EXCLUDED(mutex_);
  bool HasDeliverable(uint32_t tid) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Threads that could take a signal that is pending for the process. Whom it was first meant for
  // may have blocked it since, or ended.
  std::vector<uint32_t> Candidates() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes the next one, to act upon unless it is ignored. Sets the mask that holds
  // in the handler when there is one.
  std::optional<Delivery> Next(uint32_t tid) ABSL_LOCKS_EXCLUDED(mutex_);
  // sigtimedwait(2): takes one of `set`; else remembers that the thread waits for them.
  std::optional<siginfo_t> Wait(uint32_t tid, SignalSet set) ABSL_LOCKS_EXCLUDED(mutex_);
  void EndWait(uint32_t tid) ABSL_LOCKS_EXCLUDED(mutex_);

  // A signalfd(2): it can be read from now on as long as one of `mask` is pending for the process
  // or for any thread. KILL and STOP never are.
  void AddSignalFd(const std::shared_ptr<SignalFd>& fd, SignalSet mask) ABSL_LOCKS_EXCLUDED(mutex_);
  void SetSignalFd(SignalFd& fd, SignalSet mask) ABSL_LOCKS_EXCLUDED(mutex_);
  SignalSet SignalFdMask(const SignalFd& fd) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes one of its signals that is pending for the thread or the process; else, if it shall
  // `wait`, remembers that the thread is woken by them, until the next Read.
  std::optional<siginfo_t> Read(uint32_t tid, const SignalFd& fd, bool wait)
      ABSL_LOCKS_EXCLUDED(mutex_);

  void SetQueueLimit(uint64_t entries) ABSL_LOCKS_EXCLUDED(mutex_);

  // For a snapshot, and back.
  std::vector<siginfo_t> ProcessPending() const ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<siginfo_t> ThreadPending(uint32_t tid) const ABSL_LOCKS_EXCLUDED(mutex_);
  void RestoreProcessPending(const std::vector<siginfo_t>& all) ABSL_LOCKS_EXCLUDED(mutex_);
  void RestoreThreadPending(uint32_t tid, const std::vector<siginfo_t>& all)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct PerThread {
    SignalSet mask = 0;
    std::optional<SignalSet> saved_mask;
    SignalSet waiting = 0;  // what sigtimedwait waits for
    SignalSet reading = 0;  // what a read of a signalfd waits for
    PendingSignals pending;
    std::unique_ptr<SignalActions> own_actions;  // of a process of its own
  };

  SendResult SendToProcessLocked(const siginfo_t& info, bool has_room, uint32_t preferred)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SendResult SendToThreadLocked(uint32_t tid, const siginfo_t& info, bool has_room)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Queue(PendingSignals& pending, const siginfo_t& info, bool has_room)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  size_t Room() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Wants(const PerThread& thread, int sig) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SignalActions* OwnActions(uint32_t tid) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SignalActions& ActionsOf(uint32_t tid) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What is pending for the program as a whole, as far as it concerns the thread: nothing for a
  // process of its own.
  SignalSet Shared(const PerThread& thread) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<siginfo_t> Take(PerThread& thread, SignalSet set)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static bool Dropped(const SignalActions& actions, int sig, SignalSet blocked);
  void CancelOpposites(int sig) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DiscardEverywhere(SignalSet signals) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // After queues have changed: tells the signalfds. `arrived` was added to them.
  void TellSignalFds(SignalSet arrived) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  SignalActions actions_ ABSL_GUARDED_BY(mutex_);
  PendingSignals pending_ ABSL_GUARDED_BY(mutex_);
  absl::btree_map<uint32_t, PerThread> threads_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<SignalFd>> signal_fds_ ABSL_GUARDED_BY(mutex_);
  uint64_t queue_limit_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace km

#endif  // KM_PROCESS_SIGNAL_STATE_H_
