// Asynchronous I/O of the kernel's own (io_setup(2)): contexts, and requests under way.
#ifndef KM_FILES_AIO_CONTEXTS_H_
#define KM_FILES_AIO_CONTEXTS_H_

#include <linux/aio_abi.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"

namespace km {

// A request, from before the host gets it until its event is taken.
struct AioRequest {
  uint64_t context = 0;  // as the program names it
  uint64_t address = 0;  // of the program's iocb
  uint64_t data = 0;     // the program's aio_data
  iocb host = {};        // what the host has; its aio_data is the request's number
};

// A context without requests under way, as a snapshot has it.
struct AioContextState {
  uint64_t name = 0;            // the program's
  uint32_t room = 0;            // how many requests io_setup(2) was asked to have room for
  std::vector<io_event> ready;  // events that the program has not taken, the program's
};

// Thread-safe. A context has a name of the program's and one of the host's.
class AioContexts {
 public:
  void Add(uint64_t name, aio_context_t host, uint32_t room) ABSL_LOCKS_EXCLUDED(mutex_);
  // The host's name; 0 when there is no such context.
  aio_context_t Host(uint64_t name) const ABSL_LOCKS_EXCLUDED(mutex_);
  // The context is no more, nor are its requests and events.
  void Remove(uint64_t name) ABSL_LOCKS_EXCLUDED(mutex_);

  // What a snapshot keeps, while no thread of the program runs. Waits a little for requests under
  // way; an error says which go on nevertheless. The program finds all as it was.
  absl::StatusOr<std::vector<AioContextState>> Save() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Restore(const std::vector<AioContextState>& states) ABSL_LOCKS_EXCLUDED(mutex_);

  // Gives the request its number.
  void Begin(const std::shared_ptr<AioRequest>& request) ABSL_LOCKS_EXCLUDED(mutex_);
  // The host has not taken it.
  void Forget(const AioRequest& request) ABSL_LOCKS_EXCLUDED(mutex_);
  // A request of that context and iocb; null when none is under way.
  std::shared_ptr<AioRequest> Find(uint64_t name, uint64_t address) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Turns events of the host's into the program's; their requests are over.
  void Complete(io_event* events, size_t count) ABSL_LOCKS_EXCLUDED(mutex_);

  // Events that were taken from the host and did not reach the program, oldest first.
  std::vector<io_event> TakeReady(uint64_t name, size_t most) ABSL_LOCKS_EXCLUDED(mutex_);
  // In front of those that are there.
  void PutBack(uint64_t name, const std::vector<io_event>& events) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Requests under way in a context, and how many of them wait for a descriptor to be ready.
  struct UnderWay {
    size_t all = 0, polls = 0;
  };
  UnderWay Count(uint64_t name) const ABSL_LOCKS_EXCLUDED(mutex_);
  void TakeOver(uint64_t name, aio_context_t host, int64_t wait_ns) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<std::pair<uint64_t, aio_context_t>> Names() const ABSL_LOCKS_EXCLUDED(mutex_);

  struct Context {
    aio_context_t host = 0;
    uint32_t room = 0;
    std::vector<io_event> ready;
  };

  mutable absl::Mutex mutex_;
  absl::btree_map<uint64_t, Context> contexts_ ABSL_GUARDED_BY(mutex_);
  absl::btree_map<uint64_t, std::shared_ptr<AioRequest>> requests_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_number_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace km

#endif  // KM_FILES_AIO_CONTEXTS_H_
