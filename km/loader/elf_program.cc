#include "km/loader/elf_program.h"

#include <elf.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "km/base/status.h"
#include "km/loader/program_path.h"

namespace km {
namespace {

constexpr uint64_t kMaxHeaderBytes = 65536;  // of all program headers, as in the kernel
constexpr uint64_t kMaxAlignment = uint64_t{1} << 30;

// The path without symbolic links. The kernel has it at hand, realpath(3) would walk.
std::string RealPath(int fd, const std::string& path) {
  char buffer[PATH_MAX];
  ssize_t size = readlink(absl::StrCat("/proc/self/fd/", fd).c_str(), buffer, sizeof(buffer));
  if (size > 0 && buffer[0] == '/') return std::string(buffer, static_cast<size_t>(size));
  return realpath(path.c_str(), buffer) != nullptr ? buffer : path;
}

std::string MachineName(uint16_t machine) {
  switch (machine) {
    case EM_386:
      return "32-bit x86";
    case EM_ARM:
      return "32-bit ARM";
    case EM_AARCH64:
      return "ARM64";
    case EM_RISCV:
      return "RISC-V";
    case EM_PPC64:
      return "POWER";
    case EM_S390:
      return "s390x";
    case EM_MIPS:
      return "MIPS";
    case EM_LOONGARCH:
      return "LoongArch";
    default:
      return absl::StrCat("machine number ", machine);
  }
}

// One file on its way to an ElfProgram. Everything is checked before it is used.
class Parser {
 public:
  explicit Parser(const ProgramFile& source) : source_(source) {}

  absl::StatusOr<ElfProgram> Run() {
    program_.path = source_.path;
    program_.file = source_.file;
    program_.alignment = kPageSize;
    KM_RETURN_IF_ERROR(CheckIdentity());
    KM_RETURN_IF_ERROR(CheckHeader());
    KM_RETURN_IF_ERROR(ReadProgramHeaders());
    KM_RETURN_IF_ERROR(TakeProgramHeaders());
    if (program_.segments.empty()) return Refuse("it has nothing to load (no PT_LOAD segment)");
    return std::move(program_);
  }

 private:
  absl::Status Refuse(absl::string_view why) const { return CannotRun(ENOEXEC, source_.path, why); }

  // [offset, offset + size) of the file, from what has been read or from the file.
  absl::Status Read(uint64_t offset, uint64_t size, absl::string_view what, void* to) const;

  absl::Status CheckIdentity() const;
  absl::Status CheckHeader();
  absl::Status ReadProgramHeaders();
  absl::Status TakeProgramHeaders();
  absl::Status TakeSegment(size_t index, const GElf_Phdr& segment);
  absl::Status TakeInterpreter(const GElf_Phdr& segment);

  const ProgramFile& source_;
  Elf64_Ehdr header_ = {};
  ElfProgram program_;
};

absl::Status Parser::Read(uint64_t offset, uint64_t size, absl::string_view what, void* to) const {
  if (offset > source_.size || size > source_.size - offset) {
    return Refuse(
        absl::StrCat("it is cut short: ", what, " end beyond its ", source_.size, " bytes"));
  }
  if (offset + size <= source_.head.size()) {
    memcpy(to, source_.head.data() + offset, size);
    return absl::OkStatus();
  }
  ssize_t got = pread(source_.file->fd.get(), to, size, static_cast<off_t>(offset));
  if (got < 0) return Refuse(absl::StrCat(what, " cannot be read: ", strerror(errno)));
  if (static_cast<uint64_t>(got) != size) return Refuse("it became shorter while it was read");
  return absl::OkStatus();
}

// What tells an ELF file of this machine from others, in the order that gives the clearest message.
absl::Status Parser::CheckIdentity() const {
  const std::vector<uint8_t>& head = source_.head;
  if (head.empty()) return Refuse("it is empty");
  if (head.size() < SELFMAG || memcmp(head.data(), ELFMAG, SELFMAG) != 0) {
    return Refuse("it is neither an ELF program nor a script that starts with '#!'");
  }
  if (head.size() > EI_CLASS && head[EI_CLASS] == ELFCLASS32) {
    return Refuse("it is a 32-bit program, and km runs 64-bit x86 programs only");
  }
  if (head.size() < sizeof(Elf64_Ehdr)) {
    return Refuse(absl::StrCat("it is cut short: ", head.size(),
                               " bytes, and the header of an ELF file has ", sizeof(Elf64_Ehdr)));
  }
  if (head[EI_CLASS] != ELFCLASS64) return Refuse("its ELF class is neither 32-bit nor 64-bit");
  if (head[EI_DATA] != ELFDATA2LSB) {
    return Refuse("it is for a big-endian machine, and km runs 64-bit x86 programs only");
  }
  if (head[EI_VERSION] != EV_CURRENT) {
    return Refuse(absl::StrCat("its ELF version is ", head[EI_VERSION], ", not 1"));
  }
  return absl::OkStatus();
}

absl::Status Parser::CheckHeader() {
  memcpy(&header_, source_.head.data(), sizeof(header_));
  if (header_.e_machine != EM_X86_64) {
    return Refuse(absl::StrCat("it is for another machine (", MachineName(header_.e_machine),
                               "), and km runs 64-bit x86 programs only"));
  }
  if (header_.e_type == ET_CORE) {
    return Refuse("it is a core dump, but not a snapshot that km wrote");
  }
  if (header_.e_type == ET_REL) return Refuse("it is an object file: link it first");
  if (header_.e_type != ET_EXEC && header_.e_type != ET_DYN) {
    return Refuse(absl::StrCat("its ELF type is ", header_.e_type, ", not a program"));
  }
  if (header_.e_entry >= KM_GUEST_END) {
    return Refuse(absl::StrCat("its entry point 0x", absl::Hex(header_.e_entry),
                               " is beyond the addresses of a program"));
  }
  program_.position_independent = header_.e_type == ET_DYN;
  program_.entry = header_.e_entry;
  program_.elf_header.assign(source_.head.begin(), source_.head.begin() + sizeof(header_));
  return absl::OkStatus();
}

absl::Status Parser::ReadProgramHeaders() {
  if (header_.e_phnum == 0) return Refuse("it has no program headers");
  if (header_.e_phentsize != sizeof(Elf64_Phdr)) {
    return Refuse(absl::StrCat("its program headers have ", header_.e_phentsize,
                               " bytes each, not ", sizeof(Elf64_Phdr)));
  }
  uint64_t size = uint64_t{header_.e_phnum} * sizeof(Elf64_Phdr);
  if (size > kMaxHeaderBytes) {
    return Refuse(absl::StrCat("it has ", header_.e_phnum, " program headers; Linux takes at most ",
                               kMaxHeaderBytes / sizeof(Elf64_Phdr)));
  }
  program_.program_headers.resize(size);
  return Read(header_.e_phoff, size, "its program headers", program_.program_headers.data());
}

// libelf gets the headers only, close together and without a section table: sections do not matter
// here, and libelf would allocate for as many as a hostile file claims.
absl::Status Parser::TakeProgramHeaders() {
  Elf64_Ehdr bare = header_;
  bare.e_phoff = sizeof(bare);
  bare.e_shoff = 0;
  bare.e_shnum = bare.e_shstrndx = 0;
  std::vector<char> image(sizeof(bare) + program_.program_headers.size());
  memcpy(image.data(), &bare, sizeof(bare));
  memcpy(image.data() + sizeof(bare), program_.program_headers.data(),
         program_.program_headers.size());

  elf_version(EV_CURRENT);
  Elf* elf = elf_memory(image.data(), image.size());
  auto end = absl::MakeCleanup([elf] { elf_end(elf); });
  size_t count = 0;
  if (elf == nullptr || elf_getphdrnum(elf, &count) != 0) {
    return Refuse(absl::StrCat("its ELF header is damaged: ", elf_errmsg(-1)));
  }
  for (size_t i = 0; i < count; ++i) {
    GElf_Phdr segment;
    if (gelf_getphdr(elf, static_cast<int>(i), &segment) == nullptr) {
      return Refuse(absl::StrCat("program header ", i, " is damaged: ", elf_errmsg(-1)));
    }
    if (segment.p_type == PT_LOAD) KM_RETURN_IF_ERROR(TakeSegment(i, segment));
    if (segment.p_type == PT_INTERP) KM_RETURN_IF_ERROR(TakeInterpreter(segment));
    if (segment.p_type == PT_GNU_STACK) program_.executable_stack = (segment.p_flags & PF_X) != 0;
  }
  return absl::OkStatus();
}

absl::Status Parser::TakeSegment(size_t index, const GElf_Phdr& segment) {
  auto refuse = [&](absl::string_view why) {
    return Refuse(absl::StrCat("segment ", index, " ", why));
  };
  if (segment.p_filesz > segment.p_memsz)
    return refuse("has more bytes in the file than in memory");
  if (segment.p_memsz > KM_GUEST_END || segment.p_vaddr > KM_GUEST_END - segment.p_memsz) {
    return refuse("lies beyond the addresses of a program");
  }
  if (segment.p_memsz == 0) return absl::OkStatus();
  if (segment.p_filesz > 0) {
    if (segment.p_offset > source_.size || segment.p_filesz > source_.size - segment.p_offset) {
      return refuse(
          absl::StrCat("is cut short: it ends beyond the ", source_.size, " bytes of the file"));
    }
    if ((segment.p_vaddr - segment.p_offset) % kPageSize != 0) {
      return refuse("cannot be mapped: its address and its file offset differ modulo 4096");
    }
  }
  if (!program_.segments.empty()) {
    const ElfSegment& last = program_.segments.back();
    if (segment.p_vaddr < last.address) return refuse("is not in ascending order of addresses");
    if (segment.p_vaddr < last.address + last.memory_size)
      return refuse("overlaps the one before it");
  }
  // What is no power of two means nothing (the kernel passes over it, too).
  if (std::has_single_bit(segment.p_align)) {
    program_.alignment = std::max(program_.alignment, std::min(segment.p_align, kMaxAlignment));
  }
  if (segment.p_offset <= header_.e_phoff &&
      header_.e_phoff - segment.p_offset < segment.p_filesz) {
    program_.headers_address = segment.p_vaddr + (header_.e_phoff - segment.p_offset);
  }
  int protection = ((segment.p_flags & PF_R) != 0 ? PROT_READ : 0) |
                   ((segment.p_flags & PF_W) != 0 ? PROT_WRITE : 0) |
                   ((segment.p_flags & PF_X) != 0 ? PROT_EXEC : 0);
  program_.segments.push_back(
      {segment.p_vaddr, segment.p_memsz, segment.p_offset, segment.p_filesz, protection});
  return absl::OkStatus();
}

absl::Status Parser::TakeInterpreter(const GElf_Phdr& segment) {
  if (!program_.interpreter.empty())
    return Refuse("it names more than one interpreter (PT_INTERP)");
  if (segment.p_filesz < 2 || segment.p_filesz > PATH_MAX) {
    return Refuse(
        absl::StrCat("its interpreter's path (PT_INTERP) has ", segment.p_filesz, " bytes"));
  }
  std::string path(segment.p_filesz, '\0');
  KM_RETURN_IF_ERROR(
      Read(segment.p_offset, segment.p_filesz, "the bytes of its interpreter's path", path.data()));
  if (path.back() != '\0')
    return Refuse("its interpreter's path (PT_INTERP) does not end with a NUL");
  path.resize(strlen(path.c_str()));
  if (path.empty()) return Refuse("its interpreter's path (PT_INTERP) is empty");
  program_.interpreter = std::move(path);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ProgramFile> ProgramFile::Open(const std::string& path) {
  // O_NONBLOCK: a FIFO must not make it wait.
  OwnedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd.valid()) {
    if (errno == EACCES)
      return CannotRun(EACCES, path, "you have no right to read it, and km must");
    return CannotRun(errno, path, strerror(errno));
  }
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return CannotRun(errno, path, strerror(errno));
  if (S_ISDIR(info.st_mode)) return CannotRun(EACCES, path, "it is a directory");
  if (!S_ISREG(info.st_mode)) return CannotRun(EACCES, path, "it is not a regular file");

  ProgramFile result;
  result.path = path;
  result.size = static_cast<uint64_t>(info.st_size);
  result.head.resize(kHeadSize);
  ssize_t got = pread(fd.get(), result.head.data(), kHeadSize, 0);
  if (got < 0) return CannotRun(errno, path, absl::StrCat("it cannot be read: ", strerror(errno)));
  result.head.resize(static_cast<size_t>(got));

  auto file = std::make_shared<MappedFile>();
  file->path = RealPath(fd.get(), path);
  file->fd = std::move(fd);
  file->device = info.st_dev;
  file->inode = info.st_ino;
  result.file = std::move(file);
  return result;
}

uint64_t ElfProgram::start() const { return PageDown(segments.front().address); }

uint64_t ElfProgram::end() const {
  return PageUp(segments.back().address + segments.back().memory_size);
}

absl::StatusOr<ElfProgram> ElfProgram::Open(const std::string& path) {
  KM_ASSIGN_OR_RETURN(ProgramFile file, ProgramFile::Open(path));
  return Parse(file);
}

absl::StatusOr<ElfProgram> ElfProgram::Parse(const ProgramFile& file) { return Parser(file).Run(); }

}  // namespace km
