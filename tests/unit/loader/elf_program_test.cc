#include "km/loader/elf_program.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "km/base/status.h"
#include "km/loader/program_path.h"

namespace km {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMax = ~uint64_t{0};

// A small program: text and data with a bss, an interpreter, a stack note.
struct TestElf {
  Elf64_Ehdr header = {};
  std::vector<Elf64_Phdr> segments;
  std::string interpreter = std::string("/lib/ld.so") + '\0';
  size_t size = 0x3000;  // of the file

  TestElf() {
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_entry = 0x401000;
    header.e_phoff = sizeof(header);
    header.e_ehsize = sizeof(header);
    header.e_phentsize = sizeof(Elf64_Phdr);
    Add(PT_INTERP, PF_R, 0x400, 0x400400, interpreter.size(), interpreter.size(), 1);
    Add(PT_LOAD, PF_R | PF_X, 0, 0x400000, 0x1800, 0x1800, 0x1000);
    Add(PT_LOAD, PF_R | PF_W, 0x1800, 0x402800, 0x900, 0x5000, 0x1000);
    Add(PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 0, 16);
  }

  void Add(uint32_t type, uint32_t flags, uint64_t offset, uint64_t address, uint64_t file_size,
           uint64_t memory_size, uint64_t alignment) {
    segments.push_back({type, flags, offset, address, address, file_size, memory_size, alignment});
  }

  ProgramFile File() {
    header.e_phnum = static_cast<uint16_t>(segments.size());
    return FileAsIs();
  }
  ProgramFile FileAsIs() const {
    ProgramFile file;
    file.path = "prog";
    file.file = std::make_shared<MappedFile>();
    file.size = size;
    file.head.resize(size);
    memcpy(file.head.data() + 0x400, interpreter.data(), interpreter.size());
    memcpy(file.head.data(), &header, sizeof(header));
    memcpy(file.head.data() + sizeof(header), segments.data(),
           segments.size() * sizeof(Elf64_Phdr));
    return file;
  }
};

void ExpectRefused(const ProgramFile& file, const std::string& why) {
  absl::StatusOr<ElfProgram> program = ElfProgram::Parse(file);
  ASSERT_FALSE(program.ok()) << why;
  EXPECT_THAT(std::string(program.status().message()), HasSubstr(why));
  EXPECT_THAT(std::string(program.status().message()), HasSubstr("cannot run 'prog': "));
  EXPECT_EQ(ErrnoOf(program.status()), ENOEXEC);
  EXPECT_EQ(ExitCodeFor(program.status()), 126);
}

// What every parsed program promises, whatever the bytes were.
void ExpectSound(const ElfProgram& program, uint64_t file_size) {
  ASSERT_FALSE(program.segments.empty());
  ASSERT_EQ(program.elf_header.size(), sizeof(Elf64_Ehdr));
  ASSERT_EQ(program.program_headers.size() % sizeof(Elf64_Phdr), 0u);
  ASSERT_LT(program.entry, KM_GUEST_END);
  ASSERT_TRUE(program.alignment >= 4096 && program.alignment <= uint64_t{1} << 30);
  ASSERT_LE(program.end(), KM_GUEST_END);
  uint64_t last = 0;
  for (const ElfSegment& segment : program.segments) {
    ASSERT_GT(segment.memory_size, 0u);
    ASSERT_GE(segment.address, last);
    ASSERT_LE(segment.file_size, segment.memory_size);
    ASSERT_LE(segment.address, KM_GUEST_END - segment.memory_size);
    last = segment.address + segment.memory_size;
    if (segment.file_size == 0) continue;
    ASSERT_LE(segment.offset, file_size);
    ASSERT_LE(segment.file_size, file_size - segment.offset);
    ASSERT_EQ(segment.offset % 4096, segment.address % 4096);
  }
}

TEST(ElfProgram, Parses) {
  TestElf elf;
  absl::StatusOr<ElfProgram> program = ElfProgram::Parse(elf.File());
  ASSERT_TRUE(program.ok()) << program.status();
  ExpectSound(*program, elf.size);
  EXPECT_FALSE(program->position_independent);
  EXPECT_FALSE(program->executable_stack);
  EXPECT_EQ(program->entry, 0x401000u);
  EXPECT_EQ(program->headers_address, 0x400040u);
  EXPECT_EQ(program->interpreter, "/lib/ld.so");
  EXPECT_EQ(program->alignment, 0x1000u);
  EXPECT_EQ(program->start(), 0x400000u);
  EXPECT_EQ(program->end(), 0x408000u);
  ASSERT_EQ(program->segments.size(), 2u);
  EXPECT_EQ(program->segments[0].protection, PROT_READ | PROT_EXEC);
  EXPECT_EQ(program->segments[1].protection, PROT_READ | PROT_WRITE);
  EXPECT_EQ(program->segments[1].memory_size, 0x5000u);
}

TEST(ElfProgram, StackFlagAndAlignment) {
  TestElf elf;
  elf.header.e_type = ET_DYN;
  elf.segments[1].p_align = 0x200000;
  elf.segments[2].p_align = 0x1234567;  // means nothing
  elf.segments[3].p_flags = PF_R | PF_W | PF_X;
  absl::StatusOr<ElfProgram> program = ElfProgram::Parse(elf.File());
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_TRUE(program->position_independent);
  EXPECT_TRUE(program->executable_stack);
  EXPECT_EQ(program->alignment, 0x200000u);
}

TEST(ElfProgram, RefusesOtherFiles) {
  TestElf elf;
  ProgramFile file = elf.File();
  file.head.clear();
  ExpectRefused(file, "it is empty");
  for (const char* text : {"#", "hello, this is a text\n",
                           "\x7f"
                           "EL",
                           "\x7f"
                           "ELG and more"}) {
    file.head.assign(text, text + strlen(text));
    ExpectRefused(file, "neither an ELF program nor a script");
  }
}

TEST(ElfProgram, RefusesOtherMachines) {
  auto refused = [](const std::string& why, auto change) {
    TestElf elf;
    change(elf.header);
    ExpectRefused(elf.File(), why);
  };
  refused("32-bit program", [](Elf64_Ehdr& h) { h.e_ident[EI_CLASS] = ELFCLASS32; });
  refused("ELF class", [](Elf64_Ehdr& h) { h.e_ident[EI_CLASS] = 7; });
  refused("big-endian", [](Elf64_Ehdr& h) { h.e_ident[EI_DATA] = ELFDATA2MSB; });
  refused("ELF version", [](Elf64_Ehdr& h) { h.e_ident[EI_VERSION] = 2; });
  refused("another machine (ARM64)", [](Elf64_Ehdr& h) { h.e_machine = EM_AARCH64; });
  refused("another machine (machine number 12345)", [](Elf64_Ehdr& h) { h.e_machine = 12345; });
  refused("core dump", [](Elf64_Ehdr& h) { h.e_type = ET_CORE; });
  refused("object file", [](Elf64_Ehdr& h) { h.e_type = ET_REL; });
  refused("ELF type is 99", [](Elf64_Ehdr& h) { h.e_type = 99; });
  refused("entry point 0xffffffffffffffff", [](Elf64_Ehdr& h) { h.e_entry = kMax; });
  refused("55 bytes each", [](Elf64_Ehdr& h) { h.e_phentsize = 55; });
  refused("cut short: its program headers", [](Elf64_Ehdr& h) { h.e_phoff = kMax; });
  refused("cut short: its program headers", [](Elf64_Ehdr& h) { h.e_phoff = kMax - 200; });
  refused("cut short: its program headers", [](Elf64_Ehdr& h) { h.e_phoff = 0x3000 - 223; });
}

TEST(ElfProgram, RefusesBadCounts) {
  TestElf elf;
  elf.header.e_phnum = 0;
  ExpectRefused(elf.FileAsIs(), "no program headers");
  elf.header.e_phnum = 0xffff;
  ExpectRefused(elf.FileAsIs(), "65535 program headers");
  elf.header.e_phnum = 1170;  // the kernel's most, beyond this file's end
  ExpectRefused(elf.FileAsIs(), "cut short");
  elf.segments.resize(1);
  ExpectRefused(elf.File(), "nothing to load");
}

TEST(ElfProgram, RefusesBadSegments) {
  auto refused = [](const std::string& why, auto change) {
    TestElf elf;
    change(elf.segments[2]);
    ExpectRefused(elf.File(), why);
  };
  refused("more bytes in the file", [](Elf64_Phdr& s) { s.p_filesz = 0x5001; });
  refused("more bytes in the file", [](Elf64_Phdr& s) { s.p_filesz = kMax; });
  refused("beyond the addresses", [](Elf64_Phdr& s) { s.p_memsz = kMax; });
  refused("beyond the addresses", [](Elf64_Phdr& s) { s.p_memsz = KM_GUEST_END; });
  refused("beyond the addresses", [](Elf64_Phdr& s) { s.p_vaddr = kMax - 0x7ff; });
  refused("beyond the addresses", [](Elf64_Phdr& s) { s.p_vaddr = KM_GUEST_END - 0x4800; });
  refused("segment 2 is cut short", [](Elf64_Phdr& s) { s.p_offset = kMax - 0x7ff; });
  refused("segment 2 is cut short", [](Elf64_Phdr& s) { s.p_filesz = s.p_memsz; });
  refused("differ modulo 4096", [](Elf64_Phdr& s) { s.p_vaddr += 8; });
  refused("ascending order", [](Elf64_Phdr& s) { s.p_vaddr = 0x3ff800; });
  refused("overlaps", [](Elf64_Phdr& s) { s.p_vaddr = 0x400800; });
}

TEST(ElfProgram, RefusesBadInterpreters) {
  auto refused = [](const std::string& why, auto change) {
    TestElf elf;
    change(elf);
    ExpectRefused(elf.File(), why);
  };
  refused("more than one interpreter", [](TestElf& e) { e.segments.push_back(e.segments[0]); });
  refused("does not end with a NUL", [](TestElf& e) { e.interpreter.back() = 'x'; });
  refused("is empty", [](TestElf& e) { e.interpreter[0] = '\0'; });
  refused("has 1 bytes", [](TestElf& e) { e.segments[0].p_filesz = 1; });
  refused("has 4097 bytes", [](TestElf& e) { e.segments[0].p_filesz = 4097; });
  refused("has 18446744073709551615", [](TestElf& e) { e.segments[0].p_filesz = kMax; });
  refused("cut short", [](TestElf& e) { e.segments[0].p_offset = kMax; });
  refused("cut short", [](TestElf& e) { e.segments[0].p_offset = e.size - 5; });
}

TEST(ElfProgram, EveryTruncationIsRefused) {
  TestElf elf;
  ProgramFile whole = elf.File();
  size_t needed = 0x1800 + 0x900;
  for (size_t size = 0; size < needed; size += size < 400 ? 1 : 97) {
    ProgramFile file = whole;
    file.head.resize(size);
    file.size = size;
    EXPECT_FALSE(ElfProgram::Parse(file).ok()) << size;
  }
  whole.head.resize(needed);
  whole.size = needed;
  EXPECT_TRUE(ElfProgram::Parse(whole).ok());
}

// The file has its size, but what is not in the head cannot be read (there is no descriptor).
TEST(ElfProgram, UnreadableRestIsRefused) {
  TestElf elf;
  elf.header.e_phoff = 0x2000;
  ProgramFile file = elf.File();
  file.head.resize(0x1000);
  ExpectRefused(file, "cannot be read");
}

TEST(ElfProgram, HostileValuesInEveryField) {
  TestElf elf;
  ProgramFile whole = elf.File();
  size_t end = sizeof(Elf64_Ehdr) + elf.segments.size() * sizeof(Elf64_Phdr);
  for (size_t at = 0; at + 8 <= end; at += 2) {
    for (uint64_t value : {kMax, kMax - 1, kMax >> 1, uint64_t{1} << 63, uint64_t{0xffffffff},
                           uint64_t{1} << 32, uint64_t{KM_GUEST_END}, uint64_t{0}}) {
      for (size_t width : {2, 4, 8}) {
        ProgramFile file = whole;
        memcpy(file.head.data() + at, &value, width);
        absl::StatusOr<ElfProgram> program = ElfProgram::Parse(file);
        if (program.ok()) ExpectSound(*program, file.size);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(ElfProgram, SurvivesRandomChangesOfARealProgram) {
  absl::StatusOr<ProgramFile> real = ProgramFile::Open("/proc/self/exe");
  ASSERT_TRUE(real.ok()) << real.status();
  ASSERT_TRUE(ElfProgram::Parse(*real).ok());
  std::minstd_rand random(1);
  int accepted = 0;
  for (int round = 0; round < 10000; ++round) {
    ProgramFile file = *real;
    for (int change = 1 + static_cast<int>(random() % 4); change > 0; --change) {
      uint8_t& byte = file.head[random() % 0x400];
      byte = random() % 2 ? static_cast<uint8_t>(random())
                          : static_cast<uint8_t>(byte ^ (1 << random() % 8));
    }
    absl::StatusOr<ElfProgram> program = ElfProgram::Parse(file);
    if (!program.ok()) continue;
    ++accepted;
    ExpectSound(*program, file.size);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(accepted, 0);
}

TEST(ElfProgram, OpensRealFiles) {
  absl::StatusOr<ElfProgram> self = ElfProgram::Open("/proc/self/exe");
  ASSERT_TRUE(self.ok()) << self.status();
  char path[4096] = {};
  ASSERT_GT(readlink("/proc/self/exe", path, sizeof(path) - 1), 0);
  EXPECT_EQ(self->file->path, path);
  EXPECT_NE(self->file->inode, 0u);
  EXPECT_EQ(ExitCodeFor(ElfProgram::Open("/").status()), 126);
  EXPECT_EQ(ExitCodeFor(ElfProgram::Open("/dev/null").status()), 126);
  EXPECT_EQ(ErrnoOf(ElfProgram::Open("/nowhere/at/all").status()), ENOENT);
}

}  // namespace
}  // namespace km
