// Locks and leases that the program holds on its open files.
#ifndef KM_FILES_FILE_LOCKS_H_
#define KM_FILES_FILE_LOCKS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "km/files/fd_table.h"
#include "km/files/file_record.h"

namespace km {

// Appends what is held through `file`, a descriptor of description `id`. From its fdinfo, if it may
// hold any: /proc/locks, which tells of all at once, has the kernel wait for every processor
// (percpu_down_write), 10 ms and more.
absl::Status SaveLocks(const OpenFile& file, uint32_t id, std::vector<LockRecord>* out);

// Takes them again. To be called last: closing any descriptor of a file drops the process's locks
// on it. A lock that another process has by now is an error.
absl::Status RestoreLocks(FdTable& table, absl::Span<const LockRecord> locks,
                          absl::Span<const DescriptorRecord> descriptors);

}  // namespace km

#endif  // KM_FILES_FILE_LOCKS_H_
