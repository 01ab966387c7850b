// Open files of every kind and memory objects in the file: out and back, and what is refused. The
// writer reads its own head as a reader would, so a record that no reader may accept is not
// written.
#include <elf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <km/layout.h>
#include <km/notes.h>
#include <sys/mman.h>

#include "km/base/bytes.h"
#include "km/snapshot/checksum.h"
#include "km/snapshot/parser.h"
#include "km/snapshot/writer.h"
#include "tests/unit/snapshot/rich_image.h"

namespace km {
namespace {

using testing::HasSubstr;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kObject = KM_OBJECT_BASE + 0x400000, kEmpty = KM_OBJECT_BASE + 0x800000;

// Records of u32s.
std::vector<uint8_t> State(std::vector<std::pair<uint32_t, uint32_t>> records) {
  ByteWriter out;
  for (const auto& [tag, value] : records) {
    const size_t begin = out.BeginRecord(tag);
    out.U32(value);
    out.EndRecord(begin);
  }
  return out.Take();
}

std::vector<uint8_t> ObjectState(uint64_t address) {
  ByteWriter out;
  out.U64Record(KM_UNNAMED_OBJECT, address);
  return out.Take();
}

// Of a master whose slave reads by bytes.
std::vector<uint8_t> TerminalState(const std::string& rest, const std::string& output,
                                   uint32_t stop = 0) {
  ByteWriter out;
  size_t begin = out.BeginRecord(KM_TERMINAL_WHAT);
  out.U32(KM_TERMINAL_IS_MASTER);
  out.U32(0);
  out.EndRecord(begin);
  begin = out.BeginRecord(KM_TERMINAL_STATE);
  for (uint32_t word : {KM_TERMINAL_PACKET, stop, 0620u, 0u}) out.U32(word);
  out.EndRecord(begin);
  out.TextRecord(KM_TERMINAL_REST, rest);
  out.TextRecord(KM_TERMINAL_OUTPUT, output);
  return out.Take();
}

class OpenFiles : public testing::Test {
 protected:
  OpenFiles() {
    image_.given = 5;
    image_.objects = {{kObject, kPage + 100, KM_OBJECT_MEMFD, F_SEAL_GROW, "numbers"},
                      {kEmpty, 0, KM_OBJECT_DELETED_FILE, 0, "/tmp/gone"}};
    image_.memory.push_back({kObject, 2 * kPage, 0});
    for (size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<uint8_t>(i * 7 + 1);
    ImageMapping mapping = image_.mappings.back();
    mapping.start = mapping.end + 16 * kPage;
    mapping.end = mapping.start + 4 * kPage;
    mapping.flags = MAP_SHARED;
    mapping.name = "/memfd:numbers (deleted)";
    mapping.file_offset = kPage;
    mapping.object = kObject;
    image_.mappings.push_back(mapping);
    image_.descriptions.push_back({20, FileKind::kDirectory, O_DIRECTORY, 77, "/var", {}});
    image_.descriptions.push_back(
        {21, FileKind::kPipe, O_RDONLY, 0, "", State({{KM_PIPE_OBJECT, 1}, {KM_PIPE_SIZE, 4096}})});
    image_.descriptions.push_back({22, FileKind::kMemFd, O_RDWR, 3, "", ObjectState(kObject)});
    image_.descriptions.push_back({23, FileKind::kRegular, O_RDWR, 0, "", ObjectState(kEmpty)});
    image_.descriptions.push_back(
        {24, FileKind::kGiven, O_RDWR, 0, "", State({{KM_GIVEN_NUMBER, 2}})});
    image_.descriptions.push_back(
        {25, FileKind::kTerminal, O_RDWR, 0, "/dev/ptmx", TerminalState("rest", "output")});
    image_.descriptors.push_back({30, 21, true});
    image_.terminal = TerminalRecord{};
    image_.terminal->now.local = 0x8a3b;
    image_.terminal->now.characters[18] = 77;
    image_.terminal->window = {24, 80, 1, 65535};
  }

  FileRecord& Record(uint32_t id) {
    for (FileRecord& record : image_.descriptions) {
      if (record.id == id) return record;
    }
    ADD_FAILURE() << id;
    return image_.descriptions[0];
  }

  MemorySource Source() {
    MemorySource source = memory_.Source();
    source.objects = {{kObject, reinterpret_cast<const std::byte*>(bytes_.data())}};
    return source;
  }

  // What the writer says of the image as it is now.
  std::string Refusal() {
    const std::string path = directory_.File("refused");
    const absl::Status status = WriteSnapshot(image_, Source(), path, {});
    EXPECT_EQ(open(path.c_str(), O_RDONLY | O_CLOEXEC), -1);
    return std::string(status.message());
  }

  TestDirectory directory_;
  TestMemory memory_;
  std::vector<uint8_t> bytes_ = std::vector<uint8_t>(2 * kPage);
  Image image_ = RichImage(memory_);
};

TEST_F(OpenFiles, OutAndBack) {
  const std::string path = directory_.File("kmsnap");
  ASSERT_EQ(WriteSnapshot(image_, Source(), path, {}), absl::OkStatus());
  const absl::StatusOr<Image> back = ParseFile(path);
  ASSERT_TRUE(back.ok()) << back.status();
  ExpectSameImage(image_, *back);
  const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(VerifyMemory(fd.get(), *back), absl::OkStatus());
  const ImageMemory& piece = back->memory.back();
  EXPECT_EQ(piece.address, kObject);
  const std::vector<uint8_t> file = ReadFile(path);
  EXPECT_TRUE(std::equal(bytes_.begin(), bytes_.end(),
                         file.begin() + static_cast<ptrdiff_t>(piece.file_offset)));
}

TEST_F(OpenFiles, WhatIsMappedOfAnObjectIsShownAtItsAddressToo) {
  const std::vector<uint8_t> file = [&] {
    const std::string path = directory_.File("kmsnap");
    EXPECT_EQ(WriteSnapshot(image_, Source(), path, {}), absl::OkStatus());
    return ReadFile(path);
  }();
  Elf64_Ehdr header;
  memcpy(&header, file.data(), sizeof(header));
  uint64_t object_offset = 0, mapped_offset = 0, mapped_size = 0;
  for (size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr load;
    memcpy(&load, file.data() + header.e_phoff + i * sizeof(load), sizeof(load));
    if (load.p_vaddr == kObject) object_offset = load.p_offset;
    if (load.p_vaddr != image_.mappings.back().start) continue;
    mapped_offset = load.p_offset;
    mapped_size = load.p_filesz;
    EXPECT_EQ(load.p_memsz, 4 * kPage);
  }
  EXPECT_NE(object_offset, 0u);
  EXPECT_EQ(mapped_offset, object_offset + kPage);
  EXPECT_EQ(mapped_size, kPage);
}

TEST_F(OpenFiles, AKindOfTheFuture) {
  Record(21).kind = static_cast<FileKind>(4711);
  EXPECT_THAT(Refusal(), HasSubstr("open file 21 is of kind 4711, which this km does not know"));
}

TEST_F(OpenFiles, APipeThatHoldsMoreThanItHasRoomFor) {
  ByteWriter out;
  out.Bytes(State({{KM_PIPE_OBJECT, 1}, {KM_PIPE_SIZE, 4096}}));
  out.TextRecord(KM_PIPE_CONTENTS, std::string(5000, 'x'));
  Record(21).state = out.Take();
  EXPECT_THAT(Refusal(), HasSubstr("a pipe of 4096 bytes holds 5000"));
}

TEST_F(OpenFiles, RecordsThatAreCutOrUnknown) {
  Record(21).state.resize(20);
  EXPECT_THAT(Refusal(), HasSubstr("open file 21, a pipe"));
  Record(21).state = State({{KM_TAG_REQUIRED | 99, 1}});
  EXPECT_THAT(Refusal(), HasSubstr("of a newer km"));
  Record(21).state = State({{99, 1}});
  EXPECT_EQ(WriteSnapshot(image_, Source(), directory_.File("optional"), {}), absl::OkStatus());
}

TEST_F(OpenFiles, ADescriptorThatNobodyHasToGive) {
  Record(24).state = State({{KM_GIVEN_NUMBER, 3}});
  EXPECT_THAT(Refusal(), HasSubstr("none of the descriptors 0 to 2"));
}

TEST_F(OpenFiles, TerminalsThatCannotBe) {
  Record(25).state.clear();
  EXPECT_THAT(Refusal(), HasSubstr("neither a master nor a slave"));
  Record(25).state = State({{KM_TERMINAL_WHAT, KM_TERMINAL_IS_MASTER}});
  EXPECT_THAT(Refusal(), HasSubstr("record 0x60 is too short"));
  Record(25).state = TerminalState(std::string(5000, 'x'), "");
  EXPECT_THAT(Refusal(), HasSubstr("a terminal holds 5000, 0 and 0 bytes"));
  Record(25).state = TerminalState("", std::string(2 << 20, 'x'));
  EXPECT_THAT(Refusal(), HasSubstr("a terminal holds"));
  Record(25).state = TerminalState("", "", 3);
  EXPECT_THAT(Refusal(), HasSubstr("stopped in an unknown way"));
  // Lines in one that has none.
  ByteWriter out;
  out.Bytes(TerminalState("", ""));
  out.TextRecord(KM_TERMINAL_LINE, "line\n");
  Record(25).state = out.Take();
  EXPECT_THAT(Refusal(), HasSubstr("not read by lines"));
  // Settings that are cut.
  ByteWriter cut;
  cut.TextRecord(KM_TERMINAL_SETTINGS, std::string(43, 's'));
  Record(25).state = cut.Take();
  EXPECT_THAT(Refusal(), HasSubstr("record 0x61 is too short"));
  for (uint32_t which : {0u, 2 * KM_TERMINAL_CONTROLLING, UINT32_MAX}) {
    ByteWriter launchers;
    launchers.U64Record(KM_TERMINAL_WHAT, uint64_t{which} << 32 | KM_TERMINAL_IS_LAUNCHERS);
    Record(25).state = launchers.Take();
    EXPECT_THAT(Refusal(), HasSubstr("none of those there are"));
  }
}

TEST_F(OpenFiles, APathThatDependsOnADirectory) {
  Record(20).path = "var";
  EXPECT_THAT(Refusal(), HasSubstr("open file 20 has the path 'var', which is not whole"));
  Record(20).path = "";
  EXPECT_THAT(Refusal(), HasSubstr("which is not whole"));
  Record(20).path = "/var";
  Record(21).path = "fifo";
  EXPECT_THAT(Refusal(), HasSubstr("open file 21 has the path 'fifo'"));
}

TEST_F(OpenFiles, AMemfdWithoutMemory) {
  Record(22).state.clear();
  EXPECT_THAT(Refusal(), HasSubstr("a memfd without its memory"));
}

TEST_F(OpenFiles, ObjectsThatCannotBe) {
  const MemoryObject good = image_.objects[1];
  for (const MemoryObject& bad :
       {MemoryObject{kObject, 1, KM_OBJECT_MEMFD, 0, "twice"},
        MemoryObject{kEmpty + kPage, 1, KM_OBJECT_MEMFD, 0, "misaligned"},
        MemoryObject{KM_OBJECT_END, 0, KM_OBJECT_MEMFD, 0, "beyond"},
        MemoryObject{kEmpty, UINT64_MAX, KM_OBJECT_MEMFD, 0, "too large"},
        MemoryObject{kEmpty, 0, 77, 0, "of no kind"},
        MemoryObject{kEmpty, 0, KM_OBJECT_MEMFD, 0, std::string("a\0b", 3)}}) {
    image_.objects[1] = bad;
    EXPECT_NE(Refusal(), "") << bad.name;
  }
  image_.objects[1] = good;
  image_.mappings.back().object = kObject + kPage;
  EXPECT_THAT(Refusal(), HasSubstr("is impossible"));
  image_.mappings.back().object = kObject;
  image_.mappings.back().flags = MAP_PRIVATE;
  EXPECT_THAT(Refusal(), HasSubstr("is impossible"));
}

}  // namespace
}  // namespace km
