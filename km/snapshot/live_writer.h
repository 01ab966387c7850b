// A snapshot that is written while the program goes on: by a child of the monitor, which has a
// copy-on-write copy of its memory as of one instant.
#ifndef KM_SNAPSHOT_LIVE_WRITER_H_
#define KM_SNAPSHOT_LIVE_WRITER_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/base/owned.h"
#include "km/snapshot/capture.h"
#include "km/snapshot/writer.h"

namespace km {

// For the main thread.
class LiveWriter {
 public:
  // While the process is paused; when it returns the process may go on. What is shared (memory
  // objects) is copied here, at the cost of its size; of the rest only page tables are copied.
  // Where the user may have no more processes all is written here, and finished on return.
  static absl::StatusOr<std::unique_ptr<LiveWriter>> Start(Captured captured,
                                                           const std::string& path,
                                                           const WriteOptions& options);
  // Cancels a writer that has not finished, and waits for it.
  ~LiveWriter();
  LiveWriter(const LiveWriter&) = delete;
  LiveWriter& operator=(const LiveWriter&) = delete;

  // Readable (poll) when it has finished.
  int fd() const { return result_.get(); }
  // Waits until it has: what WriteSnapshot returned in the child.
  absl::Status Finish();
  // It soon finishes with ECANCELED, without a file, if it has not come to the end by then.
  void Cancel();
  // Bytes of memory that were written so far or need not be, and all there are.
  uint64_t done() const { return progress().done.load(); }
  uint64_t total() const { return total_; }

 private:
  LiveWriter() = default;
  void Reap();
  WriteProgress& progress() const;

  pid_t child_ = 0;  // 0: reaped
  OwnedFd result_;
  OwnedMapping progress_;  // of a WriteProgress that the child shares
  uint64_t total_ = 0;
};

}  // namespace km

#endif  // KM_SNAPSHOT_LIVE_WRITER_H_
