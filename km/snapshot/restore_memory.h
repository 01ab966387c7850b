// Image -> memory.
#ifndef KM_SNAPSHOT_RESTORE_MEMORY_H_
#define KM_SNAPSHOT_RESTORE_MEMORY_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "km/base/owned.h"
#include "km/files/file_restorer.h"
#include "km/process/process.h"
#include "km/snapshot/image.h"
#include "km/snapshot/restore_ipc.h"

namespace km {

// Maps the memory of `image`: private memory from the snapshot `fd` and from `bases` (OpenBases),
// of which nothing is read, what is shared from files, judged by the policy of `files`, from
// `objects` (host descriptors by their addresses) or from the segments that `ipc` has made. On the
// main thread, before any thread of the program runs.
absl::Status RestoreMemory(const Image& image, int fd, const std::vector<OwnedFd>& bases,
                           const absl::flat_hash_map<uint64_t, OwnedFd>& objects,
                           FileRestorer& files, IpcRestorer& ipc, Process& process);

}  // namespace km

#endif  // KM_SNAPSHOT_RESTORE_MEMORY_H_
