// O_PATH descriptors: a place, by its name.
#include <fcntl.h>
#include <sys/stat.h>

#include "absl/strings/match.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"
#include "km/files/named_file.h"

namespace km {
namespace {

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), SkipIdentity));
  return std::string();
}

absl::Status Save(const OpenFile& file, FileSaver& /*saver*/, FileRecord& record) {
  const int host = file.host.get();
  record.path = HostPathOf(host);
  // A symbolic link is meant itself.
  struct stat by_descriptor, by_path;
  if (fstat(host, &by_descriptor) != 0 || lstat(record.path.c_str(), &by_path) != 0 ||
      by_descriptor.st_ino != by_path.st_ino || by_descriptor.st_dev != by_path.st_dev) {
    return absl::FailedPreconditionError("has no name any more: close it before");
  }
  if (absl::StartsWith(file.description->path, "/proc/")) {
    return absl::FailedPreconditionError("leads into /proc: close it before");
  }
  SaveIdentity(host, record);
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer& restorer) {
  KM_ASSIGN_OR_RETURN(OwnedFd host,
                      OpenPlace(record.path, record.flags & (O_DIRECTORY | O_NOFOLLOW)));
  KM_RETURN_IF_ERROR(CheckNamed(record, host.get(), restorer));
  return host;
}

}  // namespace

const FileKindRow kPathKind = {FileKind::kPath, "O_PATH descriptor", Describe, Save, Restore,
                               nullptr};

}  // namespace km
