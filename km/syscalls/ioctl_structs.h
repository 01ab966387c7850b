// ioctl(2) requests whose structure holds descriptors, or a length that decides what the host
// writes.
#ifndef KM_SYSCALLS_IOCTL_STRUCTS_H_
#define KM_SYSCALLS_IOCTL_STRUCTS_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "km/files/fd_table.h"
#include "km/syscalls/call.h"

namespace km {

// The result of `request` on `file` with the structure in argument 2; none: it is no such request.
std::optional<int64_t> StructIoctl(Call& call, const std::shared_ptr<OpenFile>& file,
                                   uint32_t request);

}  // namespace km

#endif  // KM_SYSCALLS_IOCTL_STRUCTS_H_
