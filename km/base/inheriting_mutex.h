// A mutex whose owner inherits the priority of who waits for it, which absl::Mutex has not: for
// what threads that the program schedules in real time wait for (docs/decisions/0025).
#ifndef KM_BASE_INHERITING_MUTEX_H_
#define KM_BASE_INHERITING_MUTEX_H_

#include <pthread.h>

#include "absl/base/thread_annotations.h"

namespace km {

class ABSL_LOCKABLE InheritingMutex {
 public:
  InheritingMutex() {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&mutex_, &attributes);
    pthread_mutexattr_destroy(&attributes);
  }
  ~InheritingMutex() { pthread_mutex_destroy(&mutex_); }
  InheritingMutex(const InheritingMutex&) = delete;
  InheritingMutex& operator=(const InheritingMutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { pthread_mutex_lock(&mutex_); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { pthread_mutex_unlock(&mutex_); }

 private:
  pthread_mutex_t mutex_;
};

class ABSL_SCOPED_LOCKABLE InheritingMutexLock {
 public:
  explicit InheritingMutexLock(InheritingMutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex)
      : mutex_(mutex) {
    mutex_->Lock();
  }
  ~InheritingMutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }
  InheritingMutexLock(const InheritingMutexLock&) = delete;
  InheritingMutexLock& operator=(const InheritingMutexLock&) = delete;

 private:
  InheritingMutex* const mutex_;
};

}  // namespace km

#endif  // KM_BASE_INHERITING_MUTEX_H_
