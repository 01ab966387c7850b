#include "km/snapshot/layout.h"

#include <elf.h>
#include <km/layout.h>
#include <km/notes.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "km/base/status.h"

namespace km {
namespace {

uint64_t RoundUp(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

uint32_t SegmentFlags(uint32_t protection) {
  return (protection & PROT_READ ? PF_R : 0) | (protection & PROT_WRITE ? PF_W : 0) |
         (protection & PROT_EXEC ? PF_X : 0);
}

// Makes the segments of one mapping after the other.
class SegmentBuilder {
 public:
  explicit SegmentBuilder(const Image& image) : image_(image) {}

  void Add(const ImageMapping& mapping) {
    segment_ = {.address = mapping.start,
                .flags = SegmentFlags(mapping.protection),
                .object = mapping.object,
                .object_offset = mapping.file_offset};
    const std::vector<ImageBaseMemory>& others = image_.base_memory;
    for (; next_other_ < others.size() && others[next_other_].address < mapping.end;
         ++next_other_) {
      const ImageBaseMemory& other = others[next_other_];
      AddPieces(mapping, other.address);
      EndAt(other.address);
      EndAt(other.address + other.size);
    }
    AddPieces(mapping, mapping.end);
    EndAt(mapping.end);
  }

  std::vector<Segment> Take() { return std::move(segments_); }

 private:
  // The pieces below `end`.
  void AddPieces(const ImageMapping& mapping, uint64_t end) {
    for (; next_ < image_.memory.size() && image_.memory[next_].address < end; ++next_) {
      const ImageMemory& piece = image_.memory[next_];
      const uint64_t end_in_file = segment_.address + segment_.file_size;
      if (piece.address - end_in_file >= kLargePageSize && mapping.start < KM_OBJECT_BASE) {
        EndAt(piece.address);
      }
      segment_.file_size = piece.address + piece.size - segment_.address;
    }
  }

  // The segment ends here, unless it is empty, and the next one begins.
  void EndAt(uint64_t end) {
    segment_.memory_size = end - segment_.address;
    if (segment_.memory_size != 0) segments_.push_back(segment_);
    segment_.address = end;
    segment_.file_size = 0;
  }

  const Image& image_;
  Segment segment_;
  std::vector<Segment> segments_;
  size_t next_ = 0, next_other_ = 0;  // in image_.memory and image_.base_memory
};

absl::Status CheckImage(const std::vector<ImageMapping>& mappings, const Image& image) {
  uint64_t previous_end = 0;
  for (const ImageMapping& mapping : mappings) {
    if (mapping.start < previous_end || mapping.end <= mapping.start ||
        mapping.end > KM_OBJECT_END || (mapping.start | mapping.end) % kPageSize != 0) {
      return absl::InternalError(
          absl::StrFormat("snapshot: mapping %#x-%#x is out of order", mapping.start, mapping.end));
    }
    previous_end = mapping.end;
  }
  size_t next = 0;
  previous_end = 0;
  for (const ImageMemory& piece : image.memory) {
    while (next < mappings.size() && mappings[next].end <= piece.address) ++next;
    if (next == mappings.size() || piece.address < mappings[next].start ||
        mappings[next].object != 0 || IsSharedFile(mappings[next]) ||
        piece.address < previous_end || piece.size == 0 ||
        piece.size > mappings[next].end - piece.address ||
        (piece.address | piece.size) % kPageSize != 0) {
      return absl::InternalError(absl::StrFormat(
          "snapshot: memory at %#x, %u bytes, is in no mapping", piece.address, piece.size));
    }
    previous_end = piece.address + piece.size;
  }
  return absl::OkStatus();
}

}  // namespace

bool IsSharedFile(const ImageMapping& mapping) {
  return (mapping.flags & MAP_SHARED) != 0 && (mapping.flags & MAP_ANONYMOUS) == 0 &&
         mapping.object == 0 && mapping.start < KM_OBJECT_BASE;
}

std::vector<ImageMapping> MappingsAndObjects(const Image& image) {
  std::vector<ImageMapping> all = image.mappings;
  for (const MemoryObject& object : image.objects) {
    if (object.size == 0) continue;
    ImageMapping& mapping = all.emplace_back();
    mapping.start = object.address;
    mapping.end = object.address + RoundUp(object.size, kPageSize);
    mapping.protection = PROT_READ | PROT_WRITE;
    mapping.flags = MAP_SHARED;
  }
  return all;
}

absl::Status CheckBaseMemory(const std::vector<ImageMapping>& mappings, const Image& image) {
  size_t mapping = 0, own = 0;
  uint64_t previous_end = 0;
  for (const ImageBaseMemory& piece : image.base_memory) {
    while (mapping < mappings.size() && mappings[mapping].end <= piece.address) ++mapping;
    bool valid = mapping < mappings.size() && piece.address >= mappings[mapping].start &&
                 piece.address >= previous_end && piece.size != 0 &&
                 piece.size <= mappings[mapping].end - piece.address &&
                 (mappings[mapping].flags & MAP_SHARED) == 0 && piece.base < image.bases.size() &&
                 (piece.address | piece.size | piece.file_offset) % kPageSize == 0;
    if (valid) {
      const uint64_t length = image.bases[piece.base].length;
      while (own < image.memory.size() &&
             image.memory[own].address + image.memory[own].size <= piece.address) {
        ++own;
      }
      valid =
          piece.file_offset <= length && piece.size <= length - piece.file_offset &&
          (own == image.memory.size() || image.memory[own].address >= piece.address + piece.size);
    }
    if (!valid) {
      return absl::DataLossError(
          absl::StrFormat("the memory at %#x, %u bytes, cannot be that of another snapshot",
                          piece.address, piece.size));
    }
    previous_end = piece.address + piece.size;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Segment>> BuildSegments(const Image& image) {
  const std::vector<ImageMapping> mappings = MappingsAndObjects(image);
  KM_RETURN_IF_ERROR(CheckImage(mappings, image));
  KM_RETURN_IF_ERROR(CheckBaseMemory(mappings, image));
  SegmentBuilder builder(image);
  for (const ImageMapping& mapping : mappings) builder.Add(mapping);
  std::vector<Segment> segments = builder.Take();
  if (segments.size() > kMaxSegments) {
    return ErrnoStatus(
        ENOMEM, absl::StrFormat("snapshot: %u segments of memory; an ELF file has room for %u",
                                segments.size(), kMaxSegments));
  }
  return segments;
}

uint64_t PlaceSegments(uint64_t head_size, std::vector<Segment>* segments) {
  uint64_t end = head_size;
  absl::flat_hash_map<uint64_t, const Segment*> by_address;
  for (Segment& segment : *segments) {
    uint64_t offset = RoundUp(end, kPageSize);
    if (segment.file_size >= kLargePageSize) {
      offset += (segment.address - offset) % kLargePageSize;
    }
    // A segment without bytes has an offset too, as in a core of the kernel's: within the file.
    segment.file_offset = segment.file_size == 0 ? RoundUp(head_size, kPageSize) : offset;
    if (segment.file_size != 0) end = offset + segment.file_size;
    if (segment.address >= KM_OBJECT_BASE) by_address[segment.address] = &segment;
  }
  for (Segment& segment : *segments) {
    auto it = by_address.find(segment.object);
    if (segment.object == 0 || it == by_address.end()) continue;
    const Segment& object = *it->second;
    if (segment.object_offset >= object.file_size) continue;
    segment.file_size = std::min(segment.memory_size, object.file_size - segment.object_offset);
    segment.file_offset = object.file_offset + segment.object_offset;
  }
  return end;
}

}  // namespace km
