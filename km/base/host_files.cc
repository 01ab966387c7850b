#include "km/base/host_files.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "km/base/status.h"

namespace km {

std::string HostText(const std::string& path) {
  OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char piece[4096];
  ssize_t got = 0;
  while (fd.valid() && (got = read(fd.get(), piece, sizeof(piece))) > 0) {
    text.append(piece, static_cast<size_t>(got));
  }
  return text;
}

absl::StatusOr<OwnedFd> OpenRegular(const std::string& path) {
  const OwnedFd place(open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat file = {};
  if (!place.valid() || fstat(place.get(), &file) != 0) {
    return ErrnoStatus(errno, absl::StrCat("opening ", path));
  }
  if (!S_ISREG(file.st_mode)) {
    return ErrnoStatus(EINVAL, absl::StrCat("opening ", path, ", which is not a regular file"));
  }
  // Another process may hold a lease on it.
  OwnedFd fd(
      open(absl::StrCat("/proc/self/fd/", place.get()).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(errno, absl::StrCat("opening ", path));
  return fd;
}

absl::StatusOr<std::string> AbsolutePath(const std::string& path) {
  char directory[PATH_MAX];
  if (!path.empty() && path[0] == '/') return path;
  if (getcwd(directory, sizeof(directory)) == nullptr) {
    return ErrnoStatus(errno,
                       absl::StrCat("cannot tell the working directory, where '", path, "' is"));
  }
  return absl::StrCat(directory, "/", path);
}

}  // namespace km
