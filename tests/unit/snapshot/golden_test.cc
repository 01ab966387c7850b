// Every version of the format that was ever written is read for ever.
//
// tests/snapshot/golden/version-1.kmsnap was written from RichImage by the library of that version:
//   build/unit_tests --gtest_also_run_disabled_tests --gtest_filter=Golden.DISABLED_Write
// open-files-1.kmsnap, likewise from KindSamples, has an open file of each kind that there was
// then; working-set-1.kmsnap the note NT_KM_WORKING_SET. A new version gets a new file; an old one
// is never written again.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "km/files/kind.h"
#include "km/snapshot/checksum.h"
#include "km/snapshot/parser.h"
#include "km/snapshot/writer.h"
#include "tests/unit/snapshot/kind_samples.h"
#include "tests/unit/snapshot/rich_image.h"

namespace km {
namespace {

constexpr char kVersion1[] = "tests/snapshot/golden/version-1.kmsnap";
constexpr char kOpenFiles1[] = "tests/snapshot/golden/open-files-1.kmsnap";
constexpr char kWorkingSet1[] = "tests/snapshot/golden/working-set-1.kmsnap";

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

// One description of each kind of open file that there was, and what is said of it.
TEST(Golden, OpenFiles1) {
  const absl::StatusOr<Image> image = ParseFile(kOpenFiles1);
  ASSERT_TRUE(image.ok()) << image.status();
  const std::pair<const char*, const char*> kWanted[] = {
      {"regular file /file", ""},
      {"directory /directory", ""},
      {"pipe ", "pipe 1, 4 of 4096 bytes in it"},
      {"socket ", "UNIX stream, one of a pair at /tmp/socket (7), 1 messages in it"},
      {"character device /dev/null", "device 1:3"},
      {"eventfd ", "count 5, semaphore"},
      {"epoll instance ", "watches 105 106"},
      {"timerfd ", "clock 1, 3 unread, in 10.000000500 s, every 1.000000000 s"},
      {"signalfd ", "mask 0x200"},
      {"inotify instance ", "watch 1 of '/tmp'"},
      {"memfd ", "its contents at 650000000000"},
      {"O_PATH descriptor /place", ""},
      {"given descriptor ", "what whoever resumes has as descriptor 2"},
      {"file in /proc/self /proc/self/maps", ""},
      {"pidfd ", ""},
      {"POSIX message queue /queue",
       "queue 1, 1 of 10 messages of up to 100 bytes, tells of the next message"},
      {"terminal ", "master, 80x24, by lines, 7 bytes for the slave, 6 for the master"},
  };
  ASSERT_EQ(image->descriptors.size(), std::size(kWanted));
  for (size_t i = 0; i < std::size(kWanted); ++i) {
    const FileRecord& record = image->descriptions[i];
    const FileKindRow& row = KindRow(record.kind);
    EXPECT_EQ(absl::StrCat(row.name, " ", record.path), kWanted[i].first);
    const absl::StatusOr<std::string> text = row.describe(record);
    ASSERT_TRUE(text.ok()) << text.status();
    EXPECT_EQ(*text, kWanted[i].second) << row.name;
    EXPECT_EQ(image->descriptors[i].number, 100 + record.id);
    EXPECT_EQ(image->descriptors[i].description, record.id);
  }
}

TEST(Golden, WorkingSet1) {
  const absl::StatusOr<Image> image = ParseFile(kWorkingSet1);
  ASSERT_TRUE(image.ok()) << image.status();
  ASSERT_EQ(image->working_set.size(), 2);
  EXPECT_EQ(image->working_set[0].start, 0x10000000);
  EXPECT_EQ(image->working_set[0].end, 0x10002000);
  EXPECT_EQ(image->working_set[1].start, 0x10003000);
  EXPECT_EQ(image->working_set[1].end, 0x10004000);
}

TEST(Golden, DISABLED_WriteWorkingSet) {
  const TestMemory memory;
  Image image = RichImage(memory);
  image.working_set = {{0x10000000, 0x10002000}, {0x10003000, 0x10004000}};
  EXPECT_EQ(WriteSnapshot(image, memory.Source(), kWorkingSet1, {}), absl::OkStatus());
}

TEST(Golden, DISABLED_WriteOpenFiles) {
  const TestMemory memory;
  Image image = RichImage(memory);
  image.locks.clear();
  image.owners.clear();
  image.descriptors.clear();
  image.descriptions = KindSamples();
  for (const FileRecord& record : image.descriptions) {
    image.descriptors.push_back({100 + record.id, record.id, false});
  }
  image.objects = {{KM_OBJECT_BASE, 100, KM_OBJECT_MEMFD, 0, "object"}};
  EXPECT_EQ(WriteSnapshot(image, memory.Source(), kOpenFiles1, {}), absl::OkStatus());
}

TEST(Golden, DISABLED_Write) {
  const TestMemory memory;
  EXPECT_EQ(WriteSnapshot(RichImage(memory), memory.Source(), kVersion1, {}), absl::OkStatus());
}

}  // namespace
}  // namespace km
