// What is written is what is read.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include <cstring>

#include "km/snapshot/checksum.h"
#include "km/snapshot/parser.h"
#include "km/snapshot/writer.h"
#include "tests/unit/snapshot/rich_image.h"

namespace km {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kLarge = 2 << 20;

// The piece's bytes in the file are those of memory.
void ExpectMemory(absl::Span<const uint8_t> file, const ImageMemory& piece,
                  const TestMemory& memory) {
  ASSERT_LE(piece.file_offset + piece.size, file.size());
  EXPECT_EQ(std::memcmp(file.data() + piece.file_offset, memory.At(piece.address), piece.size), 0);
}

class RoundTrip : public testing::Test {
 protected:
  // Writes `image`, reads it back, and checks memory and checksums.
  absl::StatusOr<Image> Trip(const Image& image, const MemorySource& source) {
    const std::string path = directory_.File("kmsnap");
    if (absl::Status status = WriteSnapshot(image, source, path, {}); !status.ok()) return status;
    absl::StatusOr<Image> back = ParseFile(path);
    if (!back.ok()) return back;
    file_ = ReadFile(path);
    EXPECT_EQ(back->header.format_version, 1u);
    for (const ImageMemory& piece : back->memory) {
      EXPECT_EQ(piece.file_offset % kPage, 0u);
      EXPECT_EQ(piece.size < kLarge ? 0 : (piece.file_offset - piece.address) % kLarge, 0u);
    }
    const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(VerifyMemory(fd.get(), *back), absl::OkStatus());
    return back;
  }

  TestDirectory directory_;
  TestMemory memory_;
  std::vector<uint8_t> file_;
};

TEST_F(RoundTrip, EveryField) {
  const Image image = RichImage(memory_);
  const absl::StatusOr<Image> back = Trip(image, memory_.Source());
  ASSERT_TRUE(back.ok()) << back.status();
  ExpectSameImage(image, *back);
  for (const ImageMemory& piece : back->memory) ExpectMemory(file_, piece, memory_);
}

TEST_F(RoundTrip, ASecondTimeWithUnknownNotes) {
  Image image = RichImage(memory_);
  image.dynamic_linker.reset();
  // An optional note of ours from the future, and one of another owner.
  std::vector<uint8_t> descriptor(40);
  descriptor[8] = 9;   // version
  descriptor[12] = 9;  // minimum reader
  descriptor[30] = 0x55;
  const uint64_t checksum = Checksum(absl::MakeSpan(descriptor).subspan(8));
  std::memcpy(descriptor.data(), &checksum, sizeof(checksum));
  image.unknown_notes = {{"KM", 0x4b4d0fff, descriptor}, {"ELSE", 77, {1, 2, 3}}};
  absl::StatusOr<Image> back = Trip(image, memory_.Source());
  ASSERT_TRUE(back.ok()) << back.status();
  back = Trip(*back, memory_.Source());
  ASSERT_TRUE(back.ok()) << back.status();
  ExpectSameImage(image, *back);
}

TEST_F(RoundTrip, WhatABlockedCallHasDone) {
  Image image = RichImage(memory_);
  image.threads[0].blocked_call->done = 123456789012;
  const absl::StatusOr<Image> back = Trip(image, memory_.Source());
  ASSERT_TRUE(back.ok()) << back.status();
  ExpectSameImage(image, *back);
}

TEST_F(RoundTrip, TimersAndProcessorTime) {
  Image image = RichImage(memory_);
  image.process.timers = {
      {-1, CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGALRM, 0, 0, true, false, false, INT64_MAX, 20000, 0},
      {7, -42, SIGEV_THREAD_ID, 64, UINT64_MAX, 9, false, true, true, 5, 0, INT64_MAX},
      {8, CLOCK_TAI, SIGEV_NONE, 0, 0, 0, true, false, false, 0, 0, 0}};
  image.process.next_timer_id = INT32_MAX;
  image.process.cpu_time = {5000, 3000};
  image.threads[0].cpu_time = {4000, 2000};
  const absl::StatusOr<Image> back = Trip(image, memory_.Source());
  ASSERT_TRUE(back.ok()) << back.status();
  ExpectSameImage(image, *back);
  const std::vector<ImageTimer>& timers = back->process.timers;
  ASSERT_EQ(timers.size(), 3u);
  for (size_t i = 0; i < timers.size(); ++i) {
    const ImageTimer& wanted = image.process.timers[i];
    EXPECT_EQ(timers[i].id, wanted.id);
    EXPECT_EQ(timers[i].clock, wanted.clock);
    EXPECT_EQ(timers[i].notify, wanted.notify);
    EXPECT_EQ(timers[i].signal, wanted.signal);
    EXPECT_EQ(timers[i].value, wanted.value);
    EXPECT_EQ(timers[i].tid, wanted.tid);
    EXPECT_EQ(timers[i].armed, wanted.armed);
    EXPECT_EQ(timers[i].waiting, wanted.waiting);
    EXPECT_EQ(timers[i].monotonic, wanted.monotonic);
    EXPECT_EQ(timers[i].expiry_ns, wanted.expiry_ns);
    EXPECT_EQ(timers[i].interval_ns, wanted.interval_ns);
    EXPECT_EQ(timers[i].overrun, wanted.overrun);
  }
  EXPECT_EQ(back->process.next_timer_id, INT32_MAX);
  EXPECT_EQ(back->process.cpu_time.total_ns, 5000);
  EXPECT_EQ(back->process.cpu_time.user_ns, 3000);
  EXPECT_EQ(back->threads[0].cpu_time.total_ns, 4000);
  EXPECT_EQ(back->threads[0].cpu_time.user_ns, 2000);
}

TEST_F(RoundTrip, WhatASharedFileWas) {
  Image image = RichImage(memory_);
  const size_t last = image.mappings.size() - 1;
  image.mappings[last].identity = FileIdentity{1, 2, UINT64_MAX, INT64_MIN, 999999999};
  const absl::StatusOr<Image> back = Trip(image, memory_.Source());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->mappings[last].identity, image.mappings[last].identity);
  EXPECT_FALSE(back->mappings[0].identity.has_value());
}

TEST_F(RoundTrip, ImpossibleTimers) {
  for (const ImageTimer& bad :
       {ImageTimer{.id = -4, .notify = SIGEV_NONE}, ImageTimer{.notify = SIGEV_SIGNAL},
        ImageTimer{.notify = SIGEV_SIGNAL, .signal = 65}, ImageTimer{.notify = 99, .signal = 1},
        ImageTimer{.notify = SIGEV_NONE, .expiry_ns = -1},
        ImageTimer{.notify = SIGEV_NONE, .interval_ns = -1},
        ImageTimer{.notify = SIGEV_NONE, .overrun = -1}}) {
    Image image = RichImage(memory_);
    image.process.timers = {bad};
    EXPECT_FALSE(Trip(image, memory_.Source()).ok());
  }
  Image image = RichImage(memory_);
  image.process.timers = {ImageTimer{.notify = SIGEV_NONE}, ImageTimer{.notify = SIGEV_NONE}};
  EXPECT_FALSE(Trip(image, memory_.Source()).ok());
}

TEST_F(RoundTrip, LargeSegmentsAndPiecesThatAreClose) {
  Image image = RichImage(memory_);
  const uint64_t start = TestMemory::kStart + 0x400000;
  image.mappings = {{start, start + 0xc00000, 3, 0x22, "", 0}};
  // Every other page of the first 3 MiB, then a gap of more than 2 MiB, then one page.
  image.memory.clear();
  for (uint64_t at = kPage; at < 0x300000; at += 2 * kPage) {
    image.memory.push_back({start + at, kPage, 0});
    memory_.Fill(start + at, kPage, at);
  }
  image.memory.push_back({start + 0x800000, kPage, 0});
  memory_.Fill(start + 0x800000, kPage, 5);
  // Not in the image, so it is not in the file.
  memory_.Fill(start, kPage, 6);
  absl::StatusOr<Image> back = Trip(image, memory_.Source());
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ(back->memory.size(), 2u);
  EXPECT_EQ(back->memory[0].address, start);
  EXPECT_EQ(back->memory[0].size, 0x300000u);
  std::memset(memory_.At(start), 0, kPage);
  for (const ImageMemory& piece : back->memory) ExpectMemory(file_, piece, memory_);
}

TEST_F(RoundTrip, MemoryThatCannotBeRead) {
  Image image = RichImage(memory_);
  MemorySource source = memory_.Source();
  const uint64_t hidden = TestMemory::kStart + kPage;
  source.unreadable = {{hidden, hidden + kPage}};
  ASSERT_EQ(mprotect(memory_.At(hidden), kPage, PROT_NONE), 0);
  const absl::StatusOr<Image> back = Trip(image, source);
  ASSERT_EQ(mprotect(memory_.At(hidden), kPage, PROT_READ | PROT_WRITE), 0);
  ASSERT_TRUE(back.ok()) << back.status();
  for (const ImageMemory& piece : back->memory) ExpectMemory(file_, piece, memory_);
}

TEST_F(RoundTrip, NoMemoryAtAll) {
  Image image = RichImage(memory_);
  image.memory.clear();
  image.mappings.clear();
  image.descriptors.clear();
  image.descriptions.clear();
  image.locks.clear();
  image.owners.clear();
  const absl::StatusOr<Image> back = Trip(image, memory_.Source());
  ASSERT_TRUE(back.ok()) << back.status();
  ExpectSameImage(image, *back);
}

// AMX's state is not in the file unless it is in use.
TEST_F(RoundTrip, XsaveWithoutUnusedTiles) {
  Image image = RichImage(memory_);
  image.header.xcr0 = 0x600e7;
  for (ImageThread& thread : image.threads) thread.xsave.resize(11008);
  constexpr uint64_t kAll = 0x600e7;
  std::memcpy(image.threads[1].xsave.data() + 512, &kAll, sizeof(kAll));
  const absl::StatusOr<Image> back = Trip(image, memory_.Source());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->threads[0].xsave.size(), 2688u);
  EXPECT_EQ(back->threads[0].xsave[464], 0xe7);
  EXPECT_EQ(back->threads[0].xsave[466], 0);
  EXPECT_EQ(back->threads[1].xsave.size(), 11008u);
  EXPECT_EQ(back->threads[1].xsave[466], 6);
}

}  // namespace
}  // namespace km
