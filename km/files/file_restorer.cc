#include "km/files/file_restorer.h"

#include <fcntl.h>
#include <mqueue.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "km/base/log.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"
#include "km/files/message_queue.h"
#include "km/files/unnamed_file.h"

namespace km {

FileRestorer::FileRestorer(FdTable& table, const FileOptions& options,
                           absl::Span<const FileRecord> records,
                           absl::flat_hash_map<uint64_t, OwnedFd>& memory)
    : table_(table), options_(options), records_(records), memory_(memory) {
  for (const FileRecord& record : records) by_id_[record.id].record = &record;
}

FileRestorer::~FileRestorer() {
  for (const std::string& name : passing_queues_) mq_unlink(name.c_str());
  for (const std::string& name : made_queues_) mq_unlink(name.c_str());
}

absl::Status FileRestorer::GiveOwner(int host_fd, Owner owner, const std::string& what) {
  constexpr uid_t kSame = -1;
  const uid_t uid = owner.uid == program.uid ? kSame : owner.uid;
  const gid_t gid = owner.gid == program.gid ? kSame : owner.gid;
  if (uid == kSame && gid == kSame) return absl::OkStatus();
  if (fchownat(host_fd, "", uid, gid, AT_EMPTY_PATH) == 0) return absl::OkStatus();
  const std::string text =
      absl::StrCat(what, " belonged to user ", owner.uid, " and group ", owner.gid,
                   ", and cannot be given to them: ", ErrnoStatus(errno, "fchownat").message());
  if (policy() == FilePolicy::kStrict) return absl::FailedPreconditionError(text);
  if (policy() == FilePolicy::kWarn) Warn(text);
  return absl::OkStatus();
}

absl::Status FileRestorer::Supply(absl::Span<const DescriptorRecord> descriptors, uint32_t given) {
  KM_RETURN_IF_ERROR(MoveListeners(options_.moved, records_, &moved_));
  for (const FileRecord& record : moved_) by_id_[record.id].record = &record;
  for (const SuppliedFile& supplied : options_.supplied) {
    KM_RETURN_IF_ERROR(SupplyOne(supplied, descriptors, given));
  }
  CloseInherited();
  return absl::OkStatus();
}

absl::Status FileRestorer::SupplyOne(const SuppliedFile& supplied,
                                     absl::Span<const DescriptorRecord> descriptors,
                                     uint32_t given) {
  const auto it =
      std::find_if(descriptors.begin(), descriptors.end(),
                   [&supplied](const DescriptorRecord& d) { return d.number == supplied.number; });
  Restored* restored = it != descriptors.end() ? &by_id_[it->description] : nullptr;
  const FileRecord* record = restored != nullptr ? restored->record : nullptr;
  const bool standard = restored == nullptr && supplied.number <= STDERR_FILENO &&
                        (given >> supplied.number & 1) != 0;
  if (record == nullptr && !standard) {
    return absl::NotFoundError(
        absl::StrCat(SuppliedText(supplied),
                     ": the snapshot has no such descriptor (kmctl inspect lists them)"));
  }
  OwnedFd* place = standard ? &supplied_given_[supplied.number] : &restored->supplied;
  if (record != nullptr && record->kind == FileKind::kGiven) {
    KM_ASSIGN_OR_RETURN(int number, GivenNumber(*record));
    place = &supplied_given_[static_cast<size_t>(number)];
  }
  if (place->valid()) {
    return absl::InvalidArgumentError(
        absl::StrCat(SuppliedText(supplied), ": that open file is supplied already"));
  }
  KM_ASSIGN_OR_RETURN(*place, OpenSupplied(supplied, record));
  return absl::OkStatus();
}

// What was supplied has been duplicated: nothing else may hold a pipe's end open.
void FileRestorer::CloseInherited() {
  for (const SuppliedFile& supplied : options_.supplied) {
    if (supplied.path.empty() && supplied.fd > STDERR_FILENO) close(supplied.fd);
  }
}

int FileRestorer::Given(int number) const {
  const OwnedFd& supplied = supplied_given_[static_cast<size_t>(number)];
  return supplied.valid() ? supplied.get() : number;
}

absl::Status FileRestorer::AdoptGiven(uint32_t given) {
  for (uint32_t number = 0; number < supplied_given_.size(); ++number) {
    if ((given >> number & 1) == 0 || !supplied_given_[number].valid()) continue;
    given &= ~(1u << number);
    OwnedFd host(fcntl(supplied_given_[number].get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (!host.valid()) return ErrnoStatus(errno, "cannot duplicate a descriptor");
    auto description = std::make_shared<FileDescription>();
    description->kind = KindOfHostFd(host.get());
    description->path = HostPathOf(host.get());
    description->given = static_cast<int>(number);
    description->foreign = true;
    table_.InstallAt(number, std::make_shared<OpenFile>(std::move(host), std::move(description)),
                     false);
  }
  table_.AdoptStandard(given);
  return absl::OkStatus();
}

absl::Status FileRestorer::RestoreAll(absl::Span<const DescriptorRecord> descriptors,
                                      uint32_t given) {
  // What it had open before it lowered its limit it still has.
  const uint64_t limit = table_.limit();
  table_.SetLimit(UINT64_MAX);
  const absl::Cleanup lower = [this, limit] { table_.SetLimit(limit); };
  KM_RETURN_IF_ERROR(AdoptGiven(given));
  const uint64_t most = 2 * descriptors.size();  // pairs are held open meanwhile
  if (most > FdTable::kRoom) FdTable::MakeRoom(most);
  absl::flat_hash_set<uint32_t> placed_once;
  for (const DescriptorRecord& from : descriptors) {
    KM_ASSIGN_OR_RETURN(std::shared_ptr<OpenFile> file, Description(from.description));
    // Each descriptor has a host descriptor of its own, and there may be too few for two.
    if (!placed_once.insert(from.description).second) {
      OwnedFd host(fcntl(file->host.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
      if (!host.valid()) return ErrnoStatus(errno, "cannot duplicate a descriptor");
      file = std::make_shared<OpenFile>(std::move(host), file->description);
    }
    const int placed = table_.InstallAt(from.number, file, from.close_on_exec);
    if (placed < 0) {
      return ErrnoStatus(-placed, absl::StrCat("cannot have descriptor ", from.number));
    }
  }
  // Those in flight too, which no descriptor names.
  std::vector<uint32_t> ids;
  for (const auto& [id, restored] : by_id_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (uint32_t id : ids) KM_RETURN_IF_ERROR(Description(id).status());
  for (const std::function<absl::Status()>& work : made_) KM_RETURN_IF_ERROR(work());
  // What is watched is complete before those that watch.
  KM_RETURN_IF_ERROR(FinishAll(
      ids, [](FileKind kind) { return kind != FileKind::kInotify && kind != FileKind::kEpoll; }));
  for (const std::function<absl::Status()>& work : settle_) KM_RETURN_IF_ERROR(work());
  KM_RETURN_IF_ERROR(FinishAll(ids, [](FileKind kind) { return kind != FileKind::kEpoll; }));
  return FinishAll(ids, [](FileKind) { return true; });
}

absl::Status FileRestorer::FinishAll(const std::vector<uint32_t>& ids,
                                     bool (*of_kind)(FileKind kind)) {
  for (uint32_t id : ids) {
    Restored& restored = by_id_[id];
    if (of_kind(restored.record->kind)) KM_RETURN_IF_ERROR(Finish(restored));
  }
  return absl::OkStatus();
}

void FileRestorer::Warn(const std::string& text) {
  if (warned_.insert(text).second) Log(LogLevel::kWarning, text);
}

absl::Status FileRestorer::Finish(const FileDescription& description) {
  auto it = ids_.find(&description);
  return it != ids_.end() ? Finish(by_id_[it->second]) : absl::OkStatus();
}

absl::Status FileRestorer::Finish(Restored& restored) {
  constexpr int kMostNested = 8;
  const FileKindRow& row = KindRow(restored.record->kind);
  if (restored.file == nullptr || restored.supplied.valid() || row.finish == nullptr ||
      restored.finished) {
    return absl::OkStatus();
  }
  if (finishing_ == kMostNested) {
    return absl::DataLossError("its open files hang on each other more deeply than any can");
  }
  restored.finished = true;
  finishing_++;
  absl::Status status = row.finish(*restored.record, *restored.file, *this);
  finishing_--;
  return status;
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
  const bool supplied = it->second.supplied.valid();
  KM_ASSIGN_OR_RETURN(OwnedFd host, HostFor(it->second));
  auto description = std::make_shared<FileDescription>();
  description->kind = record.kind;
  // A pseudo-terminal gets another name.
  description->path =
      supplied || record.kind == FileKind::kTerminal ? HostPathOf(host.get()) : record.path;
  description->foreign = supplied;
  description->made_anew =
      !supplied && record.kind == FileKind::kRegular && MemoryObjectOf(record) != 0;
  if (!supplied && IsRemovedQueue(record)) {
    description->made_anew = true;
    description->path += " (deleted)";
  }
  if (record.kind == FileKind::kGiven) {
    KM_ASSIGN_OR_RETURN(description->given, GivenNumber(record));
    description->kind = KindOfHostFd(host.get());
    description->path = HostPathOf(host.get());
    description->foreign = true;
  }
  ids_[description.get()] = id;
  return by_id_[id].file = std::make_shared<OpenFile>(std::move(host), std::move(description));
}

absl::StatusOr<OwnedFd> FileRestorer::HostFor(Restored& restored) {
  const FileRecord& record = *restored.record;
  const FileKindRow& row = KindRow(record.kind);
  if (!restored.supplied.valid()) return row.restore(record, *this);
  // What is in a pipe belongs to its other end too.
  if (record.kind == FileKind::kPipe && record.path.empty()) {
    KM_RETURN_IF_ERROR(row.restore(record, *this).status());
  }
  OwnedFd host(fcntl(restored.supplied.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!host.valid()) return ErrnoStatus(errno, "cannot duplicate a descriptor");
  return host;
}

absl::StatusOr<int> FileRestorer::Memory(uint64_t address) const {
  auto it = memory_.find(address);
  if (it == memory_.end()) {
    return absl::DataLossError(absl::StrCat("there is no memory object at ", absl::Hex(address)));
  }
  return it->second.get();
}

}  // namespace km
