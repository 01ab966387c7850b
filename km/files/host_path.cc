#include "km/files/host_path.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "km/base/owned.h"

namespace km {

std::string HostPathOf(int host_fd) {
  char path[PATH_MAX];
  ssize_t length = readlink(absl::StrCat("/proc/self/fd/", host_fd).c_str(), path, sizeof(path));
  return length > 0 ? std::string(path, static_cast<size_t>(length)) : std::string();
}

std::string FdInfoOf(int host_fd) {
  const OwnedFd file(
      open(absl::StrCat("/proc/self/fdinfo/", host_fd).c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char bytes[4096];
  ssize_t size = 0;
  while ((size = read(file.get(), bytes, sizeof(bytes))) > 0) {
    text.append(bytes, static_cast<size_t>(size));
  }
  return text;
}

}  // namespace km
