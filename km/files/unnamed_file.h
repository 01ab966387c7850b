// Open files without a name, whose contents a snapshot carries as a memory object.
#ifndef KM_FILES_UNNAMED_FILE_H_
#define KM_FILES_UNNAMED_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/base/bytes.h"
#include "km/base/owned.h"
#include "km/files/file_record.h"
#include "km/files/file_restorer.h"
#include "km/files/file_saver.h"

namespace km {

// Makes the file that `host_fd` is open on a memory object, and names it in record.state.
absl::Status SaveMemoryObject(int host_fd, uint32_t kind, const std::string& name, FileSaver& saver,
                              FileRecord& record);
// Whether `tag` is the record that names the object; reads it.
bool ReadMemoryObject(uint32_t tag, ByteReader* value, uint64_t* object);
// The address of the object; 0 when the record names none.
uint64_t MemoryObjectOf(const FileRecord& record);
// A description of the object with the record's flags and offset.
absl::StatusOr<OwnedFd> RestoreMemoryObject(const FileRecord& record, FileRestorer& restorer);

// An empty file for `object`, in which its bytes are then put. Its size is set, its seals are not.
absl::StatusOr<OwnedFd> MakeMemoryObject(const MemoryObject& object);

}  // namespace km

#endif  // KM_FILES_UNNAMED_FILE_H_
