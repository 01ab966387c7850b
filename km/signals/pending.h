// Signals that were sent and not yet delivered. Source: signal(7), sigqueue(3).
#ifndef KM_SIGNALS_PENDING_H_
#define KM_SIGNALS_PENDING_H_

#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "absl/container/btree_map.h"
#include "km/signals/signal_set.h"

namespace km {

static_assert(sizeof(siginfo_t) == 128);

// The queue of one thread, or the one of the process. No lock: the process's covers it.
class PendingSignals {
 public:
  // Adds info.si_signo, which is a valid signal. `room` is how many entries more may be queued
  // (RLIMIT_SIGPENDING less the size() of all queues). A standard signal that is pending already is
  // dropped. Without room a real-time signal of sigqueue's kind is refused (false: -EAGAIN); of
  // others only the siginfo is lost.
  [[nodiscard]] bool Add(const siginfo_t& info, size_t room);

  // The same for an entry that has its room already, as a timer's has: it is never merged with
  // another.
  void AddAlways(const siginfo_t& info);

  // The entries of a timer of timer_create(2), of which a queue holds one at most.
  bool HasTimer(int sig, int timer) const;
  void DiscardTimer(int sig, int timer);

  // Takes out the next one to deliver among `allowed`, in the kernel's order: what the processor
  // raised, then the other synchronous signals, then the lowest number, each first in, first out.
  std::optional<siginfo_t> Next(SignalSet allowed);

  // The signals that are pending.
  SignalSet set() const { return set_; }
  // Queue entries in use.
  size_t size() const { return size_; }

  // Forgets all of `signals`.
  void Discard(SignalSet signals);

  // Everything, so that AddAlways in this order makes an equal queue.
  std::vector<siginfo_t> All() const;

 private:
  siginfo_t Take(int sig);

  SignalSet set_ = 0;
  size_t size_ = 0;
  // A signal in set_ may have none: its siginfo was lost.
  absl::btree_map<int, std::deque<siginfo_t>> queues_;
};

}  // namespace km

#endif  // KM_SIGNALS_PENDING_H_
