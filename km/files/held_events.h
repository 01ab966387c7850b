// Events of an inotify instance that were taken out of it for a snapshot, and that the program has
// not read yet: there is no other way to see them. Source: inotify(7).
#ifndef KM_FILES_HELD_EVENTS_H_
#define KM_FILES_HELD_EVENTS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace km {

// As long as there are any, the instance itself stays readable for poll and epoll by a mark: the
// last event of a watch of the monitor's own, which the program never sees. What is in the instance
// is younger than what is held. Thread-safe; the lock is a leaf. `next`: the number that the
// program's next watch gets.
class HeldEvents {
 public:
  // Whether the program's reads are to be made by Read: as long as there are held events, or the
  // mark. Becomes true only while no thread of the program runs, so none waits in the instance
  // then.
  bool active() const { return active_; }

  // Takes all that is unread. An errno leaves everything as it was: the mark cannot be made (the
  // user has no watch left, or the kernel cannot number watches).
  int Hold(int host_fd, int next) ABSL_LOCKS_EXCLUDED(mutex_);
  // Those of a snapshot, for a new instance; an errno as above.
  int Put(int host_fd, int next, std::vector<uint8_t> events) ABSL_LOCKS_EXCLUDED(mutex_);
  // struct inotify_event, each with its name behind it.
  std::vector<uint8_t> events() const ABSL_LOCKS_EXCLUDED(mutex_);

  // What read(2) with `size` bytes gives: whole events, or an errno. None: not active any more, or
  // there was the mark alone; the instance is to be asked.
  int Read(int host_fd, size_t size, std::vector<uint8_t>* events) ABSL_LOCKS_EXCLUDED(mutex_);
  // What FIONREAD gives.
  size_t Unread(int host_fd) const ABSL_LOCKS_EXCLUDED(mutex_);
  // inotify_add_watch(2), a number or a negative errno: not while another watch is being numbered.
  int64_t AddWatch(int host_fd, const char* path, uint32_t mask) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  int Mark(int host_fd, int next) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t ReadInstance(int host_fd, size_t size, std::vector<uint8_t>* events)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropMark(int host_fd) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Update() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable absl::Mutex mutex_;
  std::vector<uint8_t> events_ ABSL_GUARDED_BY(mutex_);
  int mark_ ABSL_GUARDED_BY(mutex_) = 0;       // the newest one's watch, as long as it is unread
  int last_mark_ ABSL_GUARDED_BY(mutex_) = 0;  // that of the last one
  std::atomic<bool> active_ = false;
};

// Whether these bytes are whole events.
bool AreEvents(const std::vector<uint8_t>& bytes);

// Sets the number that the next watch of an instance gets; an errno where the kernel cannot.
int SetNextWatch(int host_fd, int number);

}  // namespace km

#endif  // KM_FILES_HELD_EVENTS_H_
