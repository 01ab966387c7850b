// libFuzzer target: the parser of snapshots, and kmctl's description of what it accepts.
//
// `make fuzz` builds and runs it, with tests/snapshot/golden/* as its seed.
//
// Checksums are made right first: with wrong ones every input would end at the same line.
#include <cstdint>
#include <cstring>
#include <vector>

#include "km/base/bytes.h"
#include "km/snapshot/checksum.h"
#include "km/snapshot/layout.h"
#include "km/snapshot/parser.h"

namespace {

using km::ByteReader;
using km::Checksum;

constexpr size_t kHeaderDescriptor = 80;  // docs/snapshot-format.md
constexpr size_t kHeadChecksum = 128;
constexpr size_t kFileLength = 184;  // where km writes it; it may be elsewhere

uint64_t Number(absl::Span<const uint8_t> bytes, size_t at, size_t width) {
  ByteReader reader(bytes.subspan(at, width));
  uint64_t value = 0;
  for (size_t i = 0; i < width; ++i) value |= uint64_t{reader.U8()} << (8 * i);
  return value;
}

void Seal(std::vector<uint8_t>* file) {
  if (file->size() < kHeadChecksum + 8) return;
  const absl::Span<uint8_t> bytes = absl::MakeSpan(*file);
  const uint64_t header_end = kHeaderDescriptor + Number(bytes, 68, 4);
  const uint64_t headers = Number(bytes, 32, 8);
  const uint64_t headers_size = Number(bytes, 56, 2) * 56;
  if (header_end < kHeadChecksum || headers > file->size() ||
      headers_size > file->size() - headers || header_end > headers) {
    return;
  }
  const uint64_t length = file->size();
  if (header_end >= kFileLength + 8) std::memcpy(&bytes[kFileLength], &length, 8);
  for (size_t at = header_end; at + 20 < headers;) {
    const uint64_t descriptor = at + 12 + (Number(bytes, at, 4) + 3) / 4 * 4;
    const uint64_t size = Number(bytes, at + 4, 4);
    if (descriptor > headers || size > headers - descriptor) break;
    if (std::memcmp(&bytes[at + 12], "KM", 3) == 0 && size >= 24) {
      const uint64_t checksum = Checksum(bytes.subspan(descriptor + 8, size - 8));
      std::memcpy(&bytes[descriptor], &checksum, 8);
    }
    at = descriptor + (size + 3) / 4 * 4;
  }
  const uint64_t of_head = Checksum(bytes.subspan(header_end, headers + headers_size - header_end),
                                    Checksum(bytes.first(64)));
  std::memcpy(&bytes[kHeadChecksum], &of_head, 8);
  const uint64_t of_header =
      Checksum(bytes.subspan(kHeaderDescriptor + 8, header_end - kHeaderDescriptor - 8));
  std::memcpy(&bytes[kHeaderDescriptor], &of_header, 8);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> file(data, data + size);
  km::ParseSnapshot(file, file.size()).IgnoreError();
  Seal(&file);
  const absl::StatusOr<km::Image> image = km::ParseSnapshot(file, file.size());
  // What the parser accepts can be laid out again: it keeps its promises.
  if (image.ok() && !km::BuildSegments(*image).ok()) __builtin_trap();
  return 0;
}
