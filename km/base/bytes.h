// Bounded reading and writing of little-endian, fixed-width fields, and of tag-length-value
// records: u32 tag, u32 length of the value in bytes, the value, zeros up to a multiple of eight.
#ifndef KM_BASE_BYTES_H_
#define KM_BASE_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace km {

// Appends to a buffer of its own. Not thread-safe.
class ByteWriter {
 public:
  void U8(uint8_t value) { Little(value, 1); }
  void U32(uint32_t value) { Little(value, 4); }
  void U64(uint64_t value) { Little(value, 8); }
  void I64(int64_t value) { U64(static_cast<uint64_t>(value)); }
  void Bytes(absl::Span<const uint8_t> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  // The characters alone: neither length nor NUL.
  void Text(absl::string_view text) { bytes_.insert(bytes_.end(), text.begin(), text.end()); }
  // u32 length and the characters.
  void CountedText(absl::string_view text);
  void Zeros(size_t count) { bytes_.resize(bytes_.size() + count); }
  // Zeros up to a multiple of `alignment`.
  void Align(size_t alignment);

  // Starts a record; what is written until EndRecord(its result) is the value.
  size_t BeginRecord(uint32_t tag);
  void EndRecord(size_t begin);
  void TextRecord(uint32_t tag, absl::string_view text);
  void U64Record(uint32_t tag, uint64_t value);

  // Overwrite bytes written before.
  void Patch(size_t position, absl::Span<const uint8_t> bytes);
  void PatchU32(size_t position, uint32_t value);
  void PatchU64(size_t position, uint64_t value);

  size_t size() const { return bytes_.size(); }
  absl::Span<const uint8_t> span() const { return bytes_; }
  std::vector<uint8_t> Take() { return std::move(bytes_); }

 private:
  void Little(uint64_t value, int width);

  std::vector<uint8_t> bytes_;
};

// Reads from bytes that it does not own. A read past the end yields zeros or nothing, and makes
// ok() false for good, so a sequence of reads is checked once at its end. Not thread-safe.
class ByteReader {
 public:
  ByteReader() = default;
  explicit ByteReader(absl::Span<const uint8_t> bytes) : rest_(bytes) {}

  uint8_t U8() { return static_cast<uint8_t>(Little(1)); }
  uint32_t U32() { return static_cast<uint32_t>(Little(4)); }
  uint64_t U64() { return Little(8); }
  int64_t I64() { return static_cast<int64_t>(Little(8)); }
  absl::Span<const uint8_t> Bytes(uint64_t count);
  // u32 length and the characters.
  absl::string_view CountedText();
  // All that is left, as characters.
  absl::string_view Text();

  // Reads one record; `value` is limited to it. False at the end and when the record does not fit:
  // ok() tells the two apart.
  bool Record(uint32_t* tag, ByteReader* value);

  bool ok() const { return ok_; }
  bool empty() const { return rest_.empty(); }
  absl::Span<const uint8_t> rest() const { return rest_; }

 private:
  uint64_t Little(size_t width);

  absl::Span<const uint8_t> rest_;
  bool ok_ = true;
};

}  // namespace km

#endif  // KM_BASE_BYTES_H_
