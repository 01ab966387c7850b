// Image -> Process.
#ifndef KM_SNAPSHOT_RESTORE_H_
#define KM_SNAPSHOT_RESTORE_H_

#include <cstddef>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/files/file_restorer.h"
#include "km/process/process.h"
#include "km/snapshot/image.h"

namespace km {

// Makes a fresh process what an image says, in two steps: those of one file can all have made the
// first, and wait. For the main thread. Errors say what of the image is not to be had on this
// machine; the process is then of no more use.
class Restoration {
 public:
  virtual ~Restoration() = default;  // given up, it leaves nothing behind on the host

  // Memory, signals and threads, which do not run yet. `image` is as ParseSnapshot gave it; `fd` is
  // the snapshot's file, which memory is mapped from; `files`: what whoever resumes wants of the
  // open files. `files` and `process` outlive the result.
  static absl::StatusOr<std::unique_ptr<Restoration>> Begin(Image image, int fd,
                                                            const FileOptions& files,
                                                            Process& process);
  // How many descriptors the process is going to have.
  virtual size_t descriptor_count() const = 0;
  // One more of the open files is supplied; a path is absolute. An error changes nothing.
  virtual absl::Status Supply(const SuppliedFile& supplied) = 0;
  // The open files and what hangs on them, and all else that others may notice: listeners are bound
  // and terminals set. Once, and the last.
  virtual absl::Status Finish() = 0;
};

}  // namespace km

#endif  // KM_SNAPSHOT_RESTORE_H_
