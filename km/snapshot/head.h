// The head of the file: ELF header, notes, program headers, and the checksum over all three.
#ifndef KM_SNAPSHOT_HEAD_H_
#define KM_SNAPSHOT_HEAD_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "km/snapshot/image.h"
#include "km/snapshot/layout.h"
#include "km/snapshot/notes.h"

namespace km {

// What is only known when the memory is written.
struct MemoryFacts {
  std::vector<uint64_t> checksums;
  std::vector<uint64_t> working_set;  // entries as in the file, 0 for those that are not used
  uint64_t file_length = 0;
};

// All bytes before the first segment's. Their number depends on `image`, and on how many segments,
// checksums and entries there are, not on their values.
std::vector<uint8_t> EncodeHead(const Image& image, absl::Span<const Segment> segments,
                                const MemoryFacts& facts);

// Decodes the header note, whose own checksum alone is looked at: says which snapshot this is.
absl::StatusOr<HeaderNote> DecodeHeader(absl::Span<const uint8_t> head);

// Checks that `head` starts with a whole and undamaged head of a snapshot that this km can read,
// and decodes the header note. Nothing else in `head` may be used before this.
absl::StatusOr<HeaderNote> CheckHead(absl::Span<const uint8_t> head);

}  // namespace km

#endif  // KM_SNAPSHOT_HEAD_H_
