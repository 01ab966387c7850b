#include "km/process/sysv_objects.h"

#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cerrno>

namespace km {
namespace {

// An id of the program's own for an object whose number on the host means another to it.
constexpr int kFirstOwn = 1 << 30;

// With fewer nobody looks which of them are gone.
constexpr size_t kFew = 64;

bool Gone(SysvKind kind, int host) {
  long result = 0;
  shmid_ds segment;
  semid_ds set;
  msqid_ds queue;
  switch (kind) {
    case SysvKind::kMemory:
      result = syscall(SYS_shmctl, host, IPC_STAT, &segment);
      break;
    case SysvKind::kSemaphores:
      result = syscall(SYS_semctl, host, 0, IPC_STAT, &set);
      break;
    case SysvKind::kQueue:
      result = syscall(SYS_msgctl, host, IPC_STAT, &queue);
      break;
  }
  return result < 0 && (errno == EINVAL || errno == EIDRM);
}

}  // namespace

int SysvObjects::Host(SysvKind kind, int id) {
  if (id < 0) return id;
  absl::MutexLock lock(&mutex_);
  auto known = host_.find({kind, id});
  if (known != host_.end()) return known->second;
  // The host's object of that number is known under another: this one is nobody's.
  return guest_.contains({kind, id}) ? -1 : id;
}

int SysvObjects::Guest(SysvKind kind, int host) {
  if (host < 0) return host;
  absl::MutexLock lock(&mutex_);
  auto known = guest_.find({kind, host});
  if (known != guest_.end()) return known->second;
  // Only when their number comes to a power of two: that takes twice as many as are there.
  if (host_.size() >= kFew && std::has_single_bit(host_.size())) ForgetGone();
  int id = host;
  for (int own = kFirstOwn; host_.contains({kind, id}); ++own) id = own;
  host_[{kind, id}] = host;
  guest_[{kind, host}] = id;
  return id;
}

void SysvObjects::Bind(SysvKind kind, int id, int host) {
  absl::MutexLock lock(&mutex_);
  host_[{kind, id}] = host;
  guest_[{kind, host}] = id;
}

void SysvObjects::NoteMade(SysvKind kind, int host, bool keyed) {
  absl::MutexLock lock(&mutex_);
  made_[{kind, host}] = keyed;
}

bool SysvObjects::Made(SysvKind kind, int host) const {
  absl::MutexLock lock(&mutex_);
  return made_.contains({kind, host});
}

void SysvObjects::RemoveMade(bool keyed) {
  absl::MutexLock lock(&mutex_);
  for (const auto& [key, has_key] : made_) {
    if (has_key && !keyed) continue;
    switch (key.first) {
      case SysvKind::kMemory:
        syscall(SYS_shmctl, key.second, IPC_RMID, 0);
        break;
      case SysvKind::kSemaphores:
        syscall(SYS_semctl, key.second, 0, IPC_RMID, 0);
        break;
      case SysvKind::kQueue:
        syscall(SYS_msgctl, key.second, IPC_RMID, 0);
        break;
    }
  }
}

void SysvObjects::Forget(SysvKind kind, int id) {
  absl::MutexLock lock(&mutex_);
  ForgetLocked({kind, id});
}

void SysvObjects::ForgetLocked(Key key) {
  auto known = host_.find(key);
  if (known == host_.end()) return;
  guest_.erase({key.first, known->second});
  made_.erase({key.first, known->second});
  host_.erase(known);
  if (key.first != SysvKind::kSemaphores) return;
  undo_.erase(undo_.lower_bound({key.second, 0}), undo_.lower_bound({key.second + 1, 0}));
}

void SysvObjects::ForgetGone() {
  std::vector<Key> gone;
  for (const auto& [key, host] : host_) {
    if (Gone(key.first, host)) gone.push_back(key);
  }
  for (const Key& key : gone) ForgetLocked(key);
}

std::vector<std::pair<int, int>> SysvObjects::Known(SysvKind kind) const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::pair<int, int>> known;
  for (const auto& [key, host] : host_) {
    if (key.first == kind) known.emplace_back(key.second, host);
  }
  return known;
}

void SysvObjects::NoteUndo(int id, const std::vector<sembuf>& operations) {
  absl::MutexLock lock(&mutex_);
  for (const sembuf& operation : operations) {
    if (!(operation.sem_flg & SEM_UNDO) || operation.sem_op == 0) continue;
    auto [it, fresh] = undo_.try_emplace({id, operation.sem_num}, 0);
    it->second += operation.sem_op;
    if (it->second == 0) undo_.erase(it);
  }
}

void SysvObjects::ForgetUndo(int id, int number) {
  absl::MutexLock lock(&mutex_);
  if (number >= 0) {
    undo_.erase({id, number});
  } else {
    undo_.erase(undo_.lower_bound({id, 0}), undo_.lower_bound({id + 1, 0}));
  }
}

std::vector<std::pair<int, int>> SysvObjects::Undo(int id) const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::pair<int, int>> sums;
  for (auto it = undo_.lower_bound({id, 0}); it != undo_.end() && it->first.first == id; ++it) {
    sums.emplace_back(it->first.second, it->second);
  }
  return sums;
}

}  // namespace km
