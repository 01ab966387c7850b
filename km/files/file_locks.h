// Locks and leases that the program holds on its open files.
#ifndef KM_FILES_FILE_LOCKS_H_
#define KM_FILES_FILE_LOCKS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "km/files/fd_table.h"
#include "km/files/file_record.h"

namespace km {

// The inodes that anybody on the host has locks or leases on: asking once is cheaper than looking
// at each descriptor. Nothing: it cannot be told.
std::optional<absl::flat_hash_set<uint64_t>> LockedInodes();

// Appends what is held through `host_fd`, a descriptor of description `id`. `locked`: from above.
absl::Status SaveLocks(int host_fd, uint32_t id,
                       const std::optional<absl::flat_hash_set<uint64_t>>& locked,
                       std::vector<LockRecord>* out);

// Takes them again. To be called last: closing any descriptor of a file drops the process's locks
// on it. A lock that another process has by now is an error.
absl::Status RestoreLocks(FdTable& table, absl::Span<const LockRecord> locks,
                          absl::Span<const DescriptorRecord> descriptors);

}  // namespace km

#endif  // KM_FILES_FILE_LOCKS_H_
