#include "km/files/watched_paths.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_split.h"
#include "km/files/host_path.h"

namespace km {

// Source: fs/notify/fdinfo.c.
std::vector<LiveWatch> LiveWatches(int host_fd) {
  std::vector<LiveWatch> watches;
  const std::string info = FdInfoOf(host_fd);
  for (absl::string_view line : absl::StrSplit(info, '\n')) {
    uint32_t number = 0, device = 0, mask = 0;
    unsigned long inode = 0;
    if (sscanf(std::string(line).c_str(), "inotify wd:%x ino:%lx sdev:%x mask:%x", &number, &inode,
               &device, &mask) != 4) {
      continue;
    }
    // The kernel's own encoding of a device (include/linux/kdev_t.h).
    watches.push_back(
        {static_cast<int>(number), mask, makedev(device >> 20, device & 0xfffff), inode});
  }
  return watches;
}

void WatchedPaths::Remember(int host_fd, int number, std::string path) {
  absl::MutexLock lock(&mutex_);
  last_ = std::max(last_, number);
  paths_[number] = std::move(path);
  if (paths_.size() < prune_at_) return;
  absl::flat_hash_set<int> live;
  for (const LiveWatch& watch : LiveWatches(host_fd)) live.insert(watch.number);
  absl::erase_if(paths_, [&](const auto& entry) { return !live.contains(entry.first); });
  prune_at_ = std::max(kFirstPruning, 2 * paths_.size());
}

void WatchedPaths::Forget(int number) {
  absl::MutexLock lock(&mutex_);
  paths_.erase(number);
}

std::string WatchedPaths::Path(int number) const {
  absl::MutexLock lock(&mutex_);
  auto it = paths_.find(number);
  return it != paths_.end() ? it->second : "";
}

int WatchedPaths::last() const {
  absl::MutexLock lock(&mutex_);
  return last_;
}

void WatchedPaths::SetLast(int number) {
  absl::MutexLock lock(&mutex_);
  last_ = number;
}

}  // namespace km
