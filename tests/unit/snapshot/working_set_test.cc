// Pages that a resume copies ahead.
#include "km/snapshot/working_set.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "km/snapshot/notes.h"
#include "km/snapshot/parser.h"
#include "km/snapshot/writer.h"
#include "tests/unit/snapshot/rich_image.h"

namespace km {

// For what the tests print and compare; found by its namespace.
bool operator==(const AddressRange& a, const AddressRange& b) {
  return a.start == b.start && a.end == b.end;
}

namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kStart = TestMemory::kStart;

// Pages [first, last) of the test's memory.
AddressRange Pages(uint64_t first, uint64_t last) {
  return {kStart + first * kPage, kStart + last * kPage};
}

Image ImageOf(const TestMemory& memory, uint64_t pages) {
  Image image = RichImage(memory);
  image.mappings = {{kStart, kStart + pages * kPage, 3, 0x22, "", 0}};
  image.memory = {{kStart, pages * kPage, 0}};
  image.objects.clear();
  memory.Fill(kStart, pages * kPage, 1);
  return image;
}

TEST(WorkingSet, UnionJoinsWhatTouches) {
  EXPECT_THAT(Union({}, {}), IsEmpty());
  EXPECT_THAT(Union({Pages(1, 2)}, {}), ElementsAre(Pages(1, 2)));
  EXPECT_THAT(Union({Pages(1, 3), Pages(6, 7)}, {Pages(0, 1), Pages(2, 4), Pages(9, 10)}),
              ElementsAre(Pages(0, 4), Pages(6, 7), Pages(9, 10)));
  EXPECT_THAT(Union({Pages(0, 9)}, {Pages(1, 2), Pages(3, 4)}), ElementsAre(Pages(0, 9)));
}

TEST(WorkingSet, TooManyPagesAreNone) {
  EXPECT_EQ(WorkingSetEntries({Pages(0, kMaxWorkingSetPages)}).size(), 1);
  EXPECT_THAT(WorkingSetEntries({Pages(0, kMaxWorkingSetPages), Pages(1000, 1001)}), IsEmpty());
}

TEST(WorkingSet, ComesBackFromAFile) {
  const TestMemory memory;
  const TestDirectory directory;
  Image image = ImageOf(memory, 64);
  image.working_set = {Pages(0, 1), Pages(3, 9), Pages(63, 64)};
  ASSERT_EQ(WriteSnapshot(image, memory.Source(), directory.File("file"), {.sync = false}),
            absl::OkStatus());
  const absl::StatusOr<Image> back = ParseFile(directory.File("file"));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_THAT(back->working_set, ElementsAre(Pages(0, 1), Pages(3, 9), Pages(63, 64)));
  EXPECT_THAT(back->unknown_notes, testing::SizeIs(image.unknown_notes.size()));
}

OwnedFd Pagemap() { return OwnedFd(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)); }

// The writer is a copy of the process, as LiveWriter makes it; this one goes on writing.
TEST(WorkingSet, IsWhatTheProcessWritesBehindItsCopy) {
  const TestMemory memory;
  const TestDirectory directory;
  Image image = ImageOf(memory, 64);
  image.working_set = {Pages(40, 41)};  // known before
  absl::StatusOr<TouchedPages> running = TouchedPages::Open(memory.Source().window, Pagemap());
  ASSERT_TRUE(running.ok()) << running.status();
  int go[2];
  ASSERT_EQ(pipe(go), 0);
  const pid_t child = fork();
  if (child == 0) {
    char byte;
    close(go[1]);
    if (read(go[0], &byte, 1) != 0) _exit(1);
    _exit(WriteSnapshot(image, memory.Source(), directory.File("file"),
                        {.sync = false, .running = &*running})
                  .ok()
              ? 0
              : 2);
  }
  for (const uint64_t page : {2, 3, 17}) memory.Fill(kStart + page * kPage, kPage, 99);
  close(go[1]);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  close(go[0]);
  ASSERT_EQ(status, 0);
  const absl::StatusOr<Image> back = ParseFile(directory.File("file"));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_THAT(back->working_set, ElementsAre(Pages(2, 4), Pages(17, 18), Pages(40, 41)));
}

TEST(WorkingSet, OfAProcessThatWritesTooMuchIsWhatItWroteFirst) {
  const TestMemory memory;
  const Image image = ImageOf(memory, 2 * kMaxWorkingSetPages);
  absl::StatusOr<TouchedPages> running = TouchedPages::Open(memory.Source().window, Pagemap());
  ASSERT_TRUE(running.ok()) << running.status();
  int first[2], second[2];
  ASSERT_TRUE(pipe(first) == 0 && pipe(second) == 0);
  const pid_t child = fork();
  if (child == 0) {
    char byte;
    close(first[1]);
    close(second[0]);
    WorkingSetWatch watch(image, *running);
    if (read(first[0], &byte, 1) != 1) _exit(1);
    usleep(20'000);  // it does not look before
    watch.LookNowAndThen();
    if (write(second[1], "", 1) != 1 || read(first[0], &byte, 1) != 0) _exit(2);
    const std::vector<AddressRange> set = watch.Finish();
    _exit(set.size() == 1 && set[0] == Pages(5, 6) ? 0 : 3);
  }
  char byte;
  close(first[0]);
  close(second[1]);
  memory.Fill(kStart + 5 * kPage, kPage, 99);
  ASSERT_EQ(write(first[1], "", 1), 1);
  ASSERT_EQ(read(second[0], &byte, 1), 1);
  memory.Fill(kStart, 2 * kMaxWorkingSetPages * kPage, 99);
  close(first[1]);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  close(second[0]);
  EXPECT_EQ(status, 0);
}

class HostileWorkingSet : public testing::Test {
 protected:
  static absl::Status Decode(const std::vector<uint64_t>& entries, Image* image) {
    ByteWriter out;
    const size_t record = out.BeginRecord(KM_WORKING_SET_PAGES);
    for (const uint64_t entry : entries) out.U64(entry);
    out.EndRecord(record);
    return DecodeWorkingSet(ByteReader(out.span()), image);
  }

  static void Refused(const std::vector<uint64_t>& entries) {
    Image image;
    EXPECT_THAT(std::string(Decode(entries, &image).message()), HasSubstr("not in order"));
    EXPECT_LE(image.working_set.size(), kMaxWorkingSetPages + 1);
  }
};

TEST_F(HostileWorkingSet, IsRefused) {
  Image image;
  EXPECT_EQ(Decode({kStart | 1, 0, (kStart + kPage) | 2, 0, 0}, &image), absl::OkStatus());
  EXPECT_THAT(image.working_set, ElementsAre(Pages(0, 1), Pages(1, 3)));
  Refused({kStart});                            // no page
  Refused({kStart | 2, (kStart + kPage) | 1});  // overlaps
  Refused({(kStart + kPage) | 1, kStart | 1});  // backwards
  Refused({(KM_OBJECT_BASE - kPage) | 2});
  Refused({KM_OBJECT_BASE | 1});                  // no memory of the program's
  Refused({~uint64_t{0}});                        // its end would be beyond 2^64
  Refused({kStart | (kMaxWorkingSetPages + 1)});  // too many
  std::vector<uint64_t> many;
  for (uint64_t i = 0; i < 100'000; ++i) many.push_back((kStart + i * kPage) | 1);
  Refused(many);
}

TEST_F(HostileWorkingSet, ACutEntryIsTooShort) {
  ByteWriter out;
  const size_t record = out.BeginRecord(KM_WORKING_SET_PAGES);
  out.U64(kStart | 1);
  out.U32(7);
  out.EndRecord(record);
  Image image;
  EXPECT_THAT(std::string(DecodeWorkingSet(ByteReader(out.span()), &image).message()),
              HasSubstr("too short"));
}

}  // namespace
}  // namespace km
