// Checksums of a snapshot's memory: XXH3 64 of each chunk. Chunks are what a piece of memory has in
// the file between two addresses that are multiples of 2 MiB.
#ifndef KM_SNAPSHOT_CHECKSUM_H_
#define KM_SNAPSHOT_CHECKSUM_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "km/snapshot/image.h"

namespace km {

// XXH3 64.
uint64_t Checksum(absl::Span<const uint8_t> bytes, uint64_t seed = 0);

// How many chunks the `size` bytes at `address` have. `size` is not 0.
uint64_t ChunkCount(uint64_t address, uint64_t size);

// The bytes that are left of the chunk in which `address` lies, at most `size`.
uint64_t ChunkSize(uint64_t address, uint64_t size);

// Reads the memory of the snapshot in `fd`, all of it, and compares it with image.memory_checksums.
// kDataLoss names the first chunk that differs. The bytes that were read are counted in `*done`.
absl::Status VerifyMemory(int fd, const Image& image, std::atomic<uint64_t>* done = nullptr);

}  // namespace km

#endif  // KM_SNAPSHOT_CHECKSUM_H_
