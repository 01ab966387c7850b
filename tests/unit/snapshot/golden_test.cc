// Every version of the format that was ever written is read for ever.
//
// tests/snapshot/golden/version-1.kmsnap was written from RichImage by the library of that version:
//   build/unit_tests --gtest_also_run_disabled_tests --gtest_filter=Golden.DISABLED_Write
// A new version gets a new file; an old one is never written again.
#include <fcntl.h>
#include <gtest/gtest.h>

#include "km/snapshot/checksum.h"
#include "km/snapshot/parser.h"
#include "km/snapshot/writer.h"
#include "tests/unit/snapshot/rich_image.h"

namespace km {
namespace {

constexpr char kVersion1[] = "tests/snapshot/golden/version-1.kmsnap";

TEST(Golden, Version1) {
  const TestMemory memory;
  const absl::StatusOr<Image> image = ParseFile(kVersion1);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->header.format_version, 1u);
  Image wanted = RichImage(memory);
  // Records that came later.
  wanted.locks.clear();
  wanted.owners.clear();
  ExpectSameImage(wanted, *image);
  const OwnedFd fd(open(kVersion1, O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(VerifyMemory(fd.get(), *image), absl::OkStatus());
}

TEST(Golden, DISABLED_Write) {
  const TestMemory memory;
  EXPECT_EQ(WriteSnapshot(RichImage(memory), memory.Source(), kVersion1, {}), absl::OkStatus());
}

}  // namespace
}  // namespace km
