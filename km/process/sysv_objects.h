// System V shared memory, semaphores and message queues (sysvipc(7)), as the program knows them.
#ifndef KM_PROCESS_SYSV_OBJECTS_H_
#define KM_PROCESS_SYSV_OBJECTS_H_

#include <sys/sem.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/synchronization/mutex.h"

namespace km {

enum class SysvKind : uint32_t { kMemory, kSemaphores, kQueue };

// The objects are the host's, which the program shares with other processes, and so are their ids,
// until a resume: an object made anew then has another id on the host than the program knows.
//
// Thread-safe.
class SysvObjects {
 public:
  // The host's id for one of the program's, and the other way round, which remembers that the
  // program knows the object. Negative ids are nobody's and stay.
  int Host(SysvKind kind, int id) ABSL_LOCKS_EXCLUDED(mutex_);
  int Guest(SysvKind kind, int host) ABSL_LOCKS_EXCLUDED(mutex_);
  // After a resume: the program's `id` is the host's `host`.
  void Bind(SysvKind kind, int id, int host) ABSL_LOCKS_EXCLUDED(mutex_);
  // The program, or the monitor for it, made the host's object; `keyed`: others can find it.
  void NoteMade(SysvKind kind, int host, bool keyed) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Made(SysvKind kind, int host) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Removes the objects so made that nobody else can find, and those with keys too if `keyed`.
  void RemoveMade(bool keyed) ABSL_LOCKS_EXCLUDED(mutex_);
  // The program removed it.
  void Forget(SysvKind kind, int id) ABSL_LOCKS_EXCLUDED(mutex_);
  // What the program knows: its id and the host's, ascending.
  std::vector<std::pair<int, int>> Known(SysvKind kind) const ABSL_LOCKS_EXCLUDED(mutex_);

  // After a semop(2) on the program's set `id`: what the process's end undoes (SEM_UNDO).
  void NoteUndo(int id, const std::vector<sembuf>& operations) ABSL_LOCKS_EXCLUDED(mutex_);
  // SETVAL and SETALL forget it (`number` -1: of all semaphores of the set).
  void ForgetUndo(int id, int number) ABSL_LOCKS_EXCLUDED(mutex_);
  // Nonzero sums of SEM_UNDO operations of a set, by number.
  std::vector<std::pair<int, int>> Undo(int id) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Key = std::pair<SysvKind, int>;

  void ForgetLocked(Key key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Those that are no more: a segment goes with its last attachment, and others may remove objects.
  void ForgetGone() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  absl::btree_map<Key, int> host_ ABSL_GUARDED_BY(mutex_);   // by the program's id
  absl::btree_map<Key, int> guest_ ABSL_GUARDED_BY(mutex_);  // by the host's id
  absl::btree_map<Key, bool> made_ ABSL_GUARDED_BY(mutex_);  // by the host's id: whether keyed
  absl::btree_map<std::pair<int, int>, int> undo_ ABSL_GUARDED_BY(mutex_);  // by set and number
};

}  // namespace km

#endif  // KM_PROCESS_SYSV_OBJECTS_H_
