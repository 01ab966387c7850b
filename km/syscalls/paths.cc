#include "km/syscalls/paths.h"

#include <cerrno>

namespace km {

int CopyPath(const Call& call, int guest_dirfd, GuestAddr address, HostPath* out) {
  if (int error = call.memory().CopyInString(&out->path, address, PATH_MAX); error != 0) {
    return error;
  }
  bool absolute = !out->path.empty() && out->path[0] == '/';
  return absolute ? 0 : DirectoryOf(call, guest_dirfd, out);
}

int DirectoryOf(const Call& call, int guest_dirfd, HostPath* out) {
  if (guest_dirfd == AT_FDCWD) return 0;
  out->directory = call.process.files().Get(static_cast<uint32_t>(guest_dirfd));
  if (out->directory == nullptr) return -EBADF;
  out->dirfd = out->directory->host.get();
  return 0;
}

}  // namespace km
