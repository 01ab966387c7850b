// Files that a snapshot knows by their names: what they were, and opening them again.
#ifndef KM_FILES_NAMED_FILE_H_
#define KM_FILES_NAMED_FILE_H_

#include <sys/stat.h>

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/base/bytes.h"
#include "km/base/owned.h"
#include "km/files/file_record.h"
#include "km/files/file_restorer.h"

namespace km {

// Where the file is now, or was when it was deleted (then with " (deleted)" behind it).
std::string PathNow(const OpenFile& file);

// Whether `path` now leads to the file that `host_fd` is open on.
bool HasName(int host_fd, const std::string& path);

// Refuses a file below /proc: what it says is of the moment.
absl::Status CheckOutsideProc(int host_fd);

// What is open in `host_fd`; nothing when that is no descriptor.
std::optional<FileIdentity> IdentityOf(int host_fd);
// As it is in a record.
void WriteIdentity(const FileIdentity& identity, ByteWriter* out);
FileIdentity ReadIdentity(ByteReader* value);

// Appends what the file is to record.state (KM_NAMED_IDENTITY).
void SaveIdentity(int host_fd, FileRecord& record);
// Whether `tag` is such a record; reads it.
bool SkipIdentity(uint32_t tag, ByteReader* value);

// An O_PATH descriptor of what has the name now; `flags`: O_NOFOLLOW, O_DIRECTORY. Follows no magic
// link.
absl::StatusOr<OwnedFd> OpenPlace(const std::string& path, uint64_t flags);

// Whether what was opened by record.path is what it was, judged by the restorer's policy.
absl::Status CheckNamed(const FileRecord& record, int host_fd, FileRestorer& restorer);

// The offset of a file or directory into `record`.
void SaveOffset(int host_fd, FileRecord& record);

// Opens `path` anew with `flags`: never creates or truncates, follows no magic link
// (/proc/self/fd/N), does not wait for the other end of a FIFO (O_NONBLOCK is set). The file must
// be of `type` (S_IF*); whether it is the same one as before is judged by the restorer's policy.
absl::StatusOr<OwnedFd> OpenAgain(const std::string& path, uint32_t flags, mode_t type,
                                  const std::optional<FileIdentity>& identity,
                                  FileRestorer& restorer);

// The same for record.path, with what can be kept of its flags, and those of `extra`. Sets flags
// and offset.
absl::StatusOr<OwnedFd> OpenNamed(const FileRecord& record, mode_t type, int extra,
                                  FileRestorer& restorer);

// Opens what `host_fd` is open on once more, as a description of its own, with the access mode and
// the flags of `record`.
absl::StatusOr<OwnedFd> Reopen(int host_fd, const FileRecord& record);

}  // namespace km

#endif  // KM_FILES_NAMED_FILE_H_
