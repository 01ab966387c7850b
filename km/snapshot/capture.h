// Process -> Image.
#ifndef KM_SNAPSHOT_CAPTURE_H_
#define KM_SNAPSHOT_CAPTURE_H_

#include <signal.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "km/base/owned.h"
#include "km/files/tcp_connection.h"
#include "km/process/process.h"
#include "km/snapshot/image.h"
#include "km/snapshot/writer.h"

namespace km {

inline constexpr uint64_t kDefaultUnnamedLimit = uint64_t{1} << 30;

struct CaptureOptions {
  std::string label, description;
  std::string producer;
  uint32_t first_thread = 0;                      // the tid that comes first in the file
  uint64_t unnamed_limit = kDefaultUnnamedLimit;  // bytes of one file without a name
  // Private memory that is as it was in a snapshot which the process was resumed from stays there.
  bool on_base = false;
  // TCP connections stand still until Captured::connections is destroyed: for a process that ends.
  bool keep_tcp = false;
  // Memory that the program advised not to dump (MADV_DONTDUMP) is in the file like any other.
  bool keep_dontdump = false;
  // For a core dump: what killed the process. Then nothing is refused.
  std::optional<siginfo_t> fatal_signal;
};

struct Captured {
  Image image;
  MemorySource memory;
  std::vector<OwnedMapping> objects;  // what memory.objects points to
  HeldConnections connections;
  std::vector<std::string> warnings;  // what is not as a user may think
};

// Everything `process` has, while it is paused. EBUSY names all that a snapshot cannot carry.
absl::StatusOr<Captured> Capture(Process& process, const CaptureOptions& options);

}  // namespace km

#endif  // KM_SNAPSHOT_CAPTURE_H_
