#if defined(__GNUC__) && !defined(__clang__)
// At -O2, and so in Debian's library, GCC leaves out what hides the memory's latency: half the
// speed.
#pragma GCC optimize("O3")
#endif

#include "km/snapshot/checksum.h"

#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "absl/strings/str_format.h"
#include "km/base/status.h"
#include "km/snapshot/layout.h"

namespace km {
namespace {

absl::Status ReadAll(int fd, absl::Span<uint8_t> bytes, uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t count = pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, absl::StrFormat("reading at offset %u", offset));
    if (count == 0) return absl::DataLossError(absl::StrFormat("ends at offset %u", offset));
    bytes.remove_prefix(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t Checksum(absl::Span<const uint8_t> bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

uint64_t ChunkCount(uint64_t address, uint64_t size) {
  return (address + size - 1) / kLargePageSize - address / kLargePageSize + 1;
}

uint64_t ChunkSize(uint64_t address, uint64_t size) {
  return std::min(size, kLargePageSize - address % kLargePageSize);
}

absl::Status VerifyMemory(int fd, const Image& image, std::atomic<uint64_t>* done) {
  std::vector<uint8_t> buffer(kLargePageSize);
  size_t chunk = 0;
  for (const ImageMemory& piece : image.memory) {
    for (uint64_t at = 0; at < piece.size; ++chunk) {
      const uint64_t size = ChunkSize(piece.address + at, piece.size - at);
      const absl::Span<uint8_t> bytes(buffer.data(), size);
      KM_RETURN_IF_ERROR(ReadAll(fd, bytes, piece.file_offset + at));
      if (chunk >= image.memory_checksums.size() ||
          Checksum(bytes) != image.memory_checksums[chunk]) {
        return absl::DataLossError(
            absl::StrFormat("memory at %#x-%#x (file offset %#x) is damaged: its checksum is wrong",
                            piece.address + at, piece.address + at + size, piece.file_offset + at));
      }
      at += size;
      if (done != nullptr) *done += size;
    }
  }
  return absl::OkStatus();
}

}  // namespace km
