#include "km/signals/pending.h"

#include <algorithm>
#include <bit>

#include "km/signals/siginfo.h"

namespace km {
namespace {

bool IsOfTimer(const siginfo_t& info, int timer) {
  return info.si_code == SI_TIMER && info.si_timerid == timer;
}

}  // namespace

bool PendingSignals::Add(const siginfo_t& info, size_t room) {
  int sig = info.si_signo;
  bool real_time = sig >= kFirstRealTimeSignal;
  if (!real_time && Contains(set_, sig)) return true;
  // A negative code is a program's claim (sigqueue, tgkill, timers); the kernel's own signals and
  // kill's of the standard ones, one of each at most, always find room.
  bool needs_room = real_time || info.si_code < 0;
  if (room > 0 || !needs_room) {
    AddAlways(info);
  } else if (real_time && info.si_code != SI_USER) {
    return false;
  }
  set_ |= SignalBit(sig);
  return true;
}

void PendingSignals::AddAlways(const siginfo_t& info) {
  queues_[info.si_signo].push_back(info);
  ++size_;
  set_ |= SignalBit(info.si_signo);
}

bool PendingSignals::HasTimer(int sig, int timer) const {
  auto queue = queues_.find(sig);
  return queue != queues_.end() &&
         std::any_of(queue->second.begin(), queue->second.end(),
                     [timer](const siginfo_t& info) { return IsOfTimer(info, timer); });
}

void PendingSignals::DiscardTimer(int sig, int timer) {
  auto queue = queues_.find(sig);
  if (queue == queues_.end()) return;
  size_ -= std::erase_if(queue->second,
                         [timer](const siginfo_t& info) { return IsOfTimer(info, timer); });
  if (!queue->second.empty()) return;
  queues_.erase(queue);
  set_ &= ~SignalBit(sig);
}

siginfo_t PendingSignals::Take(int sig) {
  auto queue = queues_.find(sig);
  if (queue == queues_.end()) {
    set_ &= ~SignalBit(sig);
    return SenderSiginfo(sig, SI_USER, 0, 0);
  }
  siginfo_t info = queue->second.front();
  queue->second.pop_front();
  --size_;
  if (queue->second.empty()) {
    queues_.erase(queue);
    set_ &= ~SignalBit(sig);
  }
  return info;
}

std::optional<siginfo_t> PendingSignals::Next(SignalSet allowed) {
  SignalSet candidates = set_ & allowed;
  if (candidates == 0) return std::nullopt;
  for (SignalSet rest = candidates & kSynchronous; rest != 0; rest &= rest - 1) {
    int sig = std::countr_zero(rest) + 1;
    auto queue = queues_.find(sig);
    if (queue != queues_.end() && queue->second.front().si_code > 0) return Take(sig);
  }
  if ((candidates & kSynchronous) != 0) candidates &= kSynchronous;
  return Take(std::countr_zero(candidates) + 1);
}

void PendingSignals::Discard(SignalSet signals) {
  for (auto queue = queues_.begin(); queue != queues_.end();) {
    if (!Contains(signals, queue->first)) {
      ++queue;
      continue;
    }
    size_ -= queue->second.size();
    queue = queues_.erase(queue);
  }
  set_ &= ~signals;
}

std::vector<siginfo_t> PendingSignals::All() const {
  std::vector<siginfo_t> all;
  all.reserve(size_);
  for (SignalSet rest = set_; rest != 0; rest &= rest - 1) {
    int sig = std::countr_zero(rest) + 1;
    auto queue = queues_.find(sig);
    if (queue == queues_.end()) {
      all.push_back(SenderSiginfo(sig, SI_USER, 0, 0));
    } else {
      all.insert(all.end(), queue->second.begin(), queue->second.end());
    }
  }
  return all;
}

}  // namespace km
