// Regular files: with a name by their names, deleted ones and O_TMPFILEs with their contents.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"
#include "km/files/mapped_file.h"
#include "km/files/named_file.h"
#include "km/files/unnamed_file.h"

namespace km {
namespace {

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  UnnamedState state;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    return SkipIdentity(tag, value) || ReadUnnamed(tag, value, &state);
  }));
  return state.object == 0 ? "" : absl::StrCat("deleted, with ", UnnamedText(state));
}

absl::Status Save(const OpenFile& file, FileSaver& saver, FileRecord& record) {
  const int host = file.host.get();
  SaveOffset(host, record);
  KM_RETURN_IF_ERROR(CheckOutsideProc(host));
  // The name it has now: it may have been renamed since it was opened.
  record.path = PathNow(file);
  if (HasName(host, record.path)) {
    SaveIdentity(host, record);
    return absl::OkStatus();
  }
  return SaveMemoryObject(host, KM_OBJECT_DELETED_FILE,
                          std::string(absl::StripSuffix(record.path, " (deleted)")), saver, record);
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer& restorer) {
  if (MemoryObjectOf(record) != 0) return RestoreMemoryObject(record, restorer);
  return OpenNamed(record, S_IFREG, static_cast<int>(record.flags & O_NOFOLLOW), restorer);
}

}  // namespace

const FileKindRow kRegularKind = {FileKind::kRegular, "regular file", Describe, Save, Restore,
                                  FinishMemoryObject};

}  // namespace km
