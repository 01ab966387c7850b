// Who gets the signals of an open file, and which: F_SETOWN, F_SETSIG, O_ASYNC, F_NOTIFY.
#ifndef KM_FILES_SIGNAL_OWNER_H_
#define KM_FILES_SIGNAL_OWNER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "km/files/fd_table.h"
#include "km/files/file_record.h"

namespace km {

// Appends what is set for the description `id`, if anything is.
absl::Status SaveOwner(const OpenFile& file, uint32_t id, std::vector<OwnerRecord>* out);

// Sets it again, when all descriptors are there.
absl::Status RestoreOwners(FdTable& table, absl::Span<const OwnerRecord> owners,
                           absl::Span<const DescriptorRecord> descriptors);

}  // namespace km

#endif  // KM_FILES_SIGNAL_OWNER_H_
