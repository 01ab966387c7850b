// A snapshot is untrusted input: damaged, cut, forged. Each is refused, or is an image that keeps
// the parser's promises.
#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <km/layout.h>
#include <km/notes.h>
#include <sys/mman.h>

#include <cstring>
#include <functional>

#include "absl/strings/str_cat.h"
#include "km/base/bytes.h"
#include "km/snapshot/parser.h"
#include "tests/unit/snapshot/rich_image.h"

namespace km {
namespace {

using testing::HasSubstr;

constexpr uint64_t kPage = 4096;

class Damage : public testing::Test {
 protected:
  absl::StatusOr<Image> Parse(const std::vector<uint8_t>& file) {
    return ParseSnapshot(file, file.size());
  }

  std::string Message(const std::vector<uint8_t>& file) {
    return std::string(Parse(file).status().message());
  }

  void Put(size_t at, uint64_t value, size_t width) {
    std::memcpy(file_.data() + at, &value, width);
  }
  uint64_t Get(size_t at, size_t width) const {
    uint64_t value = 0;
    std::memcpy(&value, file_.data() + at, width);
    return value;
  }

  // Where the header of the first note of that type is.
  size_t FindNote(uint32_t type) const {
    for (size_t at = 64; at + 12 < file_.size();) {
      if (Get(at + 8, 4) == type) return at;
      at += 12 + (Get(at, 4) + 3) / 4 * 4 + (Get(at + 4, 4) + 3) / 4 * 4;
    }
    ADD_FAILURE() << "no note " << type;
    return 0;
  }
  // Where its descriptor is, for a note of ours.
  size_t FindDescriptor(uint32_t type) const { return FindNote(type) + 16; }
  // Where the value of its first record with that tag is.
  size_t FindRecord(uint32_t type, uint32_t tag) const {
    for (size_t at = FindDescriptor(type) + 24; at + 8 < file_.size();) {
      if (Get(at, 4) == tag) return at + 8;
      at += 8 + (Get(at + 4, 4) + 7) / 8 * 8;
    }
    ADD_FAILURE() << "no record " << tag;
    return 0;
  }
  size_t ProgramHeader(size_t index) const { return Get(32, 8) + index * sizeof(Elf64_Phdr); }

  // What the parser says when `value` stands there and every checksum is right.
  std::string Forged(size_t at, uint64_t value, size_t width) {
    const std::vector<uint8_t> saved = file_;
    Put(at, value, width);
    Reseal(&file_, true);
    std::string message = Message(file_);
    file_ = saved;
    return message;
  }

  TestMemory memory_;
  std::vector<uint8_t> file_ = SnapshotBytes(RichImage(memory_), memory_);
};

TEST_F(Damage, UndamagedOnesAreRead) {
  EXPECT_EQ(Parse(file_).status(), absl::OkStatus());
  Reseal(&file_, true);
  EXPECT_EQ(Parse(file_).status(), absl::OkStatus());
}

TEST_F(Damage, CutAtEveryByteOfTheHead) {
  const size_t head = HeadSize(file_);
  for (size_t size = 0; size < head; ++size) {
    // In a buffer of its own, so that a sanitizer sees a read past its end.
    const std::vector<uint8_t> cut(file_.begin(), file_.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_FALSE(Parse(cut).ok()) << size;
  }
}

TEST_F(Damage, CutAtEverySegment) {
  const absl::StatusOr<Image> image = Parse(file_);
  ASSERT_TRUE(image.ok());
  const TestDirectory directory;
  const std::string path = directory.File("cut");
  for (const ImageMemory& piece : image->memory) {
    for (const uint64_t size :
         {piece.file_offset, piece.file_offset + 1, piece.file_offset + piece.size - 1}) {
      WriteFile(path, absl::MakeSpan(file_).first(size));
      EXPECT_THAT(std::string(ParseFile(path).status().message()), HasSubstr("cut short")) << size;
    }
  }
  file_.push_back(0);
  EXPECT_THAT(Message(file_), HasSubstr("when it was written"));
}

TEST_F(Damage, AFlippedBitAnywhereInTheHead) {
  const size_t head = HeadSize(file_);
  for (size_t at = 0; at < head; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      file_[at] ^= static_cast<uint8_t>(1 << bit);
      EXPECT_FALSE(Parse(file_).ok()) << "bit " << bit << " of byte " << at;
      file_[at] ^= static_cast<uint8_t>(1 << bit);
    }
  }
}

// Every number of the head in turn is as large as can be, or has its top bit set, with right
// checksums.
TEST_F(Damage, HostileNumbersEverywhere) {
  const std::vector<uint8_t> good(file_.begin(),
                                  file_.begin() + static_cast<ptrdiff_t>(HeadSize(file_)));
  for (size_t at = 0; at + 8 <= good.size(); at += 4) {
    for (const uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{UINT32_MAX}, UINT64_MAX,
                                 uint64_t{INT64_MAX}, uint64_t{1} << 63, UINT64_MAX - 4095}) {
      for (const size_t width : {size_t{4}, size_t{8}}) {
        std::vector<uint8_t> bad = good;
        std::memcpy(bad.data() + at, &value, width);
        Reseal(&bad, (at / 4) % 2 == 0);
        ParseSnapshot(bad, file_.size()).IgnoreError();
      }
    }
  }
}

TEST_F(Damage, NotASnapshot) {
  EXPECT_THAT(Message({'#', '!'}), HasSubstr("not an ELF file"));
  std::vector<uint8_t> other = file_;
  other[KM_SNAPSHOT_MAGIC_OFFSET] ^= 1;
  EXPECT_THAT(Message(other), HasSubstr("a core dump, not a km snapshot"));
  other[16] = ET_EXEC;
  EXPECT_THAT(Message(other), HasSubstr("no core"));
  EXPECT_FALSE(LooksLikeSnapshot(other));
  EXPECT_TRUE(LooksLikeSnapshot(absl::MakeSpan(file_).first(kSnapshotMagicEnd)));
  EXPECT_FALSE(LooksLikeSnapshot(absl::MakeSpan(file_).first(kSnapshotMagicEnd - 1)));
  EXPECT_FALSE(ParseSnapshot(-1).ok());
}

TEST_F(Damage, ElfHeaders) {
  EXPECT_NE(Forged(EI_CLASS, ELFCLASS32, 1), "");
  EXPECT_NE(Forged(EI_DATA, ELFDATA2MSB, 1), "");
  EXPECT_NE(Forged(18, EM_AARCH64, 2), "");
  EXPECT_NE(Forged(54, 55, 2), "");  // e_phentsize
  EXPECT_NE(Forged(60, 3, 2), "");   // e_shnum
  EXPECT_NE(Forged(40, 64, 8), "");  // e_shoff
  EXPECT_NE(Forged(ProgramHeader(0), PT_LOAD, 4), "");
  EXPECT_NE(Forged(ProgramHeader(0) + 32, UINT64_MAX, 8), "");
  EXPECT_NE(Forged(ProgramHeader(0) + 32, 0, 8), "");
  EXPECT_NE(Forged(ProgramHeader(1), PT_NOTE, 4), "");
}

// Told to a writer too, which reads what it wrote.
TEST_F(Damage, TheHeadHasALimit) {
  constexpr size_t kPhoff = 32;
  constexpr uint64_t kMost = uint64_t{512} << 20;
  EXPECT_THAT(Forged(kPhoff, kMost + 8, 8), HasSubstr("more than 536870912"));
  EXPECT_THAT(Forged(kPhoff, UINT64_MAX, 8), HasSubstr("more than 536870912"));
  EXPECT_THAT(Forged(kPhoff, kMost, 8), testing::Not(HasSubstr("536870912")));
}

TEST_F(Damage, Segments) {
  const size_t second = ProgramHeader(2);  // p_offset 8, p_vaddr 16, p_filesz 32, p_memsz 40
  EXPECT_THAT(Forged(second + 16, TestMemory::kStart, 8), HasSubstr("overlaps"));
  EXPECT_THAT(Forged(second + 16, TestMemory::kStart + 0x7000, 8), HasSubstr("in no mapping"));
  EXPECT_THAT(Forged(second + 16, UINT64_MAX - 4095, 8), HasSubstr("in no mapping"));
  EXPECT_THAT(Forged(second + 16, KM_GUEST_END, 8), HasSubstr("in no mapping"));
  EXPECT_THAT(Forged(second + 32, UINT64_MAX - 4095, 8), HasSubstr("in no mapping"));
  EXPECT_THAT(Forged(second + 32, 5 * kPage, 8), HasSubstr("in no mapping"));
  EXPECT_THAT(Forged(second + 32, kPage + 1, 8), HasSubstr("misaligned"));
  EXPECT_THAT(Forged(second + 8, Get(second + 8, 8) + 1, 8), HasSubstr("misaligned"));
  EXPECT_THAT(Forged(second + 8, UINT64_MAX - 4095, 8), HasSubstr("not in the file"));
  EXPECT_THAT(Forged(second + 8, file_.size(), 8), HasSubstr("not in the file"));
  EXPECT_THAT(Forged(second + 32, 0, 8), HasSubstr("checksums"));
}

// A resume would have written it to the file, or to whatever comes behind.
TEST_F(Damage, MemoryOfASharedFile) {
  const size_t flags = FindRecord(NT_KM_MAPPINGS, KM_MAPPINGS_MAPPING) + 20;
  EXPECT_THAT(Forged(flags, MAP_SHARED, 4), HasSubstr("that of the file '/usr/bin/program'"));
  EXPECT_EQ(Forged(flags, MAP_SHARED | MAP_ANONYMOUS, 4), "");
}

TEST_F(Damage, NotesThatAreMissingTwiceOrNewer) {
  for (const uint32_t type :
       {NT_KM_GUEST, NT_KM_PROCESS, NT_KM_SIGNALS, NT_KM_MAPPINGS, NT_KM_FILES, NT_KM_CHECKSUMS}) {
    const std::vector<uint8_t> saved = file_;
    Put(FindDescriptor(type) + 16, 0, 4);
    EXPECT_THAT(Forged(FindNote(type) + 8, 0x4b4d0fff, 4), HasSubstr("has no note NT_KM_"));
    file_ = saved;
    EXPECT_NE(Forged(FindNote(type) + 8, 0x4b4d0fff, 4), "");  // required, and unknown
    EXPECT_THAT(Forged(FindDescriptor(type) + 12, 2, 4), HasSubstr("newer km"));
  }
  EXPECT_THAT(Forged(FindNote(NT_KM_SIGNALS) + 8, NT_KM_FILES, 4), HasSubstr("note"));
  EXPECT_THAT(Forged(FindNote(NT_KM_DYNLINKER) + 8, NT_KM_GUEST, 4), HasSubstr("two notes"));
  EXPECT_THAT(Forged(FindDescriptor(NT_KM_FILES) + 12, 2, 4), HasSubstr("NT_KM_FILES"));
  EXPECT_THAT(Forged(FindDescriptor(NT_KM_HEADER) + 12, 2, 4), HasSubstr("newer km"));
  EXPECT_THAT(Forged(FindRecord(NT_KM_HEADER, KM_HEADER_FORMAT) + 4, 2, 4), HasSubstr("newer km"));
  EXPECT_THAT(Forged(FindRecord(NT_KM_HEADER, KM_HEADER_FEATURES), 1, 8), HasSubstr("newer km"));
  EXPECT_THAT(Forged(FindNote(NT_AUXV) + 8, 0xfffffff, 4), HasSubstr("NT_AUXV"));
  EXPECT_THAT(Forged(FindNote(NT_PRSTATUS) + 8, 0xfffffff, 4), HasSubstr("NT_PRSTATUS"));
  EXPECT_THAT(Forged(FindNote(NT_X86_XSTATE) + 8, 0xfffffff, 4), HasSubstr("NT_X86_XSTATE"));
  EXPECT_THAT(Forged(FindNote(NT_SIGINFO) + 8, NT_AUXV, 4), HasSubstr("NT_AUXV"));
}

TEST_F(Damage, ANewerVersionThatThisReaderMayRead) {
  EXPECT_EQ(Forged(FindDescriptor(NT_KM_FILES) + 8, 99, 4), "");
  EXPECT_EQ(Forged(FindRecord(NT_KM_HEADER, KM_HEADER_FORMAT), 99, 4), "");
  EXPECT_EQ(Forged(FindRecord(NT_KM_HEADER, KM_HEADER_FEATURES) + 8, UINT64_MAX, 8), "");
  // Records that it does not know: one to skip, one that is necessary.
  const size_t record = FindRecord(NT_KM_PROCESS, KM_PROCESS_PERSONALITY) - 8;
  EXPECT_EQ(Forged(record, 0x7777, 4), "");
  EXPECT_THAT(Forged(record, 0x80007777, 4), HasSubstr("newer km"));
}

TEST_F(Damage, Threads) {
  EXPECT_THAT(Forged(FindRecord(NT_KM_VCPU, KM_VCPU_TID), 7, 4), HasSubstr("twice"));
  EXPECT_THAT(Forged(FindRecord(NT_KM_VCPU, KM_VCPU_TID), 99, 4), HasSubstr("NT_KM_VCPU"));
  const size_t pid = FindNote(NT_PRSTATUS) + 20 + 32;
  EXPECT_THAT(Forged(pid, 7, 4), HasSubstr("twice"));
  EXPECT_THAT(Forged(pid, 0, 4), HasSubstr("thread 0"));
  EXPECT_THAT(Forged(pid, 0x80000001, 4), HasSubstr("thread"));
  for (const size_t base : {size_t{21}, size_t{22}}) {  // FS, GS in elf_gregset_t
    const size_t at = FindNote(NT_PRSTATUS) + 20 + 112 + base * 8;
    EXPECT_THAT(Forged(at, uint64_t{1} << 47, 8), HasSubstr("bases of FS"));
    EXPECT_EQ(Forged(at, ~uint64_t{0} << 47, 8), "");
  }
  const size_t xsave = FindNote(NT_X86_XSTATE) + 20;  // "LINUX" is padded to 8 bytes
  EXPECT_THAT(Forged(xsave + 512, UINT64_MAX, 8), HasSubstr("XCR0"));
  EXPECT_THAT(Forged(xsave + 520, uint64_t{1} << 63, 8), HasSubstr("standard format"));
  EXPECT_THAT(Forged(FindRecord(NT_KM_VCPU, KM_VCPU_COMM) + 3, 0, 1), HasSubstr("NUL"));
  EXPECT_THAT(Forged(FindRecord(NT_KM_VCPU, KM_VCPU_PENDING), 65, 4), HasSubstr("1 to 64"));
  EXPECT_THAT(Forged(FindRecord(NT_KM_VCPU, KM_VCPU_PENDING), 0, 4), HasSubstr("1 to 64"));
}

TEST_F(Damage, WhatNoBlockedCallHasDone) {
  Image image = RichImage(memory_);
  image.threads[0].blocked_call->done = 5;
  file_ = SnapshotBytes(image, memory_);
  EXPECT_EQ(Message(file_), "");
  const size_t record = FindRecord(NT_KM_VCPU, KM_VCPU_BLOCKED_CALL);
  EXPECT_THAT(Forged(record - 8, 0x777, 4), HasSubstr("newer km"));
}

TEST_F(Damage, Mappings) {
  const size_t first = FindRecord(NT_KM_MAPPINGS, KM_MAPPINGS_MAPPING);
  const std::string impossible = "impossible or out of order";
  EXPECT_THAT(Forged(first, TestMemory::kStart + 1, 8), HasSubstr(impossible));
  EXPECT_THAT(Forged(first + 8, UINT64_MAX - 4095, 8), HasSubstr(impossible));
  EXPECT_THAT(Forged(first + 8, KM_GUEST_END + kPage, 8), HasSubstr(impossible));
  EXPECT_THAT(Forged(first + 8, TestMemory::kStart, 8), HasSubstr(impossible));
  EXPECT_THAT(Forged(first + 8, TestMemory::kStart + 3 * kPage, 8), HasSubstr(impossible));
  EXPECT_THAT(Forged(first + 16, 8, 4), HasSubstr(impossible));
  EXPECT_THAT(Forged(first + 20, MAP_SHARED | MAP_PRIVATE, 4), HasSubstr(impossible));
  EXPECT_THAT(Forged(first + 24, UINT64_MAX - 4095, 8), HasSubstr(impossible));
  EXPECT_THAT(Forged(first + 24, 1, 8), HasSubstr(impossible));
  EXPECT_THAT(Forged(first + 32, UINT32_MAX, 4), HasSubstr("too short"));
  EXPECT_THAT(Forged(first - 4, UINT32_MAX, 4), HasSubstr("does not fit"));
}

// The monitor's own memory lies beyond the program's addresses.
TEST_F(Damage, Landmarks) {
  const size_t layout = FindRecord(NT_KM_PROCESS, KM_PROCESS_LAYOUT);
  for (size_t i = 0; i < 8; ++i) {
    for (const uint64_t beyond : {uint64_t{KM_GUEST_END} + 1, UINT64_MAX}) {
      EXPECT_THAT(Forged(layout + 8 * i, beyond, 8), HasSubstr("landmark")) << i;
    }
  }
  EXPECT_THAT(Forged(layout + 8, Get(layout, 8) - 1, 8), HasSubstr("brk"));
  EXPECT_EQ(Forged(layout + 8, Get(layout, 8), 8), "");
  EXPECT_EQ(Forged(layout + 16, KM_GUEST_END, 8), "");
}

TEST_F(Damage, FilesAndProcess) {
  const size_t descriptor = FindRecord(NT_KM_FILES, KM_FILES_DESCRIPTOR);
  EXPECT_THAT(Forged(descriptor, 6, 4), HasSubstr("descriptor 6"));
  EXPECT_THAT(Forged(descriptor, 1 << 20, 4), HasSubstr("descriptor"));
  EXPECT_THAT(Forged(descriptor + 4, 4, 4), HasSubstr("no description 4"));
  EXPECT_THAT(Forged(FindRecord(NT_KM_FILES, KM_FILES_DESCRIPTION), 9, 4), HasSubstr("two"));
  const size_t lock = FindRecord(NT_KM_FILES, KM_FILES_LOCK);
  EXPECT_THAT(Forged(lock, 4, 4), HasSubstr("on open file 4"));
  EXPECT_THAT(Forged(lock + 4, 5, 4), HasSubstr("a lock of kind 5"));
  const size_t owner = FindRecord(NT_KM_FILES, KM_FILES_OWNER);
  EXPECT_THAT(Forged(owner, 4, 4), HasSubstr("open file 4 has an owner"));
  EXPECT_THAT(Forged(owner + 4, 4, 4), HasSubstr("type 4"));
  EXPECT_THAT(Forged(owner + 8, 0, 4), HasSubstr("an owner of type 3"));
  EXPECT_THAT(Forged(owner + 12, 65, 4), HasSubstr("signal 65"));
  EXPECT_THAT(Forged(FindRecord(NT_KM_PROCESS, KM_PROCESS_IDS), 0, 4), HasSubstr("pid"));
  EXPECT_THAT(Forged(FindRecord(NT_KM_SIGNALS, KM_SIGNALS_ACTION), 65, 4), HasSubstr("1 to 64"));
  EXPECT_THAT(Forged(FindRecord(NT_KM_GUEST, KM_PROGRAM_ELF_HEADER) - 4, 63, 4),
              HasSubstr("ELF header of 63"));
  EXPECT_THAT(Forged(FindRecord(NT_KM_CHECKSUMS, KM_CHECKSUMS_KIND), 2, 4), HasSubstr("kind 2"));
}

}  // namespace
}  // namespace km
