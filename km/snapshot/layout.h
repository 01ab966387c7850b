// Which bytes of memory go where in the file. Headers and data both derive from the one list.
#ifndef KM_SNAPSHOT_LAYOUT_H_
#define KM_SNAPSHOT_LAYOUT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/memory/guest_addr.h"
#include "km/snapshot/image.h"

namespace km {

// More program headers than 65,534 need PN_XNUM, which not every tool knows.
inline constexpr size_t kMaxSegments = 65000;

// One PT_LOAD. What lies between file_size and memory_size reads as zeros, or is a shared file's.
struct Segment {
  uint64_t address = 0;
  uint64_t memory_size = 0;
  uint64_t file_size = 0;
  uint64_t file_offset = 0;
  uint32_t flags = 0;  // PF_*
  // Of a mapping of a memory object: shares the bytes of that object's segment, from object_offset.
  uint64_t object = 0, object_offset = 0;
};

// Whether the mapping is one of MAP_SHARED of a file that a resume opens by its name: its bytes are
// that file's, and a snapshot has none of them.
bool IsSharedFile(const ImageMapping& mapping);

// The mappings of `image` and behind them, as one mapping each, its memory objects.
std::vector<ImageMapping> MappingsAndObjects(const Image& image);

// The segments of `image`, ascending, without offsets. A segment never crosses the border of a
// mapping; pieces of one mapping that are less than 2 MiB apart become one, with a hole in the file
// between them; a memory object is one in any case; memory of a base is one, without bytes.
// kInternal when mappings or memory are not as image.h says, kResourceExhausted (ENOMEM) for too
// many.
absl::StatusOr<std::vector<Segment>> BuildSegments(const Image& image);

// Whether image.base_memory is as image.h says: ascending, aligned, each piece within one private
// mapping and within its base, none overlapping a piece of image.memory. `mappings` are those of
// MappingsAndObjects.
absl::Status CheckBaseMemory(const std::vector<ImageMapping>& mappings, const Image& image);

// Gives every segment its place behind the first `head_size` bytes, and returns the file's length.
// Segments with 2 MiB and more in the file lie at offsets that agree with their addresses modulo 2
// MiB, so that the page cache holds them in large folios and a guest can map them with 2 MiB
// entries.
uint64_t PlaceSegments(uint64_t head_size, std::vector<Segment>* segments);

}  // namespace km

#endif  // KM_SNAPSHOT_LAYOUT_H_
