// Directories, with their position.
#include <fcntl.h>
#include <sys/stat.h>

#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"
#include "km/files/mapped_file.h"
#include "km/files/named_file.h"

namespace km {
namespace {

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), SkipIdentity));
  return std::string();
}

absl::Status Save(const OpenFile& file, FileSaver& /*saver*/, FileRecord& record) {
  record.path = HostPathOf(file.host.get());
  KM_RETURN_IF_ERROR(CheckOutsideProc(file.host.get()));
  if (!HasName(file.host.get(), record.path)) {
    return absl::FailedPreconditionError("was deleted: close it before");
  }
  SaveOffset(file.host.get(), record);
  SaveIdentity(file.host.get(), record);
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer& restorer) {
  // fcntl(F_GETFL) shows O_DIRECTORY, so it stays as it was. Nothing but a directory is opened
  // anyway.
  KM_RETURN_IF_ERROR(OpenPlace(record.path, O_DIRECTORY).status());
  return OpenNamed(record, S_IFDIR, static_cast<int>(record.flags & (O_DIRECTORY | O_NOFOLLOW)),
                   restorer);
}

}  // namespace

const FileKindRow kDirectoryKind = {
    FileKind::kDirectory, "directory", Describe, Save, Restore, nullptr};

}  // namespace km
