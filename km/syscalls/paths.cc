#include "km/syscalls/paths.h"

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "km/syscalls/proc_path.h"

namespace km {

int CopyPath(const Call& call, int guest_dirfd, GuestAddr address, HostPath* out) {
  if (int error = call.memory().CopyInString(&out->path, address, PATH_MAX); error != 0) {
    return error;
  }
  bool absolute = !out->path.empty() && out->path[0] == '/';
  if (absolute || guest_dirfd == AT_FDCWD) return 0;
  out->directory = call.process.files().Get(static_cast<uint32_t>(guest_dirfd));
  if (out->directory == nullptr) return -EBADF;
  out->dirfd = out->directory->host.get();
  return 0;
}

int PathArg(const Call& call, int guest_dirfd, size_t i, LastLink last, HostPath* out) {
  if (int error = CopyPath(call, guest_dirfd, call.Addr(i), out); error != 0) return error;
  if (!MayLeadToProc(*out)) return 0;
  ProcPath target;
  if (int error = WalkPath(call.process, *out, last, &target); error != 0) return error;
  switch (target.kind) {
    case ProcPath::Kind::kOrdinary:
      out->path = target.path;
      break;
    case ProcPath::Kind::kOwn:
      out->path = absl::StrCat("/proc/self/", target.path);
      break;
    case ProcPath::Kind::kDescriptor:
      out->directory = call.process.files().Get(target.fd);
      if (out->directory == nullptr) return -ENOENT;
      out->path = absl::StrCat("/proc/self/fd/", out->directory->host.get());
      break;
  }
  out->dirfd = AT_FDCWD;
  return 0;
}

}  // namespace km
