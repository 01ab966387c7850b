// Who is told of what happens to a file, and the leases and notifications that make something
// happen: commands of fcntl(2).
#ifndef KM_SYSCALLS_FILE_OWNERS_H_
#define KM_SYSCALLS_FILE_OWNERS_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "km/files/fd_table.h"
#include "km/syscalls/call.h"

namespace km {

// The result of the command in argument 1 on `file`; none: it is no such command.
std::optional<int64_t> OwnerCommand(Call& call, const std::shared_ptr<OpenFile>& file);

}  // namespace km

#endif  // KM_SYSCALLS_FILE_OWNERS_H_
