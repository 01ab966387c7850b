#include "km/base/bytes.h"

#include <algorithm>

namespace km {
namespace {
constexpr size_t kRecordAlignment = 8;
}

void ByteWriter::Little(uint64_t value, int width) {
  for (int i = 0; i < width; ++i) bytes_.push_back(static_cast<uint8_t>(value >> (8 * i)));
}

void ByteWriter::CountedText(absl::string_view text) {
  U32(static_cast<uint32_t>(text.size()));
  Text(text);
}

void ByteWriter::Align(size_t alignment) {
  Zeros((alignment - bytes_.size() % alignment) % alignment);
}

size_t ByteWriter::BeginRecord(uint32_t tag) {
  U32(tag);
  U32(0);
  return bytes_.size();
}

void ByteWriter::EndRecord(size_t begin) {
  PatchU32(begin - 4, static_cast<uint32_t>(bytes_.size() - begin));
  // Records start at multiples of eight of a note's descriptor, so padding by the value's own size
  // and by the position in the descriptor are the same.
  Zeros((kRecordAlignment - (bytes_.size() - begin) % kRecordAlignment) % kRecordAlignment);
}

void ByteWriter::TextRecord(uint32_t tag, absl::string_view text) {
  const size_t record = BeginRecord(tag);
  Text(text);
  EndRecord(record);
}

void ByteWriter::U64Record(uint32_t tag, uint64_t value) {
  const size_t record = BeginRecord(tag);
  U64(value);
  EndRecord(record);
}

void ByteWriter::Patch(size_t position, absl::Span<const uint8_t> bytes) {
  std::copy(bytes.begin(), bytes.end(), bytes_.begin() + static_cast<ptrdiff_t>(position));
}

void ByteWriter::PatchU32(size_t position, uint32_t value) {
  for (size_t i = 0; i < 4; ++i) bytes_.at(position + i) = static_cast<uint8_t>(value >> (8 * i));
}

void ByteWriter::PatchU64(size_t position, uint64_t value) {
  PatchU32(position, static_cast<uint32_t>(value));
  PatchU32(position + 4, static_cast<uint32_t>(value >> 32));
}

uint64_t ByteReader::Little(size_t width) {
  uint64_t value = 0;
  const absl::Span<const uint8_t> bytes = Bytes(width);
  for (size_t i = 0; i < bytes.size(); ++i) value |= uint64_t{bytes[i]} << (8 * i);
  return value;
}

absl::Span<const uint8_t> ByteReader::Bytes(uint64_t count) {
  if (count > rest_.size()) {
    ok_ = false;
    rest_ = {};
    return {};
  }
  const absl::Span<const uint8_t> bytes = rest_.first(count);
  rest_.remove_prefix(count);
  return bytes;
}

absl::string_view ByteReader::CountedText() {
  const uint32_t size = U32();
  const absl::Span<const uint8_t> bytes = Bytes(size);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

absl::string_view ByteReader::Text() {
  const absl::Span<const uint8_t> bytes = Bytes(rest_.size());
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool ByteReader::Record(uint32_t* tag, ByteReader* value) {
  if (empty()) return false;
  *tag = U32();
  const uint32_t length = U32();
  *value = ByteReader(Bytes(length));
  // 64-bit arithmetic: the padding of a value of 2^32-1 bytes must not wrap.
  Bytes((kRecordAlignment - uint64_t{length} % kRecordAlignment) % kRecordAlignment);
  return ok_;
}

}  // namespace km
