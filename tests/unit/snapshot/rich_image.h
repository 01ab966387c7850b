// An image with something in every field, its memory, and helpers for the tests of the file format.
#ifndef TESTS_UNIT_SNAPSHOT_RICH_IMAGE_H_
#define TESTS_UNIT_SNAPSHOT_RICH_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "km/base/owned.h"
#include "km/snapshot/image.h"
#include "km/snapshot/writer.h"

namespace km {

// Memory of a pretended guest from address kStart on.
class TestMemory {
 public:
  static constexpr uint64_t kStart = 0x10000000;
  static constexpr uint64_t kSize = 0x2000000;

  TestMemory();

  uint8_t* At(uint64_t address) const;
  // Fills `size` bytes with something that depends on `seed`, is nowhere zero, and does not repeat.
  void Fill(uint64_t address, uint64_t size, uint64_t seed) const;
  MemorySource Source() const;

 private:
  OwnedMapping mapping_;
};

// Every field has a value of its own. This image is what the golden files hold, so it must stay as
// it is: fields that come later get an image of their own. The memory is filled to match.
Image RichImage(const TestMemory& memory);

// Compares field by field, but for what WriteSnapshot says it ignores, and file offsets.
void ExpectSameImage(const Image& wanted, const Image& got);

// A directory that is removed with its owner.
class TestDirectory {
 public:
  TestDirectory();
  ~TestDirectory();
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }
  // How many entries there are.
  size_t Count() const;

 private:
  std::string path_;
};

std::vector<uint8_t> ReadFile(const std::string& path);
void WriteFile(const std::string& path, absl::Span<const uint8_t> bytes);
absl::StatusOr<Image> ParseFile(const std::string& path);

// The bytes of the file that WriteSnapshot makes of `image`.
std::vector<uint8_t> SnapshotBytes(const Image& image, const TestMemory& memory);

// Makes the checksums of the header note and of the head right again, and that of each whole note
// of ours behind it when `notes` says so.
void Reseal(std::vector<uint8_t>* file, bool notes);

// Where headers and notes end.
size_t HeadSize(absl::Span<const uint8_t> file);

}  // namespace km

#endif  // TESTS_UNIT_SNAPSHOT_RICH_IMAGE_H_
