// File -> Image: a pure, bounded parser. It trusts nothing and changes nothing.
#ifndef KM_SNAPSHOT_PARSER_H_
#define KM_SNAPSHOT_PARSER_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "km/snapshot/image.h"

namespace km {

// How many bytes from the start of a file LooksLikeSnapshot wants.
inline constexpr size_t kSnapshotMagicEnd = 120;

// Whether a file that starts with these bytes claims to be a snapshot (of whatever version).
bool LooksLikeSnapshot(absl::Span<const uint8_t> first_bytes);

// Reads headers and notes of the snapshot open in `fd`, never its memory: the time does not depend
// on the file's size. On success these hold, whatever the file's author wanted:
// - every checksum of headers and notes is right (memory is checked by VerifyMemory alone);
// - mappings ascend, do not overlap, are page aligned and end at or below KM_GUEST_END; protection
// is
//   PROT_READ|WRITE|EXEC at most; flags have one of MAP_SHARED and MAP_PRIVATE;
// - memory ascends, does not overlap, is page aligned (address, size, file_offset), each piece lies
//   within one mapping and within the file; base_memory is as CheckBaseMemory wants it, and bases
//   have absolute paths; working_set ascends, ends at or below KM_GUEST_END, and is of 512 pages at
//   most;
// - there is a thread; tids are unique and not 0; one pid; descriptors are unique and below 2^20,
// and
//   name descriptions that exist; strings hold no NUL; comm has at most 15 bytes; auxv ends with
//   AT_NULL;
// - each xsave is in standard format, 576 to 65,536 bytes, with no component outside header.xcr0.
// Nothing is said of any other number: addresses in registers and elsewhere may be nonsense.
// The message of an error names what is wrong, without the file's name.
absl::StatusOr<Image> ParseSnapshot(int fd);

// What the header of the snapshot open in `fd` says, and no more: for looking which one it is.
absl::StatusOr<ImageHeader> ParseSnapshotHeader(int fd);

// The same as ParseSnapshot(fd) for a file of `file_size` bytes whose first bytes are `head` (as
// far as the program headers).
absl::StatusOr<Image> ParseSnapshot(absl::Span<const uint8_t> head, uint64_t file_size);

}  // namespace km

#endif  // KM_SNAPSHOT_PARSER_H_
