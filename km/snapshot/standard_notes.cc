// The notes of a core dump as Linux writes it (fs/binfmt_elf.c, <sys/procfs.h>, core(5)).
#include <elf.h>
#include <sys/mman.h>
#include <sys/procfs.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "absl/strings/str_format.h"
#include "km/snapshot/layout.h"
#include "km/snapshot/notes.h"

namespace km {
namespace {

constexpr absl::string_view kCore = "CORE";
constexpr absl::string_view kLinux = "LINUX";

// <sys/user.h> and the Intel SDM, volume 1, 13.4: the XSAVE area.
constexpr size_t kLegacySize = 512;
constexpr size_t kSoftwareOffset = 464;  // 48 bytes that the processor leaves alone
constexpr size_t kXstateBvOffset = 512;
constexpr size_t kXcompBvOffset = 520;
constexpr size_t kXsaveHeaderEnd = 576;
constexpr uint64_t kClassicComponents = 0x3ff;  // x87 ... PKRU

static_assert(sizeof(elf_prstatus) == 336 && sizeof(elf_prpsinfo) == 136);
static_assert(sizeof(elf_gregset_t) == sizeof(Registers));
static_assert(kMinXsaveSize == kXsaveHeaderEnd);

template <typename T>
void Note(absl::string_view owner, uint32_t type, const T& value, ByteWriter* out) {
  static_assert(std::is_trivially_copyable_v<T>);
  const size_t note = BeginNote(owner, type, out);
  out->Bytes({reinterpret_cast<const uint8_t*>(&value), sizeof(value)});
  EndNote(note, out);
}

// Copies at most N - 1 characters, so that a NUL remains.
template <size_t N>
void CopyText(absl::string_view text, char (&to)[N]) {
  std::memcpy(to, text.data(), std::min(text.size(), N - 1));
}

int32_t SignalNumber(const SignalInfoBytes& info) {
  int32_t number;
  std::memcpy(&number, info.data(), sizeof(number));
  return number;
}

uint64_t Signals(const std::vector<SignalInfoBytes>& pending) {
  uint64_t set = 0;
  for (const SignalInfoBytes& info : pending) {
    const int32_t number = SignalNumber(info);
    if (number >= 1 && number <= kSignalCount) set |= uint64_t{1} << (number - 1);
  }
  return set;
}

void Prstatus(const Image& image, const ImageThread& thread, ByteWriter* out) {
  elf_prstatus status = {};
  if (image.fatal_signal.has_value()) {
    status.pr_info.si_signo = SignalNumber(*image.fatal_signal);
    status.pr_cursig = static_cast<int16_t>(status.pr_info.si_signo);
  }
  status.pr_sigpend = Signals(thread.pending);
  status.pr_sighold = thread.signal_mask;
  status.pr_pid = static_cast<int32_t>(thread.tid);
  status.pr_ppid = static_cast<int32_t>(image.process.parent_pid);
  status.pr_pgrp = static_cast<int32_t>(image.process.process_group);
  status.pr_sid = static_cast<int32_t>(image.process.session);
  std::memcpy(&status.pr_reg, &thread.registers, sizeof(status.pr_reg));
  status.pr_fpvalid = 1;
  Note(kCore, NT_PRSTATUS, status, out);
}

void Prpsinfo(const ImageProcess& process, ByteWriter* out) {
  elf_prpsinfo info = {};
  info.pr_sname = 'R';
  info.pr_uid = process.uid;
  info.pr_gid = process.gid;
  info.pr_pid = static_cast<int32_t>(process.pid);
  info.pr_ppid = static_cast<int32_t>(process.parent_pid);
  info.pr_pgrp = static_cast<int32_t>(process.process_group);
  info.pr_sid = static_cast<int32_t>(process.session);
  CopyText(process.comm, info.pr_fname);
  CopyText(process.command_line, info.pr_psargs);
  Note(kCore, NT_PRPSINFO, info, out);
}

void Auxv(const std::vector<uint64_t>& auxv, ByteWriter* out) {
  const size_t note = BeginNote(kCore, NT_AUXV, out);
  for (const uint64_t word : auxv) out->U64(word);
  EndNote(note, out);
}

bool MapsFile(const ImageMapping& mapping) {
  return (mapping.flags & MAP_ANONYMOUS) == 0 && mapping.name.starts_with('/');
}

struct FileEntry {
  uint64_t start, end, offset;
  const std::string* name;
};

// Memory of a base is shown as a mapping of that file: gdb reads it there.
std::vector<FileEntry> FileEntries(const Image& image) {
  std::vector<FileEntry> entries;
  size_t next = 0;
  for (const ImageMapping& mapping : image.mappings) {
    uint64_t at = mapping.start;
    auto add_to = [&](uint64_t end) {
      if (!MapsFile(mapping) || at >= end) return;
      entries.push_back({at, end, mapping.file_offset + (at - mapping.start), &mapping.name});
    };
    for (; next < image.base_memory.size() && image.base_memory[next].address < mapping.end;
         ++next) {
      const ImageBaseMemory& piece = image.base_memory[next];
      add_to(piece.address);
      at = piece.address + piece.size;
      entries.push_back({piece.address, at, piece.file_offset, &image.bases[piece.base].path});
    }
    add_to(mapping.end);
  }
  return entries;
}

void File(const Image& image, ByteWriter* out) {
  const std::vector<FileEntry> entries = FileEntries(image);
  const size_t note = BeginNote(kCore, NT_FILE, out);
  out->U64(entries.size());
  out->U64(kPageSize);
  for (const FileEntry& entry : entries) {
    out->U64(entry.start);
    out->U64(entry.end);
    out->U64(entry.offset / kPageSize);
  }
  for (const FileEntry& entry : entries) {
    out->Text(*entry.name);
    out->Zeros(1);
  }
  EndNote(note, out);
}

uint64_t Word(absl::Span<const uint8_t> bytes, size_t offset) {
  uint64_t word;
  std::memcpy(&word, bytes.data() + offset, sizeof(word));
  return word;
}

// How much of an area is worth a note, given the components of the processor and those in use.
// Debuggers expect the size that the classic components have, so what lies behind them (AMX's 8
// KiB) is there only when it is in use.
size_t UsefulXsaveSize(uint64_t components, uint64_t in_use, size_t size) {
  if ((in_use & ~kClassicComponents) != 0) return size;
  constexpr struct {
    uint64_t components;
    size_t size;
  } kSizes[] = {{0x200, 2696}, {0xe0, 2688}, {0x18, 1088}, {0x4, 832}};
  for (const auto& row : kSizes) {
    if ((components & row.components) != 0) return std::min(size, row.size);
  }
  return std::min(size, kXsaveHeaderEnd);
}

void FloatingPoint(const ImageThread& thread, uint64_t xcr0, ByteWriter* out) {
  std::vector<uint8_t> area = thread.xsave;
  area.resize(std::max(area.size(), kXsaveHeaderEnd));
  std::fill(area.begin() + kSoftwareOffset, area.begin() + kLegacySize, uint8_t{0});
  size_t note = BeginNote(kCore, NT_FPREGSET, out);
  out->Bytes({area.data(), kLegacySize});
  EndNote(note, out);

  const uint64_t in_use = Word(area, kXstateBvOffset);
  area.resize(UsefulXsaveSize(xcr0, in_use, area.size()));
  // The kernel says here which components the area has room for, and debuggers rely on it.
  const uint64_t components = xcr0 & (kClassicComponents | in_use);
  std::memcpy(area.data() + kSoftwareOffset, &components, sizeof(components));
  note = BeginNote(kLinux, NT_X86_XSTATE, out);
  out->Bytes(area);
  EndNote(note, out);
}

}  // namespace

void EncodeStandardNotes(const Image& image, ByteWriter* out) {
  for (size_t i = 0; i < image.threads.size(); ++i) {
    Prstatus(image, image.threads[i], out);
    if (i == 0) {
      Prpsinfo(image.process, out);
      Note(kCore, NT_SIGINFO, image.fatal_signal.value_or(SignalInfoBytes{}), out);
      Auxv(image.process.auxv, out);
      File(image, out);
    }
    FloatingPoint(image.threads[i], image.header.xcr0, out);
  }
}

namespace {

// Of 48 bits. The machine takes no other, and a program can make none of its own.
bool Canonical(uint64_t address) {
  return static_cast<uint64_t>(static_cast<int64_t>(address << 16) >> 16) == address;
}

}  // namespace

absl::Status DecodePrstatus(absl::Span<const uint8_t> descriptor, ImageThread* thread) {
  elf_prstatus status;
  if (descriptor.size() != sizeof(status)) {
    return absl::DataLossError(absl::StrFormat("it has %u bytes", descriptor.size()));
  }
  std::memcpy(&status, descriptor.data(), sizeof(status));
  thread->tid = static_cast<uint32_t>(status.pr_pid);
  std::memcpy(static_cast<void*>(&thread->registers), &status.pr_reg, sizeof(thread->registers));
  const Registers& registers = thread->registers;
  if (Canonical(registers.fs_base) && Canonical(registers.gs_base)) return absl::OkStatus();
  return absl::DataLossError(absl::StrFormat(
      "the bases of FS (%#x) and GS (%#x) are not both addresses that the processor has",
      registers.fs_base, registers.gs_base));
}

absl::Status DecodeXsave(absl::Span<const uint8_t> descriptor, uint64_t xcr0, ImageThread* thread) {
  if (descriptor.size() < kMinXsaveSize || descriptor.size() > kMaxXsaveSize) {
    return absl::DataLossError(absl::StrFormat("it has %u bytes", descriptor.size()));
  }
  const uint64_t in_use = Word(descriptor, kXstateBvOffset);
  if ((in_use & ~xcr0) != 0) {
    return absl::DataLossError(
        absl::StrFormat("components %#x are in use, but XCR0 is %#x", in_use, xcr0));
  }
  for (size_t offset = kXcompBvOffset; offset < kXsaveHeaderEnd; offset += sizeof(uint64_t)) {
    if (Word(descriptor, offset) != 0) {
      return absl::DataLossError("it is not in XSAVE's standard format");
    }
  }
  thread->xsave.assign(descriptor.begin(), descriptor.end());
  return absl::OkStatus();
}

absl::Status DecodeAuxv(absl::Span<const uint8_t> descriptor, std::vector<uint64_t>* auxv) {
  ByteReader reader(descriptor);
  auxv->clear();
  while (!reader.empty()) auxv->push_back(reader.U64());
  const size_t size = auxv->size();
  if (!reader.ok() || size % 2 != 0 || size < 2 || (*auxv)[size - 2] != AT_NULL) {
    return absl::DataLossError("it is no vector of pairs that ends with AT_NULL");
  }
  return absl::OkStatus();
}

}  // namespace km
