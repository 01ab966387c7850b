// An executable ELF file, parsed and checked.
// Source: System V ABI, chapter 5; elf(5); the kernel's fs/binfmt_elf.c for what it accepts.
#ifndef KM_LOADER_ELF_PROGRAM_H_
#define KM_LOADER_ELF_PROGRAM_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "km/memory/address_space.h"

namespace km {

// A file that may be a program: open, with what every format is told by.
struct ProgramFile {
  std::string path;                        // as it was named
  std::shared_ptr<const MappedFile> file;  // whose path has no symbolic links
  uint64_t size = 0;
  std::vector<uint8_t> head;  // the first bytes: kHeadSize, or the whole file
  static constexpr size_t kHeadSize = 4096;

  // Errors (exit code 126): cannot be opened or read, not a regular file.
  static absl::StatusOr<ProgramFile> Open(const std::string& path);
};

struct ElfSegment {                       // a PT_LOAD of more than 0 bytes
  uint64_t address = 0, memory_size = 0;  // address + memory_size <= KM_GUEST_END
  uint64_t offset = 0, file_size = 0;     // within the file; file_size <= memory_size
  int protection = 0;                     // PROT_*
};

struct ElfProgram {
  std::string path;  // as it was named
  std::shared_ptr<const MappedFile> file;
  std::vector<uint8_t> elf_header;       // Elf64_Ehdr, 64 bytes
  std::vector<uint8_t> program_headers;  // Elf64_Phdr, 56 bytes each
  std::vector<ElfSegment> segments;      // one at least; ascending, not overlapping
  bool position_independent = false;     // ET_DYN
  bool executable_stack = false;
  uint64_t entry = 0;            // below KM_GUEST_END
  uint64_t headers_address = 0;  // where a segment holds the program headers; 0: none does
  uint64_t alignment = 0;        // what its segments need: a power of two, 4 KiB to 1 GiB
  std::string interpreter;       // empty: it needs none

  // The pages of all segments: [start, end).
  uint64_t start() const;
  uint64_t end() const;

  // Errors (exit code 126) name the file and what is wrong with it.
  static absl::StatusOr<ElfProgram> Open(const std::string& path);
  static absl::StatusOr<ElfProgram> Parse(const ProgramFile& file);
};

}  // namespace km

#endif  // KM_LOADER_ELF_PROGRAM_H_
