// Memfds, with contents and seals.
#include "absl/strings/strip.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"
#include "km/files/named_file.h"
#include "km/files/unnamed_file.h"

namespace km {
namespace {

constexpr absl::string_view kPrefix = "/memfd:";

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  UnnamedState state;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    return ReadUnnamed(tag, value, &state);
  }));
  if (state.object == 0) return absl::DataLossError("a memfd without its memory");
  return UnnamedText(state);
}

absl::Status Save(const OpenFile& file, FileSaver& saver, FileRecord& record) {
  SaveOffset(file.host.get(), record);
  record.path = HostPathOf(file.host.get());
  absl::string_view name = absl::StripSuffix(record.path, " (deleted)");
  if (!absl::ConsumePrefix(&name, kPrefix)) return absl::InternalError("is no memfd");
  return SaveMemoryObject(file.host.get(), KM_OBJECT_MEMFD, std::string(name), saver, record);
}

}  // namespace

const FileKindRow kMemFdKind = {FileKind::kMemFd,    "memfd",           Describe, Save,
                                RestoreMemoryObject, FinishMemoryObject};

}  // namespace km
