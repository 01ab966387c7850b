// The file that the name of a UNIX socket is. Source: unix(7).
#ifndef KM_FILES_SOCKET_PATH_H_
#define KM_FILES_SOCKET_PATH_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/files/file_restorer.h"
#include "km/files/socket_address.h"

namespace km {

struct SocketFile {
  uint32_t mode = 0;  // 07777 and less
  Owner owner;
  bool removed = false;  // the socket has its name, and nothing has it in the file system any more
  std::string path;      // where it was renamed to; empty: it is at its name
};

// What the socket, whose file has this inode, has at its name, or elsewhere in that directory;
// nothing where the name is no path. Fails where the name may lead there from another working
// directory, or where that has more than *entries_left entries, which counts those looked at.
absl::StatusOr<std::optional<SocketFile>> SocketFileAt(int host_fd, const SocketAddress& name,
                                                       uint32_t inode, int* entries_left);

// Binds `host_fd` to `name`, which is a path: makes the file, with that mode and owner. It is
// renamed or removed when the others have been connected to it (FileRestorer::Settle). Returns 0 or
// the errno of bind(2); an owner that this process may not give is a matter of the restorer's
// policy.
absl::StatusOr<int> BindSocketFile(int host_fd, int type, const SocketAddress& name,
                                   const SocketFile& file, FileRestorer& restorer);

// Removes the file of a socket that nobody has open, if that is what the path leads to.
void RemoveDeadSocket(const std::string& path, int type);

}  // namespace km

#endif  // KM_FILES_SOCKET_PATH_H_
