#include "km/files/host_path.h"

#include <limits.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "km/base/host_files.h"

namespace km {

std::string HostPathOf(int host_fd) {
  char path[PATH_MAX];
  ssize_t length = readlink(absl::StrCat("/proc/self/fd/", host_fd).c_str(), path, sizeof(path));
  return length > 0 ? std::string(path, static_cast<size_t>(length)) : std::string();
}

std::string FdInfoOf(int host_fd) { return HostText(absl::StrCat("/proc/self/fdinfo/", host_fd)); }

}  // namespace km
