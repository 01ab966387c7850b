#include "tools/kmctl/binfmt.h"

#include <fcntl.h>
#include <km/notes.h>
#include <limits.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "km/base/owned.h"
#include "km/base/status.h"

namespace km {
namespace {

constexpr char kFolder[] = "/proc/sys/fs/binfmt_misc";

absl::Status WriteTo(const std::string& path, absl::string_view text) {
  const OwnedFd file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.valid() && write(file.get(), text.data(), text.size()) >= 0) return absl::OkStatus();
  const int error = errno;
  absl::string_view hint;
  if (error == ENOENT) hint = "; mount it: mount -t binfmt_misc none /proc/sys/fs/binfmt_misc";
  if (error == EACCES) hint = "; this needs root";
  return ErrnoStatus(error, absl::StrCat("writing to ", path, hint));
}

// The km that was installed with this kmctl.
absl::StatusOr<std::string> PathOfKm() {
  char own[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", own, sizeof(own));
  if (length <= 0) return ErrnoStatus(errno, "finding out where kmctl is");
  const absl::string_view path(own, static_cast<size_t>(length));
  std::string km = absl::StrCat(path.substr(0, path.rfind('/')), "/km");
  if (access(km.c_str(), X_OK) != 0) return ErrnoStatus(errno, km);
  // The kernel takes so many bytes, and no colon.
  if (km.size() > 127 || km.find(':') != km.npos) return ErrnoStatus(EINVAL, km);
  return km;
}

}  // namespace

absl::Status RegisterBinfmt() {
  const absl::StatusOr<std::string> km = PathOfKm();
  if (!km.ok()) return km.status();
  if (access(absl::StrCat(kFolder, "/km").c_str(), F_OK) == 0) {
    KM_RETURN_IF_ERROR(UnregisterBinfmt());
  }
  // F: it is opened now, so that a snapshot also runs where this path leads nowhere (a container).
  return WriteTo(
      absl::StrCat(kFolder, "/register"),
      absl::StrCat(":km:M:", KM_SNAPSHOT_MAGIC_OFFSET, ":", KM_SNAPSHOT_MAGIC, "::", *km, ":F"));
}

absl::Status UnregisterBinfmt() { return WriteTo(absl::StrCat(kFolder, "/km"), "-1"); }

}  // namespace km
