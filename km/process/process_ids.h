// Ids of processes and process groups: the program's own, and what the host knows them by. They
// differ after a resume (docs/decisions/0003-virtual-pids.md).
#ifndef KM_PROCESS_PROCESS_IDS_H_
#define KM_PROCESS_PROCESS_IDS_H_

#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
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

  // Whether the program has asked to lead the group or session that it is in now (setpgid(2),
  // setsid(2)), and now does.
  bool made_group() const ABSL_LOCKS_EXCLUDED(mutex_);
  bool made_session() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether the process's group is the foreground one of its controlling terminal.
  static bool InForeground();
  // After a resume and before Set: moves the host's process into a group or session of its own,
  // as the program had. On the main thread. Errors say what hinders.
  // `foreground`: its group was the foreground one of its terminal, and becomes that again when
  // this process is in the foreground now.
  absl::Status Make(bool group, bool session, bool foreground) ABSL_LOCKS_EXCLUDED(mutex_);

  uint32_t group() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint32_t session() const ABSL_LOCKS_EXCLUDED(mutex_);

  // 0 and negative numbers stay as they are.
  int HostProcess(int guest) const ABSL_LOCKS_EXCLUDED(mutex_);
  int GuestProcess(int host) const ABSL_LOCKS_EXCLUDED(mutex_);
  int HostGroup(int guest) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Both are named by a process. They differ where the host's group is its session as well and the
  // program's are two.
  int GuestGroup(int host) const ABSL_LOCKS_EXCLUDED(mutex_);
  int GuestSession(int host) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Pair {
    int guest = 0, host = 0;
  };
  int GuestOf(int host) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  Pair process_ ABSL_GUARDED_BY(mutex_);
  Pair group_ ABSL_GUARDED_BY(mutex_);
  Pair session_ ABSL_GUARDED_BY(mutex_);
  bool moved_ ABSL_GUARDED_BY(mutex_) = false;  // the program has asked for it
};

}  // namespace km

#endif  // KM_PROCESS_PROCESS_IDS_H_
