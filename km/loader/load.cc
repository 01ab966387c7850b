#include "km/loader/load.h"

#include <cpuid.h>
#include <elf.h>
#include <km/layout.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "km/base/status.h"
#include "km/loader/initial_stack.h"
#include "km/loader/program_path.h"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

namespace km {
namespace {

// Sizes and ranges are those of the kernel's arch/x86/mm/mmap.c and fs/binfmt_elf.c, but for the
// stack's place.
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kTop = KM_PLACED_END - kPageSize;
constexpr uint64_t kProgramBase = PageDown(kTop / 3 * 2);  // of what can lie anywhere
constexpr uint64_t kMapRandomPages = uint64_t{1} << 28;
constexpr uint64_t kStackRandomPages = uint64_t{1} << 28;
constexpr uint64_t kMaxStackAlignment = 64 * kMiB;
constexpr uint64_t kBrkRandomPages = (uint64_t{1} << 30) / kPageSize;
constexpr uint64_t kStackShift = 8192;
constexpr uint64_t kStackGuard = kMiB;
constexpr uint64_t kMinStackGap = 128 * kMiB;
constexpr uint64_t kUnlimitedStack = 8 * kMiB;
constexpr uint64_t kMaxStack = 1024 * kMiB;
// Limits of the arguments: between 128 KiB and 6 MiB, a quarter of the stack.
constexpr uint64_t kMinArguments = 128 << 10;
constexpr uint64_t kMaxArguments = 6 * kMiB;

// Drawn at once: one system call.
struct Randomness {
  std::array<uint8_t, 16> for_program{};  // AT_RANDOM
  uint64_t program = 0, mmap = 0, stack = 0, brk = 0, shift = 0;
};

absl::StatusOr<Randomness> DrawRandomness(bool aslr) {
  Randomness random;
  if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
    return ErrnoStatus(errno, "cannot draw random bytes for the program");
  }
  if (!aslr) random.program = random.mmap = random.stack = random.brk = random.shift = 0;
  return random;
}

uint64_t StackLimit() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return kUnlimitedStack;
  }
  return std::min<uint64_t>(limit.rlim_cur, kMaxStack);
}

// Where everything goes, decided before anything is mapped.
struct Plan {
  uint64_t program_bias = 0, interpreter_bias = 0;
  uint64_t stack_start = 0, argument_limit = 0;
  AddressSpace::Layout layout;
};

uint64_t AlignDown(uint64_t value, uint64_t alignment) { return value & ~(alignment - 1); }

absl::StatusOr<Plan> MakePlan(const ResolvedProgram& resolved, const Randomness& random,
                              bool aslr) {
  const ElfProgram& program = resolved.program;
  Plan plan;
  AddressSpace::Layout& layout = plan.layout;
  uint64_t stack_limit = StackLimit();
  plan.argument_limit = std::clamp(stack_limit / 4, kMinArguments, kMaxArguments);
  uint64_t stack_size = PageUp(std::max(stack_limit, plan.argument_limit + kMinArguments));
  // Aligned, so that one memory slot and few page tables serve it (three slots take 40 us, a third
  // of the loader's time). What that takes of the randomness, the wider range gives back.
  uint64_t stack_alignment = std::min(std::bit_floor(stack_size), kMaxStackAlignment);
  layout.stack_end =
      AlignDown(kTop - random.stack % kStackRandomPages * kPageSize, stack_alignment);
  plan.stack_start = layout.stack_end - stack_size;
  uint64_t gap = std::max(stack_size + stack_alignment, kMinStackGap) + kStackGuard;
  if (aslr) gap += kStackRandomPages * kPageSize;
  layout.mmap_base = kTop - PageUp(gap) - random.mmap % kMapRandomPages * kPageSize;

  if (program.position_independent) {
    uint64_t base = kProgramBase + random.program % kMapRandomPages * kPageSize;
    plan.program_bias = AlignDown(base - program.start(), program.alignment);
  }
  uint64_t start = program.start() + plan.program_bias, end = program.end() + plan.program_bias;
  uint64_t ceiling = layout.mmap_base;
  if (resolved.interpreter.has_value()) {
    // The first mapping without an address would get just this place.
    const ElfProgram& linker = *resolved.interpreter;
    if (linker.position_independent) {
      uint64_t size = linker.end() - linker.start();
      if (size >= layout.mmap_base / 4) {
        return CannotRun(ENOMEM, program.path, "its interpreter is larger than the address space");
      }
      plan.interpreter_bias = AlignDown(layout.mmap_base - size - linker.start(), linker.alignment);
      ceiling = plan.interpreter_bias + linker.start();
    } else if (linker.start() < end && start < linker.end()) {
      return CannotRun(ENOEXEC, program.path, "it overlaps its interpreter");
    }
  }
  uint64_t brk_room = kBrkRandomPages * kPageSize;
  if (end < start || end > ceiling - brk_room) {
    return CannotRun(ENOMEM, program.path, "its segments do not fit below the stack");
  }
  layout.brk_start = end + random.brk % kBrkRandomPages * kPageSize;
  layout.brk_end = layout.brk_start;
  return plan;
}

absl::Status MapOrFail(AddressSpace& space, const MapRequest& request, const std::string& path) {
  int64_t result = space.Map(request);
  if (result >= 0) return absl::OkStatus();
  return ErrnoStatus(static_cast<int>(-result),
                     absl::StrCat("cannot map ", request.length, " bytes at 0x",
                                  absl::Hex(request.address), " for '", path, "'"));
}

// The file's pages, then pages of zeros. As in the kernel, what is beyond the file's bytes is
// writable whatever the segment is, and the rest of the last page of the file is cleared only where
// it can be written.
absl::Status MapSegment(const ElfProgram& elf, const ElfSegment& segment, uint64_t bias,
                        AddressSpace& space) {
  uint64_t start = PageDown(segment.address + bias);
  uint64_t file_end = segment.address + bias + segment.file_size;
  uint64_t end = PageUp(segment.address + bias + segment.memory_size);
  uint64_t zeros = start;
  if (segment.file_size > 0) {
    MapRequest request;
    request.address = start;
    request.length = PageUp(file_end) - start;
    request.protection = segment.protection;
    request.flags = MAP_PRIVATE | MAP_FIXED;
    request.host_fd = elf.file->fd.get();
    request.offset = PageDown(segment.offset);
    request.file = elf.file;
    KM_RETURN_IF_ERROR(MapOrFail(space, request, elf.path));
    zeros = PageUp(file_end);
    if (segment.memory_size > segment.file_size && (segment.protection & PROT_WRITE) != 0) {
      static constexpr std::array<uint8_t, kPageSize> kZeros{};
      int error = space.memory().CopyOut(GuestAddr(file_end), kZeros.data(), zeros - file_end);
      if (error != 0) return ErrnoStatus(-error, absl::StrCat("cannot read '", elf.path, "'"));
    }
  }
  if (zeros >= end) return absl::OkStatus();
  MapRequest request;
  request.address = zeros;
  request.length = end - zeros;
  request.protection = PROT_READ | PROT_WRITE | (segment.protection & PROT_EXEC);
  request.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
  return MapOrFail(space, request, elf.path);
}

absl::Status MapSegments(const ElfProgram& elf, uint64_t bias, AddressSpace& space) {
  for (const ElfSegment& segment : elf.segments) {
    KM_RETURN_IF_ERROR(MapSegment(elf, segment, bias, space));
  }
  return absl::OkStatus();
}

// As the kernel gives it. getauxval does not: glibc keeps something else in its place.
uint64_t HardwareCapabilities() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  __get_cpuid(1, &eax, &ebx, &ecx, &edx);
  return edx;
}

// In the kernel's order. What depends on the stack is filled in there.
std::vector<uint64_t> MakeAuxv(const ResolvedProgram& resolved, const Plan& plan) {
  const ElfProgram& program = resolved.program;
  uint64_t base = 0;
  if (resolved.interpreter.has_value()) base = plan.interpreter_bias;
  uint64_t headers = program.headers_address;
  if (headers != 0 || program.position_independent) headers += plan.program_bias;
  return {AT_SYSINFO_EHDR, KM_VDSO_ADDRESS,
          AT_MINSIGSTKSZ,  getauxval(AT_MINSIGSTKSZ),
          AT_HWCAP,        HardwareCapabilities(),
          AT_PAGESZ,       kPageSize,
          AT_CLKTCK,       100,
          AT_PHDR,         headers,
          AT_PHENT,        sizeof(Elf64_Phdr),
          AT_PHNUM,        program.program_headers.size() / sizeof(Elf64_Phdr),
          AT_BASE,         base,
          AT_FLAGS,        0,
          AT_ENTRY,        program.entry + plan.program_bias,
          AT_UID,          getauxval(AT_UID),
          AT_EUID,         getauxval(AT_EUID),
          AT_GID,          getauxval(AT_GID),
          AT_EGID,         getauxval(AT_EGID),
          AT_SECURE,       0,
          AT_RANDOM,       0,
          AT_HWCAP2,       getauxval(AT_HWCAP2),
          AT_EXECFN,       0,
          AT_PLATFORM,     0};
}

absl::Status MapStack(const ElfProgram& program, const Plan& plan, const InitialStack& stack,
                      AddressSpace& space) {
  MapRequest request;
  request.address = plan.stack_start;
  request.length = plan.layout.stack_end - plan.stack_start;
  request.protection = PROT_READ | PROT_WRITE | (program.executable_stack ? PROT_EXEC : 0);
  request.flags =
      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE | MAP_STACK | MAP_GROWSDOWN;
  request.name = "[stack]";
  KM_RETURN_IF_ERROR(MapOrFail(space, request, program.path));
  int error = space.memory().CopyOut(GuestAddr(stack.stack_pointer), stack.bytes.data(),
                                     stack.bytes.size());
  if (error != 0) return ErrnoStatus(-error, "cannot write the program's first stack");
  return absl::OkStatus();
}

LoadedElf Describe(const ElfProgram& elf, uint64_t bias) {
  return {elf.file->path, bias, elf.entry + bias, elf.elf_header, elf.program_headers, elf.file};
}

}  // namespace

absl::StatusOr<LoadedProgram> Load(const ResolvedProgram& resolved, const LoadOptions& options,
                                   AddressSpace& space) {
  KM_ASSIGN_OR_RETURN(Randomness random, DrawRandomness(options.aslr));
  KM_ASSIGN_OR_RETURN(Plan plan, MakePlan(resolved, random, options.aslr));
  StackContents contents{resolved.arguments,       options.environment, resolved.exec_fn,
                         MakeAuxv(resolved, plan), random.for_program,  random.shift % kStackShift};
  KM_ASSIGN_OR_RETURN(InitialStack stack,
                      BuildInitialStack(contents, plan.layout.stack_end, plan.argument_limit));
  plan.layout.arguments_start = stack.arguments_start;
  plan.layout.arguments_end = stack.arguments_end;
  plan.layout.environment_start = stack.environment_start;
  plan.layout.environment_end = stack.environment_end;

  space.SetLayout(plan.layout);
  KM_RETURN_IF_ERROR(MapStack(resolved.program, plan, stack, space));
  KM_RETURN_IF_ERROR(MapSegments(resolved.program, plan.program_bias, space));
  if (resolved.interpreter.has_value()) {
    KM_RETURN_IF_ERROR(MapSegments(*resolved.interpreter, plan.interpreter_bias, space));
  }

  LoadedProgram loaded;
  loaded.program = Describe(resolved.program, plan.program_bias);
  loaded.entry = loaded.program.entry;
  if (resolved.interpreter.has_value()) {
    loaded.interpreter = Describe(*resolved.interpreter, plan.interpreter_bias);
    loaded.entry = loaded.interpreter->entry;
  }
  loaded.stack_pointer = stack.stack_pointer;
  loaded.auxv = std::move(stack.auxv);
  loaded.arguments = resolved.arguments;
  loaded.exec_path = loaded.program.path;
  loaded.exec_fn = resolved.exec_fn;
  return loaded;
}

}  // namespace km
