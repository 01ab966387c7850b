#include "km/process/signal_state.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

namespace km {

void SignalState::AddThread(uint32_t tid, SignalSet mask, Owner owner) {
  absl::MutexLock lock(&mutex_);
  PerThread& thread = threads_[tid];
  thread.mask = mask & ~kUnblockable;
  if (owner == Owner::kProcess) thread.own_actions = std::make_unique<SignalActions>(actions_);
}

void SignalState::RemoveThread(uint32_t tid) {
  absl::MutexLock lock(&mutex_);
  threads_.erase(tid);
  TellSignalFds(0);
}

SignalActions* SignalState::OwnActions(uint32_t tid) const {
  auto it = threads_.find(tid);
  return it != threads_.end() ? it->second.own_actions.get() : nullptr;
}

SignalActions& SignalState::ActionsOf(uint32_t tid) {
  SignalActions* own = OwnActions(tid);
  return own != nullptr ? *own : actions_;
}

SignalAction SignalState::Action(int sig, uint32_t tid) const {
  absl::MutexLock lock(&mutex_);
  const SignalActions* own = OwnActions(tid);
  return own != nullptr ? own->Get(sig) : actions_.Get(sig);
}

int SignalState::SetAction(int sig, const SignalAction& action, uint32_t tid) {
  absl::MutexLock lock(&mutex_);
  SignalActions& actions = ActionsOf(tid);
  if (int error = actions.Set(sig, action); error != 0) return error;
  if (!actions.Ignored(sig)) return 0;
  if (&actions == &actions_) {
    DiscardEverywhere(SignalBit(sig));
  } else {
    threads_.at(tid).pending.Discard(SignalBit(sig));
  }
  return 0;
}

void SignalState::ResetAction(int sig, uint32_t tid) {
  absl::MutexLock lock(&mutex_);
  ActionsOf(tid).ResetToDefault(sig);
}

SignalSet SignalState::Shared(const PerThread& thread) const {
  return thread.own_actions == nullptr ? pending_.set() : 0;
}

std::optional<siginfo_t> SignalState::Take(PerThread& thread, SignalSet set) {
  std::optional<siginfo_t> info = thread.pending.Next(set);
  if (!info.has_value() && thread.own_actions == nullptr) info = pending_.Next(set);
  return info;
}

void SignalState::DiscardEverywhere(SignalSet signals) {
  pending_.Discard(signals);
  for (auto& [tid, thread] : threads_) {
    if (thread.own_actions == nullptr) thread.pending.Discard(signals);
  }
  TellSignalFds(0);
}

SignalSet SignalState::Mask(uint32_t tid) const {
  absl::MutexLock lock(&mutex_);
  return threads_.at(tid).mask;
}

void SignalState::SetMask(uint32_t tid, SignalSet mask) {
  absl::MutexLock lock(&mutex_);
  threads_.at(tid).mask = mask & ~kUnblockable;
}

void SignalState::SetTemporaryMask(uint32_t tid, SignalSet mask) {
  absl::MutexLock lock(&mutex_);
  PerThread& thread = threads_.at(tid);
  if (!thread.saved_mask.has_value()) thread.saved_mask = thread.mask;
  thread.mask = mask & ~kUnblockable;
}

bool SignalState::EndTemporaryMask(uint32_t tid) {
  absl::MutexLock lock(&mutex_);
  PerThread& thread = threads_.at(tid);
  if (!thread.saved_mask.has_value()) return false;
  thread.mask = *std::exchange(thread.saved_mask, std::nullopt);
  return true;
}

std::optional<SignalSet> SignalState::SavedMask(uint32_t tid) const {
  absl::MutexLock lock(&mutex_);
  return threads_.at(tid).saved_mask;
}

void SignalState::SetSavedMask(uint32_t tid, SignalSet mask) {
  absl::MutexLock lock(&mutex_);
  threads_.at(tid).saved_mask = mask;
}

size_t SignalState::Room() const {
  size_t used = pending_.size();
  for (const auto& [tid, thread] : threads_) used += thread.pending.size();
  return used < queue_limit_ ? queue_limit_ - used : 0;
}

bool SignalState::Wants(const PerThread& thread, int sig) const {
  return !Contains(thread.mask & ~thread.waiting & ~thread.reading, sig);
}

// A signal that is ignored is thrown away when it is sent, unless it is blocked: then the
// disposition may change before it is looked at.
bool SignalState::Dropped(const SignalActions& actions, int sig, SignalSet blocked) {
  return actions.Ignored(sig) && !Contains(blocked, sig);
}

void SignalState::CancelOpposites(int sig) {
  if (sig == SIGCONT) DiscardEverywhere(kStopping);
  if (Contains(kStopping, sig)) DiscardEverywhere(SignalBit(SIGCONT));
}

bool SignalState::Queue(PendingSignals& pending, const siginfo_t& info, bool has_room) {
  if (has_room) {
    pending.AddAlways(info);
  } else if (!pending.Add(info, Room())) {
    return false;
  }
  TellSignalFds(SignalBit(info.si_signo));
  return true;
}

SignalState::SendResult SignalState::SendToProcessLocked(const siginfo_t& info, bool has_room,
                                                         uint32_t preferred) {
  int sig = info.si_signo;
  CancelOpposites(sig);
  auto is_program = [](const auto& it) { return it.second.own_actions == nullptr; };
  auto meant = threads_.find(preferred);
  if (meant == threads_.end() || !is_program(*meant)) {
    meant = std::find_if(threads_.begin(), threads_.end(), is_program);
  }
  if (meant == threads_.end()) return {};
  // As in Linux one thread decides whether it is thrown away, whatever the others block.
  if (Dropped(actions_, sig, meant->second.mask | meant->second.waiting)) return {.dropped = true};
  if (!Queue(pending_, info, has_room)) return {.error = -EAGAIN};
  if (Wants(meant->second, sig)) return {.interrupt_tid = meant->first};
  for (const auto& it : threads_) {
    if (is_program(it) && Wants(it.second, sig)) return {.interrupt_tid = it.first};
  }
  return {};
}

SignalState::SendResult SignalState::SendToThreadLocked(uint32_t tid, const siginfo_t& info,
                                                        bool has_room) {
  int sig = info.si_signo;
  CancelOpposites(sig);
  PerThread& thread = threads_.at(tid);
  if (Dropped(ActionsOf(tid), sig, thread.mask | thread.waiting)) return {.dropped = true};
  if (!Queue(thread.pending, info, has_room)) return {.error = -EAGAIN};
  return {.interrupt_tid = Wants(thread, sig) ? tid : 0};
}

SignalState::SendResult SignalState::SendToProcess(const siginfo_t& info, uint32_t preferred) {
  absl::MutexLock lock(&mutex_);
  return SendToProcessLocked(info, false, preferred);
}

SignalState::SendResult SignalState::SendToThread(uint32_t tid, const siginfo_t& info) {
  absl::MutexLock lock(&mutex_);
  return SendToThreadLocked(tid, info, false);
}

SignalState::SendResult SignalState::SendTimer(uint32_t tid, const siginfo_t& info,
                                               uint32_t preferred) {
  absl::MutexLock lock(&mutex_);
  if (tid == 0) return SendToProcessLocked(info, true, preferred);
  if (!threads_.contains(tid)) return {.dropped = true};
  return SendToThreadLocked(tid, info, true);
}

bool SignalState::HasTimer(int sig, int timer) const {
  absl::MutexLock lock(&mutex_);
  return pending_.HasTimer(sig, timer) ||
         std::any_of(threads_.begin(), threads_.end(), [sig, timer](const auto& thread) {
           return thread.second.pending.HasTimer(sig, timer);
         });
}

void SignalState::DiscardTimer(int sig, int timer) {
  absl::MutexLock lock(&mutex_);
  pending_.DiscardTimer(sig, timer);
  for (auto& [tid, thread] : threads_) thread.pending.DiscardTimer(sig, timer);
  TellSignalFds(0);
}

void SignalState::Force(uint32_t tid, const siginfo_t& info) {
  absl::MutexLock lock(&mutex_);
  PerThread& thread = threads_.at(tid);
  int sig = info.si_signo;
  SignalActions& actions = ActionsOf(tid);
  if (Contains(thread.mask, sig) || actions.Ignored(sig)) {
    actions.ResetToDefault(sig);
    thread.mask &= ~SignalBit(sig);
  }
  [[maybe_unused]] bool queued = thread.pending.Add(info, std::numeric_limits<size_t>::max());
  TellSignalFds(SignalBit(sig));
}

std::optional<SignalState::ThreadSets> SignalState::SetsOf(uint32_t tid) const {
  absl::MutexLock lock(&mutex_);
  auto it = threads_.find(tid);
  if (it == threads_.end()) return std::nullopt;
  return ThreadSets{it->second.pending.set(), it->second.mask};
}

uint64_t SignalState::QueueRoom() const {
  absl::MutexLock lock(&mutex_);
  return Room();
}

SignalSet SignalState::Pending(uint32_t tid) const {
  absl::MutexLock lock(&mutex_);
  const PerThread& thread = threads_.at(tid);
  return thread.pending.set() | Shared(thread);
}

bool SignalState::HasDeliverable(uint32_t tid) const {
  absl::MutexLock lock(&mutex_);
  const PerThread& thread = threads_.at(tid);
  return ((thread.pending.set() | Shared(thread)) & ~thread.mask) != 0;
}

std::vector<uint32_t> SignalState::Candidates() const {
  absl::MutexLock lock(&mutex_);
  std::vector<uint32_t> tids;
  if (pending_.set() == 0) return tids;
  for (const auto& [tid, thread] : threads_) {
    if (Shared(thread) & (~thread.mask | thread.waiting | thread.reading)) tids.push_back(tid);
  }
  return tids;
}

std::optional<SignalState::Delivery> SignalState::Next(uint32_t tid) {
  absl::MutexLock lock(&mutex_);
  PerThread& thread = threads_.at(tid);
  std::optional<siginfo_t> info = Take(thread, ~thread.mask);
  if (!info.has_value()) return std::nullopt;
  TellSignalFds(0);
  int sig = info->si_signo;
  SignalActions& actions = ActionsOf(tid);
  Delivery delivery;
  delivery.info = *info;
  delivery.ignored = actions.Ignored(sig);
  if (delivery.ignored) return delivery;
  delivery.action = actions.TakeForDelivery(sig);
  delivery.frame_mask = thread.saved_mask.value_or(thread.mask);
  if (!delivery.action.is_default()) {
    thread.saved_mask.reset();
    thread.mask |= BlockedByHandler(delivery.action, sig);
    thread.mask &= ~kUnblockable;
  }
  return delivery;
}

std::optional<siginfo_t> SignalState::Wait(uint32_t tid, SignalSet set) {
  absl::MutexLock lock(&mutex_);
  PerThread& thread = threads_.at(tid);
  set &= ~kUnblockable;
  std::optional<siginfo_t> info = Take(thread, set);
  thread.waiting = info.has_value() ? 0 : set;
  if (info.has_value()) TellSignalFds(0);
  return info;
}

void SignalState::EndWait(uint32_t tid) {
  absl::MutexLock lock(&mutex_);
  threads_.at(tid).waiting = 0;
}

void SignalState::TellSignalFds(SignalSet arrived) {
  if (signal_fds_.empty()) return;
  SignalSet pending = pending_.set();
  for (const auto& [tid, thread] : threads_) pending |= thread.pending.set();
  for (size_t i = 0; i < signal_fds_.size();) {
    std::shared_ptr<SignalFd> fd = signal_fds_[i].lock();
    if (fd == nullptr) {
      signal_fds_[i] = std::move(signal_fds_.back());
      signal_fds_.pop_back();
      continue;
    }
    if ((pending & fd->mask) == 0) {
      fd->Lower();
    } else if ((arrived & fd->mask) != 0) {
      fd->Raise();
    }
    ++i;
  }
}

void SignalState::AddSignalFd(const std::shared_ptr<SignalFd>& fd, SignalSet mask) {
  {
    absl::MutexLock lock(&mutex_);
    signal_fds_.push_back(fd);
  }
  SetSignalFd(*fd, mask);
}

void SignalState::SetSignalFd(SignalFd& fd, SignalSet mask) {
  absl::MutexLock lock(&mutex_);
  fd.mask = mask & ~kUnblockable;
  // As the kernel does, even when nothing has changed.
  TellSignalFds(fd.mask);
}

SignalSet SignalState::SignalFdMask(const SignalFd& fd) const {
  absl::MutexLock lock(&mutex_);
  return fd.mask;
}

std::optional<siginfo_t> SignalState::Read(uint32_t tid, const SignalFd& fd, bool wait) {
  absl::MutexLock lock(&mutex_);
  PerThread& thread = threads_.at(tid);
  std::optional<siginfo_t> info = Take(thread, fd.mask);
  thread.reading = wait && !info.has_value() ? fd.mask : 0;
  if (info.has_value()) TellSignalFds(0);
  return info;
}

void SignalState::SetQueueLimit(uint64_t entries) {
  absl::MutexLock lock(&mutex_);
  queue_limit_ = entries;
}

std::vector<siginfo_t> SignalState::ProcessPending() const {
  absl::MutexLock lock(&mutex_);
  return pending_.All();
}

std::vector<siginfo_t> SignalState::ThreadPending(uint32_t tid) const {
  absl::MutexLock lock(&mutex_);
  return threads_.at(tid).pending.All();
}

void SignalState::RestoreProcessPending(const std::vector<siginfo_t>& all) {
  absl::MutexLock lock(&mutex_);
  for (const siginfo_t& info : all) pending_.AddAlways(info);
  TellSignalFds(pending_.set());
}

void SignalState::RestoreThreadPending(uint32_t tid, const std::vector<siginfo_t>& all) {
  absl::MutexLock lock(&mutex_);
  PendingSignals& pending = threads_.at(tid).pending;
  for (const siginfo_t& info : all) pending.AddAlways(info);
  TellSignalFds(pending.set());
}

}  // namespace km
