// Open files without a name, whose contents a snapshot carries as a memory object.
#ifndef KM_FILES_UNNAMED_FILE_H_
#define KM_FILES_UNNAMED_FILE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "km/base/bytes.h"
#include "km/base/owned.h"
#include "km/files/file_record.h"
#include "km/files/file_restorer.h"
#include "km/files/file_saver.h"

namespace km {

// What a record says of its file.
struct UnnamedState {
  uint64_t object = 0;           // the address of the memory object; 0: it names none
  std::optional<uint32_t> mode;  // 07777 and less; older files do not say
  Owner owner;                   // with the mode
};

// Makes the file that `host_fd` is open on a memory object, and names it in record.state, with the
// file's mode and owner.
absl::Status SaveMemoryObject(int host_fd, uint32_t kind, const std::string& name, FileSaver& saver,
                              FileRecord& record);
// Whether `tag` is one of the records of such a file; reads it.
bool ReadUnnamed(uint32_t tag, ByteReader* value, UnnamedState* state);
// For people.
std::string UnnamedText(const UnnamedState& state);
UnnamedState UnnamedOf(const FileRecord& record);
uint64_t MemoryObjectOf(const FileRecord& record);
// A description of the object with the record's flags and offset.
absl::StatusOr<OwnedFd> RestoreMemoryObject(const FileRecord& record, FileRestorer& restorer);
// Gives the file its mode and owner back: behind all that opens it, which they may forbid.
absl::Status FinishMemoryObject(const FileRecord& record, const OpenFile& file,
                                FileRestorer& restorer);

// By the addresses of the objects, where it is known.
absl::flat_hash_map<uint64_t, uint32_t> ModesOf(absl::Span<const FileRecord> records);
// An empty file for `object`, in which its bytes are then put. Its size is set, its seals are not.
// Of `mode`, if known, it has the rights of execution, and such as let it be opened again.
absl::StatusOr<OwnedFd> MakeMemoryObject(const MemoryObject& object,
                                         std::optional<uint32_t> mode = std::nullopt);
// Whether the seals are to be put on as soon as it is filled: against F_SEAL_WRITE a mapping of a
// descriptor that is open for writing counts as one that may be written to. Otherwise they come
// behind all that they forbid.
bool SealedBeforeMapped(const MemoryObject& object);
absl::Status SealMemoryObject(const MemoryObject& object, int host_fd);

}  // namespace km

#endif  // KM_FILES_UNNAMED_FILE_H_
