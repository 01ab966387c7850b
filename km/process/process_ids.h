// Ids of processes and process groups: the program's own, and what the host knows them by. They
// differ after a resume (docs/decisions/0003-virtual-pids.md).
#ifndef KM_PROCESS_PROCESS_IDS_H_
#define KM_PROCESS_PROCESS_IDS_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace km {

// Thread-safe; the lock is a leaf. An id that is none of the program's own is the same on both
// sides, but for those of the monitor's threads: to the program they are nobody's.
class ProcessIds {
 public:
  // What the host answers ESRCH to: above every pid_max.
  static constexpr int kNobody = 0x7fffffff;

  // The program's ids of its process, group and session; the host's are what they are now.
  void Set(uint32_t pid, uint32_t group, uint32_t session) ABSL_LOCKS_EXCLUDED(mutex_);
  // The process has moved to another group or session of the host's.
  void Moved() ABSL_LOCKS_EXCLUDED(mutex_);

  uint32_t group() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint32_t session() const ABSL_LOCKS_EXCLUDED(mutex_);

  // 0 and negative numbers stay as they are.
  int HostProcess(int guest) const ABSL_LOCKS_EXCLUDED(mutex_);
  int GuestProcess(int host) const ABSL_LOCKS_EXCLUDED(mutex_);
  int HostGroup(int guest) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Of groups and sessions alike: both are named by a process.
  int GuestGroup(int host) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Pair {
    int guest = 0, host = 0;
  };
  int GuestOf(int host) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  Pair process_ ABSL_GUARDED_BY(mutex_);
  Pair group_ ABSL_GUARDED_BY(mutex_);
  Pair session_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace km

#endif  // KM_PROCESS_PROCESS_IDS_H_
