#include "km/files/file_restorer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"

namespace km {

FileRestorer::FileRestorer(FdTable& table, FilePolicy policy, absl::Span<const FileRecord> records,
                           absl::flat_hash_map<uint64_t, OwnedFd>& memory)
    : table_(table), policy_(policy), memory_(memory) {
  for (const FileRecord& record : records) by_id_[record.id].record = &record;
}

absl::Status FileRestorer::RestoreAll(absl::Span<const DescriptorRecord> descriptors,
                                      uint32_t given) {
  table_.AdoptStandard(given);
  for (const DescriptorRecord& from : descriptors) {
    KM_ASSIGN_OR_RETURN(std::shared_ptr<OpenFile> file, Description(from.description));
    // Each descriptor has a host descriptor of its own.
    OwnedFd host(fcntl(file->host.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (!host.valid()) return ErrnoStatus(errno, "cannot duplicate a descriptor");
    const int placed = table_.InstallAt(
        from.number, std::make_shared<OpenFile>(std::move(host), file->description),
        from.close_on_exec);
    if (placed < 0) {
      return ErrnoStatus(-placed, absl::StrCat("cannot have descriptor ", from.number));
    }
  }
  // Those in flight too, which no descriptor names.
  std::vector<uint32_t> ids;
  for (const auto& [id, restored] : by_id_) ids.push_back(id);
  for (uint32_t id : ids) KM_RETURN_IF_ERROR(Description(id).status());
  for (const auto& [id, restored] : by_id_) {
    const FileKindRow& row = KindRow(restored.record->kind);
    if (restored.file == nullptr || row.finish == nullptr) continue;
    KM_RETURN_IF_ERROR(row.finish(*restored.record, *restored.file, *this));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<OpenFile>> FileRestorer::Description(uint32_t id) {
  auto it = by_id_.find(id);
  if (it == by_id_.end()) {
    return absl::DataLossError(absl::StrCat("there is no open file ", id, " in it"));
  }
  if (it->second.file != nullptr) return it->second.file;
  if (std::exchange(it->second.begun, true)) {
    return absl::DataLossError(absl::StrCat("open file ", id, " needs itself"));
  }
  const FileRecord& record = *it->second.record;
  KM_ASSIGN_OR_RETURN(OwnedFd host, KindRow(record.kind).restore(record, *this));
  auto description = std::make_shared<FileDescription>();
  description->kind = record.kind;
  description->path = record.path;
  if (record.kind == FileKind::kGiven) {
    KM_ASSIGN_OR_RETURN(description->given, GivenNumber(record));
    description->kind = KindOfHostFd(host.get());
    description->path = HostPathOf(host.get());
    description->foreign = true;
  }
  return by_id_[id].file = std::make_shared<OpenFile>(std::move(host), std::move(description));
}

absl::StatusOr<int> FileRestorer::Memory(uint64_t address) const {
  auto it = memory_.find(address);
  if (it == memory_.end()) {
    return absl::DataLossError(absl::StrCat("there is no memory object at ", absl::Hex(address)));
  }
  return it->second.get();
}

}  // namespace km
