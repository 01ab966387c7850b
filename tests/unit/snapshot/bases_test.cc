// Snapshots that have some of their memory in others.
#include "km/snapshot/bases.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "km/snapshot/checksum.h"
#include "km/snapshot/parser.h"
#include "km/snapshot/writer.h"
#include "tests/unit/snapshot/rich_image.h"

namespace km {
namespace {

using testing::HasSubstr;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kStart = TestMemory::kStart;

class Bases : public testing::Test {
 protected:
  // A base with 16 pages, and a snapshot on it that has pages 4 and 5 itself.
  void SetUp() override {
    base_.header.id[0] = 7;
    base_.mappings = {{kStart, kStart + 16 * kPage, 3, 0x22, "", 0}};
    base_.memory = {{kStart, 16 * kPage, 0}};
    memory_.Fill(kStart, 16 * kPage, 1);
    const std::string path = directory_.File("base");
    ASSERT_EQ(WriteSnapshot(base_, memory_.Source(), path, {.sync = false}), absl::OkStatus());
    const absl::StatusOr<Image> back = ParseFile(path);
    ASSERT_TRUE(back.ok()) << back.status();
    image_ = base_;
    image_.header.id[0] = 8;
    image_.bases = {{base_.header.id, ReadFile(path).size(), path}};
    const uint64_t offset = back->memory[0].file_offset;
    image_.memory = {{kStart + 4 * kPage, 2 * kPage, 0}};
    image_.base_memory = {{kStart, 4 * kPage, offset, 0},
                          {kStart + 6 * kPage, 10 * kPage, offset + 6 * kPage, 0}};
    memory_.Fill(kStart + 4 * kPage, 2 * kPage, 99);
  }

  absl::StatusOr<Image> Write() {
    const std::string path = directory_.File("on_base");
    if (absl::Status status = WriteSnapshot(image_, memory_.Source(), path, {.sync = false});
        !status.ok()) {
      return status;
    }
    return ParseFile(path);
  }

  std::string Refused() { return std::string(Write().status().message()); }

  TestDirectory directory_;
  TestMemory memory_;
  Image base_ = RichImage(memory_), image_;
};

TEST_F(Bases, ComeBack) {
  const absl::StatusOr<Image> back = Write();
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ(back->bases.size(), 1u);
  EXPECT_EQ(back->bases[0].id, base_.header.id);
  EXPECT_EQ(back->bases[0].path, image_.bases[0].path);
  ASSERT_EQ(back->base_memory.size(), 2u);
  EXPECT_EQ(back->base_memory[1].address, kStart + 6 * kPage);
  EXPECT_EQ(back->base_memory[1].file_offset, image_.base_memory[1].file_offset);
  ASSERT_EQ(back->memory.size(), 1u);
  EXPECT_EQ(back->memory[0].size, 2 * kPage);
}

TEST_F(Bases, ImpossiblePiecesAreRefused) {
  const std::vector<ImageBaseMemory> good = image_.base_memory;
  const auto with = [&](ImageBaseMemory piece) {
    image_.base_memory = good;
    image_.base_memory[1] = piece;
    return Refused();
  };
  const uint64_t at = kStart + 6 * kPage, length = image_.bases[0].length;
  EXPECT_THAT(with({at, 10 * kPage, 0, 1}), HasSubstr("another snapshot"));       // no such base
  EXPECT_THAT(with({at, 11 * kPage, 0, 0}), HasSubstr("another snapshot"));       // too long
  EXPECT_THAT(with({at, 0, 0, 0}), HasSubstr("another snapshot"));                // nothing
  EXPECT_THAT(with({at, 10 * kPage, 8, 0}), HasSubstr("another snapshot"));       // misaligned
  EXPECT_THAT(with({at, 10 * kPage, -kPage, 0}), HasSubstr("another snapshot"));  // overflows
  EXPECT_THAT(with({at, kPage, length / kPage * kPage, 0}),
              HasSubstr("another"));  // behind its end
  EXPECT_THAT(with({at - kPage, 10 * kPage, 0, 0}), HasSubstr("another snapshot"));  // overlaps
  EXPECT_THAT(with({kStart, 10 * kPage, 0, 0}), HasSubstr("another snapshot"));  // not ascending
  EXPECT_THAT(with({1 << 20, kPage, 0, 0}), HasSubstr("another snapshot"));      // no mapping
  image_.base_memory = good;
  image_.mappings[0].flags = 0x21;  // shared
  EXPECT_THAT(Refused(), HasSubstr("another snapshot"));
}

TEST_F(Bases, PathsAreAbsolute) {
  image_.bases[0].path = "base";
  EXPECT_THAT(Refused(), HasSubstr("not absolute"));
  image_.bases[0].path.clear();
  EXPECT_THAT(Refused(), HasSubstr("not absolute"));
}

TEST_F(Bases, OnlyThatFileWillDo) {
  const SnapshotFile& base = image_.bases[0];
  EXPECT_TRUE(OpenBase(base, "/").ok());
  SnapshotFile other = base;
  other.id[1] = 1;
  EXPECT_THAT(std::string(OpenBase(other, "/").status().message()), HasSubstr("written anew"));
  ASSERT_EQ(truncate(base.path.c_str(), 4096), 0);
  EXPECT_THAT(std::string(OpenBase(base, "/").status().message()), HasSubstr("written anew"));
  SnapshotFile shorter = base;
  shorter.length = 10;
  ASSERT_EQ(truncate(base.path.c_str(), 10), 0);
  EXPECT_THAT(std::string(OpenBase(shorter, "/").status().message()),
              HasSubstr("not a km snapshot"));
  ASSERT_EQ(unlink(base.path.c_str()), 0);
  EXPECT_THAT(std::string(OpenBase(base, "/").status().message()), HasSubstr("is missing"));
  ASSERT_EQ(mkfifo(base.path.c_str(), 0600), 0);
  EXPECT_THAT(std::string(OpenBase(base, "/").status().message()), HasSubstr("not a regular file"));
  SnapshotFile terminal = base;
  terminal.path = "/dev/ptmx";
  EXPECT_THAT(std::string(OpenBase(terminal, "/").status().message()),
              HasSubstr("/dev/ptmx, which is not a regular file"));
}

// What a file says of its header is not believed beyond its own length.
TEST_F(Bases, AHeaderLongerThanTheFile) {
  const std::string& path = image_.bases[0].path;
  std::vector<uint8_t> file = ReadFile(path);
  const uint32_t size = (512 << 20) - 8;
  std::memcpy(file.data() + 68, &size, sizeof(size));
  WriteFile(path, file);
  EXPECT_THAT(std::string(OpenBase(image_.bases[0], "/").status().message()),
              HasSubstr("header is too long"));
}

TEST_F(Bases, AreFoundBesideTheSnapshot) {
  image_.bases[0].path = "/nowhere/at/all/base";
  const absl::StatusOr<Image> back = Write();
  ASSERT_TRUE(back.ok()) << back.status();
  const OwnedFd fd(open(directory_.File("on_base").c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(OpenBases(*back, fd.get()).ok());
}

TEST_F(Bases, Merge) {
  absl::StatusOr<Image> image = Write();
  ASSERT_TRUE(image.ok()) << image.status();
  const std::string path = directory_.File("merged");
  {
    const OwnedFd fd(open(directory_.File("on_base").c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(MergeSnapshot(*std::move(image), fd.get(), path), absl::OkStatus());
  }
  ASSERT_EQ(unlink(image_.bases[0].path.c_str()), 0);
  const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const absl::StatusOr<Image> merged = ParseSnapshot(fd.get());
  ASSERT_TRUE(merged.ok()) << merged.status();
  EXPECT_TRUE(merged->bases.empty());
  EXPECT_NE(merged->header.id, image_.header.id);
  EXPECT_EQ(VerifyMemory(fd.get(), *merged), absl::OkStatus());
  ASSERT_EQ(merged->memory.size(), 1u);
  const std::vector<uint8_t> file = ReadFile(path);
  EXPECT_EQ(
      std::memcmp(file.data() + merged->memory[0].file_offset, memory_.At(kStart), 16 * kPage), 0);
}

}  // namespace
}  // namespace km
