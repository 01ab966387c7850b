// What an inotify instance watches, by name: the kernel tells of a watch the inode only.
#ifndef KM_FILES_WATCHED_PATHS_H_
#define KM_FILES_WATCHED_PATHS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"

namespace km {

// A watch as /proc/self/fdinfo shows it.
struct LiveWatch {
  int number = 0;
  uint32_t mask = 0;
  dev_t device = 0;
  ino_t inode = 0;
};
std::vector<LiveWatch> LiveWatches(int host_fd);

// Thread-safe; the lock is a leaf.
class WatchedPaths {
 public:
  // `path`: absolute, without links; of the watch `number` of the instance `host_fd`.
  void Remember(int host_fd, int number, std::string path) ABSL_LOCKS_EXCLUDED(mutex_);
  void Forget(int number) ABSL_LOCKS_EXCLUDED(mutex_);
  std::string Path(int number) const ABSL_LOCKS_EXCLUDED(mutex_);  // empty: none
  // The number that was given last; 0 when none was.
  int last() const ABSL_LOCKS_EXCLUDED(mutex_);
  void SetLast(int number) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  static constexpr size_t kFirstPruning = 1024;

  mutable absl::Mutex mutex_;
  absl::flat_hash_map<int, std::string> paths_ ABSL_GUARDED_BY(mutex_);
  // Watches end unseen, with their files: at this size those that are no more are dropped.
  size_t prune_at_ ABSL_GUARDED_BY(mutex_) = kFirstPruning;
  int last_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace km

#endif  // KM_FILES_WATCHED_PATHS_H_
