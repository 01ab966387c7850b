// Files of the program's own directory in /proc that the monitor makes: a name and a position.
#include "km/files/proc.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "km/base/status.h"
#include "km/files/kind.h"
#include "km/files/named_file.h"

namespace km {

int OpenProcStandIn(int flags) {
  OwnedFd file(memfd_create("proc", MFD_CLOEXEC));
  if (!file.valid()) return -errno;
  int kept = flags & (O_ACCMODE | O_APPEND | O_NONBLOCK);
  int fd = open(absl::StrCat("/proc/self/fd/", file.get()).c_str(), kept | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

namespace {

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  if (!absl::StartsWith(record.path, "/proc/self/") || record.offset < 0) {
    return absl::DataLossError("a file of /proc/self that is not below it");
  }
  return DescribeNothing(record);
}

absl::Status Save(const OpenFile& file, FileSaver& /*saver*/, FileRecord& record) {
  SaveOffset(file.host.get(), record);
  record.path = file.description->path;
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer& /*restorer*/) {
  int fd = OpenProcStandIn(static_cast<int>(record.flags));
  if (fd < 0) return ErrnoStatus(-fd, absl::StrCat("cannot make ", record.path));
  OwnedFd file(fd);
  if (lseek(fd, record.offset, SEEK_SET) < 0) return ErrnoStatus(errno, "cannot seek");
  return file;
}

}  // namespace

const FileKindRow kProcKind = {FileKind::kProc, "file in /proc/self", Describe, Save, Restore,
                               nullptr};

}  // namespace km
