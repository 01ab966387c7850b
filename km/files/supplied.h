// What whoever resumes supplies in place of what the snapshot's descriptors were open on.
#ifndef KM_FILES_SUPPLIED_H_
#define KM_FILES_SUPPLIED_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "km/base/owned.h"
#include "km/files/file_record.h"

namespace km {

// --fd NUMBER=PATH|fd:M, or the same over the control socket.
struct SuppliedFile {
  uint32_t number = 0;    // a descriptor of the snapshot
  std::string path;       // to open; empty: `fd`
  int fd = -1;            // of the monitor's own
  bool received = false;  // over the control socket; otherwise `fd` is to be inherited
};

// --listen FROM=TO, as they stand there.
struct MovedListener {
  std::string from, to;
};

// Who asks for it, as messages begin: "--fd 3=fd:9", "supply 3".
std::string SuppliedText(const SuppliedFile& supplied);

// "NUMBER=PATH" or "NUMBER=fd:M". Errors are messages for people.
absl::StatusOr<SuppliedFile> ParseSupplied(absl::string_view text);
// "OLD=NEW": HOST:PORT with a numeric host, [HOST]:PORT, :PORT, a path, or @NAME.
absl::StatusOr<MovedListener> ParseMovedListener(absl::string_view text);

// A host descriptor of what is supplied for the description `record`: a path opened with the access
// mode, the flags and the offset of the record, without creating, truncating or waiting; or a
// duplicate of `fd`, which keeps its offset and gets O_APPEND and O_NONBLOCK as the record has
// them. Without a record (0 to 2, when they come from whoever resumes): for reading as 0, otherwise
// for writing. Fails, naming both, where it is not of the record's kind or does not allow the
// access that the record has.
absl::StatusOr<OwnedFd> OpenSupplied(const SuppliedFile& supplied, const FileRecord* record);

// Changes the addresses of the sockets among `records` that `moved` names: listeners, and datagram
// sockets that are not connected. Copies of what is changed go to *changed. Fails where there is
// none at that address, or it cannot be bound to such an address.
absl::Status MoveListeners(absl::Span<const MovedListener> moved,
                           absl::Span<const FileRecord> records, std::vector<FileRecord>* changed);

}  // namespace km

#endif  // KM_FILES_SUPPLIED_H_
