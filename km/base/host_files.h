// Files and paths of the host, as the monitor itself needs them.
#ifndef KM_BASE_HOST_FILES_H_
#define KM_BASE_HOST_FILES_H_

#include <string>

#include "absl/status/statusor.h"
#include "km/base/owned.h"

namespace km {

// All of a file that tells of the moment (/proc); empty when it cannot be read. Thread-safe.
std::string HostText(const std::string& path);

// The regular file `path`, open for reading. Anything else there is refused before it is opened,
// which alone may wait, or act on a device. Thread-safe.
absl::StatusOr<OwnedFd> OpenRegular(const std::string& path);

// `path`, or what it is below the working directory. Fails when that has no path. Thread-safe.
absl::StatusOr<std::string> AbsolutePath(const std::string& path);

}  // namespace km

#endif  // KM_BASE_HOST_FILES_H_
