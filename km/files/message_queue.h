// POSIX message queues (mq_overview(7)) in snapshots: the host's own, found by their names.
#ifndef KM_FILES_MESSAGE_QUEUE_H_
#define KM_FILES_MESSAGE_QUEUE_H_

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "km/files/fd_table.h"
#include "km/files/file_record.h"

namespace km {

// Whether it is of a queue that the program has removed (mq_unlink(3)).
bool IsRemovedQueue(const FileRecord& record);

// Asks again for the notices that the program was waiting for (mq_notify(2)). At last: the kernel
// forgets them when the process closes any descriptor of the queue. `descriptions` were restored.
absl::Status RestoreNotices(FdTable& table, absl::Span<const FileRecord> descriptions,
                            absl::Span<const DescriptorRecord> descriptors);

}  // namespace km

#endif  // KM_FILES_MESSAGE_QUEUE_H_
