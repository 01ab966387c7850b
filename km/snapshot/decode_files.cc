// Decoding of NT_KM_FILES: descriptors and what they are open on. Its bytes are hostile.
#include <km/notes.h>
#include <signal.h>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_format.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/kind.h"
#include "km/files/unnamed_file.h"
#include "km/snapshot/notes.h"

namespace km {
namespace {

constexpr uint32_t kMaxDescriptor = 1 << 20;

FileRecord DecodeDescription(uint32_t tag, ByteReader* value) {
  FileRecord description;
  description.id = value->U32();
  if (tag == KM_FILES_OBJECT) description.kind = static_cast<FileKind>(value->U32());
  description.flags = value->U32();
  if (tag == KM_FILES_OBJECT) value->U32();
  description.offset = value->I64();
  description.path = std::string(value->CountedText());
  if (tag == KM_FILES_OBJECT) {
    const absl::Span<const uint8_t> state = value->Bytes(value->U32());
    description.state.assign(state.begin(), state.end());
  }
  return description;
}

LockRecord DecodeLock(ByteReader* value) {
  LockRecord lock;
  lock.description = value->U32();
  lock.kind = value->U32();
  lock.exclusive = value->U32() != 0;
  value->U32();
  lock.start = value->I64();
  lock.length = value->I64();
  return lock;
}

OwnerRecord DecodeOwner(ByteReader* value) {
  OwnerRecord owner;
  owner.description = value->U32();
  owner.type = value->U32();
  owner.thread = value->U32();
  owner.signal = value->U32();
  owner.notify = value->U32();
  owner.async = value->U32() != 0;
  return owner;
}

absl::Status CheckDescription(const FileRecord& description) {
  KM_RETURN_IF_ERROR(CheckText("path", description.path, kMaxPath));
  // A name is not taken from whatever directory it is opened in.
  const bool named = description.kind == FileKind::kDirectory ||
                     description.kind == FileKind::kPath ||
                     description.kind == FileKind::kCharacterDevice ||
                     (description.kind == FileKind::kRegular && MemoryObjectOf(description) == 0);
  if (named ? description.path.empty() || description.path[0] != '/'
            : description.kind == FileKind::kPipe && !description.path.empty() &&
                  description.path[0] != '/') {
    return absl::DataLossError(absl::StrFormat("open file %u has the path '%s', which is not whole",
                                               description.id, description.path));
  }
  const FileKindRow& row = KindRow(description.kind);
  if (row.restore == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrFormat("open file %u is of kind %u, which this km does not know", description.id,
                        description.kind));
  }
  const absl::Status status = row.describe(description).status();
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrFormat("open file %u, a %s: %s", description.id,
                                                     row.name, status.message()));
}

}  // namespace

absl::Status DecodeFiles(ByteReader records, Image* image) {
  KM_RETURN_IF_ERROR(ForEachRecord(records, [&](uint32_t tag, ByteReader* value) {
    if (tag == KM_FILES_GIVEN) {
      image->given = value->U32();
    } else if (tag == KM_FILES_DESCRIPTION || tag == KM_FILES_OBJECT) {
      image->descriptions.push_back(DecodeDescription(tag, value));
    } else if (tag == KM_FILES_DESCRIPTOR) {
      DescriptorRecord& descriptor = image->descriptors.emplace_back();
      descriptor.number = value->U32();
      descriptor.description = value->U32();
      descriptor.close_on_exec = (value->U32() & KM_FILES_CLOSE_ON_EXEC) != 0;
    } else if (tag == KM_FILES_LOCK) {
      image->locks.push_back(DecodeLock(value));
    } else if (tag == KM_FILES_TERMINAL) {
      TerminalRecord& terminal = image->terminal.emplace();
      terminal.launched = ReadSettings(value);
      terminal.now = ReadSettings(value);
      terminal.window = ReadWindow(value);
    } else if (tag == KM_FILES_OWNER) {
      image->owners.push_back(DecodeOwner(value));
    } else {
      return false;
    }
    return true;
  }));
  absl::flat_hash_set<uint32_t> ids, numbers;
  for (const FileRecord& description : image->descriptions) {
    KM_RETURN_IF_ERROR(CheckDescription(description));
    if (!ids.insert(description.id).second) {
      return absl::DataLossError(absl::StrFormat("two descriptions %u", description.id));
    }
  }
  for (const DescriptorRecord& descriptor : image->descriptors) {
    if (descriptor.number >= kMaxDescriptor || !ids.contains(descriptor.description) ||
        !numbers.insert(descriptor.number).second) {
      return absl::DataLossError(
          absl::StrFormat("descriptor %u is impossible, there twice, or has no description %u",
                          descriptor.number, descriptor.description));
    }
  }
  absl::flat_hash_set<uint32_t> used;
  for (const DescriptorRecord& descriptor : image->descriptors) used.insert(descriptor.description);
  for (const LockRecord& lock : image->locks) {
    if (!used.contains(lock.description) || lock.kind < KM_LOCK_POSIX ||
        lock.kind > KM_LOCK_LEASE) {
      return absl::DataLossError(absl::StrFormat(
          "a lock of kind %u on open file %u, which it cannot be", lock.kind, lock.description));
    }
  }
  for (const OwnerRecord& owner : image->owners) {
    const bool thread = owner.type == KM_OWNER_THREAD;
    if (!used.contains(owner.description) || owner.type > KM_OWNER_THREAD ||
        thread != (owner.thread != 0) || owner.signal >= NSIG) {
      return absl::DataLossError(
          absl::StrFormat("open file %u has an owner of type %u and signal %u, which cannot be",
                          owner.description, owner.type, owner.signal));
    }
  }
  return absl::OkStatus();
}

}  // namespace km
