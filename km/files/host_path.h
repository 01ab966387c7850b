// What the host tells of an open descriptor in /proc/self.
#ifndef KM_FILES_HOST_PATH_H_
#define KM_FILES_HOST_PATH_H_

#include <string>

namespace km {

// What /proc/self/fd/N points to: an absolute path (with " (deleted)" behind it when the file is
// gone), or "pipe:[N]" and the like. Empty when it cannot be told.
std::string HostPathOf(int host_fd);

// The text of /proc/self/fdinfo/N; empty when it cannot be read.
std::string FdInfoOf(int host_fd);

}  // namespace km

#endif  // KM_FILES_HOST_PATH_H_
