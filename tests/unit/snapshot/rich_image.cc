#include "tests/unit/snapshot/rich_image.h"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <km/notes.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "km/base/bytes.h"
#include "km/snapshot/checksum.h"
#include "km/snapshot/parser.h"

namespace km {
namespace {

constexpr uint64_t kPage = 4096;

SignalInfoBytes Signal(uint8_t number, uint8_t code) {
  SignalInfoBytes info = {};
  info[0] = number;
  info[8] = code;
  info[127] = 0x77;
  return info;
}

std::vector<uint8_t> Xsave(uint64_t xcr0, uint8_t seed) {
  std::vector<uint8_t> area(2688);
  for (size_t i = 0; i < area.size(); ++i) area[i] = static_cast<uint8_t>(i * 7 + seed);
  std::fill(area.begin() + 464, area.begin() + 576, uint8_t{0});
  std::memcpy(area.data() + 464, &xcr0, sizeof(xcr0));
  std::memcpy(area.data() + 512, &xcr0, sizeof(xcr0));
  return area;
}

Registers SomeRegisters(uint64_t seed) {
  Registers registers;
  uint64_t words[sizeof(Registers) / 8];
  for (size_t i = 0; i < std::size(words); ++i) words[i] = seed + i * 0x0101010101;
  std::memcpy(static_cast<void*>(&registers), words, sizeof(words));
  return registers;
}

std::vector<ImageThread> Threads() {
  ImageThread first;
  first.tid = 4242;
  first.comm = "fifteen letters";
  first.registers = SomeRegisters(0x1000);
  first.xsave = Xsave(0xe7, 1);
  first.signal_mask = 0xfedcba9876543210;
  first.altstack_address = 0x10009000;
  first.altstack_size = 0x2000;
  first.altstack_flags = 2;
  first.pending = {Signal(34, 1), Signal(10, 2), Signal(34, 3)};
  first.clear_child_tid = 0x10004990;
  first.robust_list = 0x100049a0;
  first.robust_list_length = 24;
  first.blocked_call = ImageBlockedCall{.has_deadline = true, .deadline_ns = -5};
  first.saved_mask_valid = true;
  first.saved_mask = 0x8000000000000001;
  ImageThread second;
  second.tid = 4250;
  second.comm = "worker";
  second.registers = SomeRegisters(0x2000);
  second.xsave = Xsave(0xe7, 2);
  second.blocked_call = ImageBlockedCall{};
  ImageThread third;
  third.tid = 7;
  third.xsave = Xsave(0xe7, 3);
  return {first, second, third};
}

ImageProcess Process() {
  ImageProcess process;
  process.pid = 4242;
  process.parent_pid = 1;
  process.process_group = 4200;
  process.session = 4100;
  process.uid = 1000;
  process.euid = 1001;
  process.gid = 2000;
  process.egid = 2001;
  process.next_tid = 4251;
  process.comm = "program";
  process.command_line = "program --with arguments";
  process.working_directory = "/home/someone";
  process.umask = 027;
  process.personality = 0x40000;
  process.actions[1] = {0x10001000, 0x14000004, 0x10001100, 0x4000};
  process.actions[63] = {1, 0, 0, 0};
  process.pending = {Signal(64, 9), Signal(1, 0)};
  process.limits = {{1, UINT64_MAX}, {3, 4}, {1024, 1048576}};
  process.brk_start = 0x10010000;
  process.brk_end = 0x10012000;
  process.mmap_base = 0x11fff000;
  process.stack_end = 0x11000000;
  process.arguments_start = 0x10ffe000;
  process.arguments_end = 0x10ffe010;
  process.environment_start = 0x10ffe020;
  process.environment_end = 0x10ffe030;
  process.auxv = {AT_PAGESZ, 4096, AT_ENTRY, 0x10001000, AT_NULL, 0};
  return process;
}

ImageProgram Program(const std::string& path, uint64_t bias) {
  ImageProgram program;
  program.path = path;
  program.load_bias = bias;
  program.entry = bias + 0x1000;
  for (int i = 0; i < 64; ++i) program.elf_header.push_back(static_cast<uint8_t>(i + bias));
  for (int i = 0; i < 3 * 56; ++i) program.program_headers.push_back(static_cast<uint8_t>(i));
  return program;
}

ImageHeader Header() {
  ImageHeader header;
  header.producer = "km 0.1.0";
  for (size_t i = 0; i < 16; ++i) {
    header.id[i] = static_cast<uint8_t>(i + 1);
    header.parent[i] = static_cast<uint8_t>(0xf0 + i);
  }
  header.label = "label";
  header.description = "a description";
  header.realtime_ns = 1700000000123456789;
  header.monotonic_ns = 987654321;
  header.boottime_ns = -1;
  header.xcr0 = 0xe7;
  header.cpu_features = {1, 0x80000000, 3};
  return header;
}

}  // namespace

TestMemory::TestMemory()
    : mapping_(mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
               kSize) {}

uint8_t* TestMemory::At(uint64_t address) const {
  return reinterpret_cast<uint8_t*>(mapping_.data()) + (address - kStart);
}

void TestMemory::Fill(uint64_t address, uint64_t size, uint64_t seed) const {
  uint8_t* bytes = At(address);
  for (uint64_t i = 0; i < size; ++i) {
    seed = seed * 6364136223846793005 + 1442695040888963407;
    bytes[i] = static_cast<uint8_t>(seed >> 56) | 1;
  }
}

MemorySource TestMemory::Source() const {
  MemorySource source;
  source.window = mapping_.data() - kStart;
  return source;
}

Image RichImage(const TestMemory& memory) {
  constexpr uint64_t kAt = TestMemory::kStart;
  constexpr uint32_t kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;
  Image image;
  image.header = Header();
  image.process = Process();
  image.threads = Threads();
  image.mappings = {
      {kAt, kAt + 2 * kPage, PROT_READ | PROT_EXEC, MAP_PRIVATE, "/usr/bin/program", 0x3000},
      {kAt + 2 * kPage, kAt + 6 * kPage, PROT_READ | PROT_WRITE, kAnonymous, "[heap]", 0},
      {kAt + 6 * kPage, kAt + 7 * kPage, PROT_NONE, kAnonymous, "", 0},
      {kAt + 8 * kPage, kAt + 9 * kPage, PROT_READ, MAP_SHARED, "/tmp/shared", 0x1000},
      {kAt + 0x800000, kAt + 0xc00000, PROT_READ | PROT_WRITE, kAnonymous | MAP_NORESERVE, "", 0},
      {kAt + 0x1000000, kAt + 0x1001000, 7, kAnonymous | MAP_GROWSDOWN, "[stack]", 0}};
  image.memory = {{kAt, 2 * kPage, 0},
                  {kAt + 2 * kPage, 3 * kPage, 0},
                  {kAt + 0xb00000, kPage, 0},
                  {kAt + 0x1000000, kPage, 0}};
  uint64_t seed = 1;
  for (const ImageMemory& piece : image.memory) memory.Fill(piece.address, piece.size, seed++);
  std::memset(memory.At(kAt + 3 * kPage), 0, kPage);
  image.descriptions = {{3, FileKind::kRegular, 02, 123456789012, "/var/lib/data", {}},
                        {9, FileKind::kRegular, 02001, 0, "/tmp/log", {}}};
  image.descriptors = {{5, 3, false}, {6, 3, true}, {1000, 9, false}};
  image.locks = {{3, KM_LOCK_OFD, true, 100, 0}, {9, KM_LOCK_FLOCK, false, 0, 0}};
  image.owners = {{3, KM_OWNER_THREAD, 77, 34, 0, true}};
  image.program = Program("/usr/bin/program", 0x10000000);
  image.dynamic_linker = Program("/lib64/ld-linux-x86-64.so.2", 0x10800000);
  return image;
}

namespace {

void ExpectSameThread(const ImageThread& wanted, const ImageThread& got) {
  EXPECT_EQ(wanted.tid, got.tid);
  EXPECT_EQ(wanted.comm, got.comm);
  EXPECT_EQ(std::memcmp(&wanted.registers, &got.registers, sizeof(Registers)), 0);
  EXPECT_EQ(wanted.xsave, got.xsave);
  EXPECT_EQ(wanted.signal_mask, got.signal_mask);
  EXPECT_EQ(wanted.altstack_address, got.altstack_address);
  EXPECT_EQ(wanted.altstack_size, got.altstack_size);
  EXPECT_EQ(wanted.altstack_flags, got.altstack_flags);
  EXPECT_EQ(wanted.pending, got.pending);
  EXPECT_EQ(wanted.clear_child_tid, got.clear_child_tid);
  EXPECT_EQ(wanted.robust_list, got.robust_list);
  EXPECT_EQ(wanted.robust_list_length, got.robust_list_length);
  ASSERT_EQ(wanted.blocked_call.has_value(), got.blocked_call.has_value());
  if (wanted.blocked_call.has_value()) {
    EXPECT_EQ(wanted.blocked_call->has_deadline, got.blocked_call->has_deadline);
    EXPECT_EQ(wanted.blocked_call->deadline_ns, got.blocked_call->deadline_ns);
    EXPECT_EQ(wanted.blocked_call->done, got.blocked_call->done);
  }
  EXPECT_EQ(wanted.saved_mask_valid, got.saved_mask_valid);
  EXPECT_EQ(wanted.saved_mask, got.saved_mask);
}

void ExpectSameProcess(const ImageProcess& wanted, const ImageProcess& got) {
  EXPECT_EQ(wanted.pid, got.pid);
  EXPECT_EQ(wanted.parent_pid, got.parent_pid);
  EXPECT_EQ(wanted.process_group, got.process_group);
  EXPECT_EQ(wanted.session, got.session);
  EXPECT_EQ(wanted.uid, got.uid);
  EXPECT_EQ(wanted.euid, got.euid);
  EXPECT_EQ(wanted.gid, got.gid);
  EXPECT_EQ(wanted.egid, got.egid);
  EXPECT_EQ(wanted.next_tid, got.next_tid);
  EXPECT_EQ(wanted.comm, got.comm);
  EXPECT_EQ(wanted.command_line, got.command_line);
  EXPECT_EQ(wanted.working_directory, got.working_directory);
  EXPECT_EQ(wanted.umask, got.umask);
  EXPECT_EQ(wanted.personality, got.personality);
  for (size_t i = 0; i < wanted.actions.size(); ++i) {
    EXPECT_EQ(wanted.actions[i].handler, got.actions[i].handler);
    EXPECT_EQ(wanted.actions[i].flags, got.actions[i].flags);
    EXPECT_EQ(wanted.actions[i].restorer, got.actions[i].restorer);
    EXPECT_EQ(wanted.actions[i].mask, got.actions[i].mask);
  }
  EXPECT_EQ(wanted.pending, got.pending);
  EXPECT_EQ(wanted.limits, got.limits);
  EXPECT_EQ(wanted.brk_start, got.brk_start);
  EXPECT_EQ(wanted.brk_end, got.brk_end);
  EXPECT_EQ(wanted.mmap_base, got.mmap_base);
  EXPECT_EQ(wanted.stack_end, got.stack_end);
  EXPECT_EQ(wanted.arguments_start, got.arguments_start);
  EXPECT_EQ(wanted.arguments_end, got.arguments_end);
  EXPECT_EQ(wanted.environment_start, got.environment_start);
  EXPECT_EQ(wanted.environment_end, got.environment_end);
  EXPECT_EQ(wanted.auxv, got.auxv);
}

void ExpectSameHeader(const ImageHeader& wanted, const ImageHeader& got) {
  EXPECT_EQ(wanted.producer, got.producer);
  EXPECT_EQ(wanted.id, got.id);
  EXPECT_EQ(wanted.parent, got.parent);
  EXPECT_EQ(wanted.label, got.label);
  EXPECT_EQ(wanted.description, got.description);
  EXPECT_EQ(wanted.realtime_ns, got.realtime_ns);
  EXPECT_EQ(wanted.monotonic_ns, got.monotonic_ns);
  EXPECT_EQ(wanted.boottime_ns, got.boottime_ns);
  EXPECT_EQ(wanted.xcr0, got.xcr0);
  EXPECT_EQ(wanted.cpu_features, got.cpu_features);
}

void ExpectSameProgram(const ImageProgram& wanted, const ImageProgram& got) {
  EXPECT_EQ(wanted.path, got.path);
  EXPECT_EQ(wanted.load_bias, got.load_bias);
  EXPECT_EQ(wanted.entry, got.entry);
  EXPECT_EQ(wanted.elf_header, got.elf_header);
  EXPECT_EQ(wanted.program_headers, got.program_headers);
}

void ExpectSameMemory(const Image& wanted, const Image& got) {
  ASSERT_EQ(wanted.mappings.size(), got.mappings.size());
  for (size_t i = 0; i < wanted.mappings.size(); ++i) {
    EXPECT_EQ(wanted.mappings[i].start, got.mappings[i].start);
    EXPECT_EQ(wanted.mappings[i].end, got.mappings[i].end);
    EXPECT_EQ(wanted.mappings[i].protection, got.mappings[i].protection);
    EXPECT_EQ(wanted.mappings[i].flags, got.mappings[i].flags);
    EXPECT_EQ(wanted.mappings[i].name, got.mappings[i].name);
    EXPECT_EQ(wanted.mappings[i].file_offset, got.mappings[i].file_offset);
    EXPECT_EQ(wanted.mappings[i].object, got.mappings[i].object);
  }
  ASSERT_EQ(wanted.objects.size(), got.objects.size());
  for (size_t i = 0; i < wanted.objects.size(); ++i) {
    EXPECT_EQ(wanted.objects[i].address, got.objects[i].address);
    EXPECT_EQ(wanted.objects[i].size, got.objects[i].size);
    EXPECT_EQ(wanted.objects[i].kind, got.objects[i].kind);
    EXPECT_EQ(wanted.objects[i].seals, got.objects[i].seals);
    EXPECT_EQ(wanted.objects[i].name, got.objects[i].name);
  }
  ASSERT_EQ(wanted.memory.size(), got.memory.size());
  for (size_t i = 0; i < wanted.memory.size(); ++i) {
    EXPECT_EQ(wanted.memory[i].address, got.memory[i].address);
    EXPECT_EQ(wanted.memory[i].size, got.memory[i].size);
  }
}

void ExpectSameFiles(const Image& wanted, const Image& got) {
  EXPECT_EQ(wanted.given, got.given);
  ASSERT_EQ(wanted.terminal.has_value(), got.terminal.has_value());
  if (wanted.terminal.has_value()) {
    EXPECT_EQ(wanted.terminal->launched, got.terminal->launched);
    EXPECT_EQ(wanted.terminal->now, got.terminal->now);
    EXPECT_EQ(wanted.terminal->window, got.terminal->window);
  }
  ASSERT_EQ(wanted.descriptions.size(), got.descriptions.size());
  for (size_t i = 0; i < wanted.descriptions.size(); ++i) {
    EXPECT_EQ(wanted.descriptions[i].id, got.descriptions[i].id);
    EXPECT_EQ(wanted.descriptions[i].kind, got.descriptions[i].kind);
    EXPECT_EQ(wanted.descriptions[i].path, got.descriptions[i].path);
    EXPECT_EQ(wanted.descriptions[i].state, got.descriptions[i].state);
    EXPECT_EQ(wanted.descriptions[i].flags, got.descriptions[i].flags);
    EXPECT_EQ(wanted.descriptions[i].offset, got.descriptions[i].offset);
  }
  ASSERT_EQ(wanted.descriptors.size(), got.descriptors.size());
  for (size_t i = 0; i < wanted.descriptors.size(); ++i) {
    EXPECT_EQ(wanted.descriptors[i].number, got.descriptors[i].number);
    EXPECT_EQ(wanted.descriptors[i].description, got.descriptors[i].description);
    EXPECT_EQ(wanted.descriptors[i].close_on_exec, got.descriptors[i].close_on_exec);
  }
  ASSERT_EQ(wanted.owners.size(), got.owners.size());
  for (size_t i = 0; i < wanted.owners.size(); ++i) {
    EXPECT_EQ(wanted.owners[i].description, got.owners[i].description);
    EXPECT_EQ(wanted.owners[i].type, got.owners[i].type);
    EXPECT_EQ(wanted.owners[i].thread, got.owners[i].thread);
    EXPECT_EQ(wanted.owners[i].signal, got.owners[i].signal);
    EXPECT_EQ(wanted.owners[i].notify, got.owners[i].notify);
    EXPECT_EQ(wanted.owners[i].async, got.owners[i].async);
  }
  ASSERT_EQ(wanted.locks.size(), got.locks.size());
  for (size_t i = 0; i < wanted.locks.size(); ++i) {
    EXPECT_EQ(wanted.locks[i].description, got.locks[i].description);
    EXPECT_EQ(wanted.locks[i].kind, got.locks[i].kind);
    EXPECT_EQ(wanted.locks[i].exclusive, got.locks[i].exclusive);
    EXPECT_EQ(wanted.locks[i].start, got.locks[i].start);
    EXPECT_EQ(wanted.locks[i].length, got.locks[i].length);
  }
}

}  // namespace

void ExpectSameImage(const Image& wanted, const Image& got) {
  ExpectSameHeader(wanted.header, got.header);
  ExpectSameProcess(wanted.process, got.process);
  ASSERT_EQ(wanted.threads.size(), got.threads.size());
  for (size_t i = 0; i < wanted.threads.size(); ++i) {
    ExpectSameThread(wanted.threads[i], got.threads[i]);
  }
  ExpectSameMemory(wanted, got);
  ExpectSameFiles(wanted, got);
  ExpectSameProgram(wanted.program, got.program);
  ASSERT_EQ(wanted.dynamic_linker.has_value(), got.dynamic_linker.has_value());
  if (wanted.dynamic_linker.has_value()) {
    ExpectSameProgram(*wanted.dynamic_linker, *got.dynamic_linker);
  }
  ASSERT_EQ(wanted.unknown_notes.size(), got.unknown_notes.size());
  for (size_t i = 0; i < wanted.unknown_notes.size(); ++i) {
    EXPECT_EQ(wanted.unknown_notes[i].owner, got.unknown_notes[i].owner);
    EXPECT_EQ(wanted.unknown_notes[i].type, got.unknown_notes[i].type);
    EXPECT_EQ(wanted.unknown_notes[i].descriptor, got.unknown_notes[i].descriptor);
  }
}

TestDirectory::TestDirectory() {
  path_ = testing::TempDir() + "/snapshot-XXXXXX";
  if (mkdtemp(path_.data()) == nullptr) abort();
}

TestDirectory::~TestDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

size_t TestDirectory::Count() const {
  return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
}

std::vector<uint8_t> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void WriteFile(const std::string& path, absl::Span<const uint8_t> bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

absl::StatusOr<Image> ParseFile(const std::string& path) {
  const OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return ParseSnapshot(fd.get());
}

std::vector<uint8_t> SnapshotBytes(const Image& image, const TestMemory& memory) {
  const TestDirectory directory;
  const std::string path = directory.File("snapshot");
  const absl::Status status = WriteSnapshot(image, memory.Source(), path, {.sync = false});
  EXPECT_TRUE(status.ok()) << status;
  return ReadFile(path);
}

size_t HeadSize(absl::Span<const uint8_t> file) {
  Elf64_Ehdr header;
  std::memcpy(&header, file.data(), sizeof(header));
  return header.e_phoff + header.e_phnum * sizeof(Elf64_Phdr);
}

void Reseal(std::vector<uint8_t>* file, bool notes) {
  const auto word = [&](size_t at) { return ByteReader(absl::MakeSpan(*file).subspan(at)).U32(); };
  const auto seal = [&](size_t at, uint64_t checksum) {
    std::memcpy(file->data() + at, &checksum, sizeof(checksum));
  };
  const size_t header_end = size_t{80} + word(68);
  Elf64_Ehdr elf;
  std::memcpy(&elf, file->data(), sizeof(elf));
  // Nothing can be made right of a head that is not in the file.
  if (header_end < 88 || elf.e_phoff > file->size() || HeadSize(*file) > file->size() ||
      header_end > HeadSize(*file)) {
    return;
  }
  for (size_t at = header_end; notes && at + 20 < elf.e_phoff;) {
    const size_t descriptor = at + 12 + (word(at) + 3) / 4 * 4;
    const size_t size = word(at + 4);
    if (descriptor > file->size() || size > file->size() - descriptor) break;
    if (std::memcmp(file->data() + at + 12, "KM", 3) == 0 && size >= 24) {
      seal(descriptor, Checksum({file->data() + descriptor + 8, size - 8}));
    }
    at = descriptor + (size + 3) / 4 * 4;
  }
  const uint64_t of_elf_header = Checksum({file->data(), 64});
  seal(128, Checksum({file->data() + header_end, HeadSize(*file) - header_end}, of_elf_header));
  seal(80, Checksum({file->data() + 88, header_end - 88}));
}

}  // namespace km
