#include "km/loader/load.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "km/kvm/vm.h"

namespace km {
namespace {

// A machine with this very program loaded into it, not running.
class LoadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "/dev/kvm is missing or not ours";
    absl::StatusOr<ResolvedProgram> resolved = ResolveProgram("/proc/self/exe", {"prog", "one"});
    ASSERT_TRUE(resolved.ok()) << resolved.status();
    resolved_ = *std::move(resolved);
  }

  struct Machine {
    std::unique_ptr<Vm> vm;
    std::unique_ptr<GuestMemory> memory;
    std::unique_ptr<AddressSpace> space;
    LoadedProgram loaded;
    std::map<uint64_t, uint64_t> auxv;

    uint64_t Word(uint64_t address) const {
      uint64_t value = 0;
      EXPECT_EQ(memory->CopyIn(&value, GuestAddr(address)), 0) << std::hex << address;
      return value;
    }
    std::string String(uint64_t address) const {
      std::string text;
      EXPECT_EQ(memory->CopyInString(&text, GuestAddr(address), 4096), 0);
      return text;
    }
  };

  void LoadInto(Machine* machine, bool aslr) {
    auto vm = Vm::Create();
    ASSERT_TRUE(vm.ok()) << vm.status();
    machine->vm = *std::move(vm);
    auto memory = GuestMemory::Create(machine->vm.get());
    ASSERT_TRUE(memory.ok()) << memory.status();
    machine->memory = *std::move(memory);
    machine->space = std::make_unique<AddressSpace>();
    machine->space->SetMemory(machine->memory.get());
    auto loaded = Load(resolved_, {{"KEY=value"}, aslr}, *machine->space);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    machine->loaded = *std::move(loaded);
    for (size_t i = 0; i < machine->loaded.auxv.size(); i += 2) {
      machine->auxv[machine->loaded.auxv[i]] = machine->loaded.auxv[i + 1];
    }
  }

  // Every byte that the file gives to `elf` is in the guest; what follows in a writable segment is
  // zero.
  static void ExpectContents(const Machine& machine, const ElfProgram& elf, uint64_t bias) {
    for (const ElfSegment& segment : elf.segments) {
      std::vector<char> file(segment.file_size), guest(segment.memory_size);
      ASSERT_EQ(
          pread(elf.file->fd.get(), file.data(), file.size(), static_cast<off_t>(segment.offset)),
          static_cast<ssize_t>(file.size()));
      ASSERT_EQ(
          machine.memory->CopyIn(guest.data(), GuestAddr(segment.address + bias), guest.size()), 0);
      EXPECT_EQ(memcmp(file.data(), guest.data(), file.size()), 0);
      for (size_t i = file.size(); i < guest.size(); ++i) {
        if (guest[i] != 0) FAIL() << "byte " << i << " of the bss is not zero";
      }
    }
  }

  ResolvedProgram resolved_;
};

TEST_F(LoadTest, SegmentsAndStack) {
  Machine machine;
  ASSERT_NO_FATAL_FAILURE(LoadInto(&machine, true));
  const LoadedProgram& loaded = machine.loaded;
  ExpectContents(machine, resolved_.program, loaded.program.load_bias);
  if (resolved_.interpreter.has_value()) {
    ASSERT_TRUE(loaded.interpreter.has_value());
    ExpectContents(machine, *resolved_.interpreter, loaded.interpreter->load_bias);
    EXPECT_EQ(machine.auxv[AT_BASE], loaded.interpreter->load_bias);
    EXPECT_EQ(loaded.entry, loaded.interpreter->entry);
  }
  EXPECT_EQ(loaded.stack_pointer % 16, 0u);
  EXPECT_EQ(machine.Word(loaded.stack_pointer), 2u);
  EXPECT_EQ(machine.String(machine.Word(loaded.stack_pointer + 8)), "prog");
  EXPECT_EQ(machine.String(machine.Word(loaded.stack_pointer + 32)), "KEY=value");
  EXPECT_EQ(machine.String(machine.auxv[AT_EXECFN]), "/proc/self/exe");
  EXPECT_EQ(machine.auxv[AT_ENTRY], loaded.program.entry);
  EXPECT_EQ(machine.auxv[AT_PHNUM], loaded.program.program_headers.size() / sizeof(Elf64_Phdr));
  std::vector<uint8_t> headers(loaded.program.program_headers.size());
  ASSERT_EQ(
      machine.memory->CopyIn(headers.data(), GuestAddr(machine.auxv[AT_PHDR]), headers.size()), 0);
  EXPECT_EQ(headers, loaded.program.program_headers);
}

TEST_F(LoadTest, Layout) {
  Machine machine;
  ASSERT_NO_FATAL_FAILURE(LoadInto(&machine, true));
  AddressSpace::Layout layout = machine.space->layout();
  EXPECT_EQ(machine.String(layout.arguments_start), "prog");
  EXPECT_EQ(machine.String(layout.environment_start), "KEY=value");
  EXPECT_EQ(layout.brk_start, layout.brk_end);
  EXPECT_GE(layout.brk_start, resolved_.program.end() + machine.loaded.program.load_bias);
  EXPECT_LT(layout.brk_start, layout.mmap_base);
  uint64_t stack_start = 0;
  for (const Mapping& mapping : machine.space->Mappings()) {
    if (mapping.name == "[stack]") {
      stack_start = mapping.start;
      EXPECT_EQ(mapping.end, layout.stack_end);
      EXPECT_EQ(mapping.protection & PROT_EXEC, 0);
    } else {
      EXPECT_LE(mapping.end, layout.mmap_base);
    }
    if (mapping.file != nullptr) {
      EXPECT_EQ(mapping.file->path.front(), '/');
    }
  }
  EXPECT_GE(stack_start, layout.mmap_base + (uint64_t{1} << 20));
  // What is mapped next goes below the interpreter.
  MapRequest request;
  request.length = kPageSize;
  request.protection = PROT_READ;
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  int64_t address = machine.space->Map(request);
  ASSERT_GT(address, 0);
  EXPECT_LT(static_cast<uint64_t>(address), layout.mmap_base);
}

// Compared by where both come to lie: before its bias the program is wherever it was linked to.
TEST_F(LoadTest, AnInterpreterWithAPlaceOfItsOwn) {
  if (!resolved_.program.position_independent || !resolved_.interpreter.has_value()) {
    GTEST_SKIP() << "this program is linked otherwise";
  }
  constexpr uint64_t kPlace = 0x400000;
  ASSERT_LT(kPlace, resolved_.program.end());
  ElfProgram& linker = *resolved_.interpreter;
  linker.position_independent = false;
  linker.entry += kPlace;
  for (ElfSegment& segment : linker.segments) segment.address += kPlace;
  Machine machine;
  ASSERT_NO_FATAL_FAILURE(LoadInto(&machine, true));
  ExpectContents(machine, resolved_.program, machine.loaded.program.load_bias);
}

TEST_F(LoadTest, StackFollowsItsLimit) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_STACK, &before), 0);
  constexpr uint64_t kKiB = 1024, kMiB = 1024 * kKiB;
  struct {
    uint64_t limit, size;
  } cases[] = {{64 * kKiB, 256 * kKiB},    {8 * kMiB, 8 * kMiB},
               {10 * kMiB, 10 * kMiB},     {200 * kMiB + 5, 200 * kMiB + 4096},
               {5000 * kMiB, 1024 * kMiB}, {RLIM_INFINITY, 8 * kMiB}};
  for (const auto& [limit, size] : cases) {
    rlimit changed = {std::min<rlim_t>(limit, before.rlim_max), before.rlim_max};
    if (changed.rlim_cur != limit) continue;
    ASSERT_EQ(setrlimit(RLIMIT_STACK, &changed), 0);
    for (bool aslr : {false, true}) {
      Machine machine;
      LoadInto(&machine, aslr);
      Mapping stack = machine.space->Mappings().back();
      EXPECT_EQ(stack.name, "[stack]");
      EXPECT_EQ(stack.end - stack.start, size);
      EXPECT_LE(machine.space->layout().mmap_base + kMiB, stack.start);
    }
  }
  setrlimit(RLIMIT_STACK, &before);
}

TEST_F(LoadTest, RandomisationCanBeTurnedOff) {
  // One machine at a time: two windows do not fit into a process.
  std::string maps[3];
  std::vector<uint64_t> auxv[3];
  for (int i = 0; i < 3; ++i) {
    Machine machine;
    ASSERT_NO_FATAL_FAILURE(LoadInto(&machine, i == 2));
    maps[i] = machine.space->MapsText();
    auxv[i] = machine.loaded.auxv;
    if (i < 2 && resolved_.program.position_independent) {
      EXPECT_EQ(machine.loaded.program.load_bias, 0x2aaaaaaaa000u);
    }
  }
  EXPECT_EQ(maps[0], maps[1]);
  EXPECT_EQ(auxv[0], auxv[1]);
  EXPECT_NE(maps[0], maps[2]);
  EXPECT_NE(auxv[0], auxv[2]);
}

}  // namespace
}  // namespace km
