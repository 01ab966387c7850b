#include "km/snapshot/head.h"

#include <elf.h>
#include <km/notes.h>

#include <cstring>

#include "absl/strings/str_format.h"
#include "km/base/bytes.h"
#include "km/base/status.h"
#include "km/snapshot/checksum.h"

namespace km {
namespace {

constexpr size_t kElfHeaderSize = sizeof(Elf64_Ehdr);
constexpr size_t kHeaderDescriptor =
    kElfHeaderSize + kNoteHeaderSize + 4;  // behind "KM" and padding
constexpr size_t kHeaderRecords = kHeaderDescriptor + kNotePrefixSize;
static_assert(kHeaderRecords + sizeof(km_record) == KM_SNAPSHOT_MAGIC_OFFSET);
static_assert(kHeaderRecords + 2 * sizeof(km_record) + KM_SNAPSHOT_MAGIC_SIZE ==
              KM_SNAPSHOT_HEAD_CHECKSUM_OFFSET);

uint64_t WordAt(absl::Span<const uint8_t> head, size_t offset) {
  return ByteReader(head.subspan(offset)).U64();
}

// The head's checksum is of everything but the header note, which has its own and holds this one.
// `header_end` is where the header note ends.
uint64_t HeadChecksum(absl::Span<const uint8_t> head, size_t header_end) {
  const uint64_t of_elf_header = Checksum(head.first(kElfHeaderSize));
  return Checksum(head.subspan(header_end), of_elf_header);
}

Elf64_Ehdr ElfHeader(uint64_t program_headers, size_t count) {
  Elf64_Ehdr header = {};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_ident[EI_VERSION] = EV_CURRENT;
  header.e_type = ET_CORE;
  header.e_machine = EM_X86_64;
  header.e_version = EV_CURRENT;
  header.e_phoff = program_headers;
  header.e_ehsize = sizeof(Elf64_Ehdr);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = static_cast<uint16_t>(count);
  return header;
}

template <typename T>
absl::Span<const uint8_t> BytesOf(const T& value) {
  return {reinterpret_cast<const uint8_t*>(&value), sizeof(value)};
}

void ProgramHeaders(absl::Span<const Segment> segments, uint64_t notes_size, ByteWriter* out) {
  const Elf64_Phdr notes = {.p_type = PT_NOTE,
                            .p_flags = 0,
                            .p_offset = kElfHeaderSize,
                            .p_vaddr = 0,
                            .p_paddr = 0,
                            .p_filesz = notes_size,
                            .p_memsz = 0,
                            .p_align = 4};
  out->Bytes(BytesOf(notes));
  for (const Segment& segment : segments) {
    const Elf64_Phdr load = {.p_type = PT_LOAD,
                             .p_flags = segment.flags,
                             .p_offset = segment.file_offset,
                             .p_vaddr = segment.address,
                             .p_paddr = 0,
                             .p_filesz = segment.file_size,
                             .p_memsz = segment.memory_size,
                             .p_align = kPageSize};
    out->Bytes(BytesOf(load));
  }
}

// Fills in the head's checksum, and that of the header note, which covers it.
void Seal(size_t header_end, ByteWriter* out) {
  out->PatchU64(KM_SNAPSHOT_HEAD_CHECKSUM_OFFSET, HeadChecksum(out->span(), header_end));
  const size_t covered = kHeaderDescriptor + sizeof(uint64_t);
  const uint64_t checksum = Checksum(out->span().subspan(covered, header_end - covered));
  out->PatchU64(kHeaderDescriptor, checksum);
}

// Where the header note ends, or an error when it is not whole.
absl::StatusOr<size_t> CheckHeaderNote(absl::Span<const uint8_t> head) {
  if (head.size() < kHeaderRecords) {
    return absl::DataLossError("the snapshot is cut short: it ends within its header note");
  }
  ByteReader reader(head.subspan(kElfHeaderSize));
  const uint32_t name_size = reader.U32();
  const uint32_t descriptor_size = reader.U32();
  const uint32_t type = reader.U32();
  const absl::Span<const uint8_t> name = reader.Bytes(4);
  const absl::Span<const uint8_t> descriptor = reader.Bytes(descriptor_size);
  // Records are padded to multiples of 8, so there is no padding behind the descriptor.
  if (!reader.ok() || descriptor_size < kNotePrefixSize || descriptor_size % 8 != 0) {
    return absl::DataLossError(
        "the snapshot is cut short or damaged: its header note is not whole");
  }
  if (name_size != sizeof(KM_NOTE_OWNER) || type != NT_KM_HEADER ||
      std::memcmp(name.data(), KM_NOTE_OWNER "\0", 4) != 0) {
    return absl::DataLossError("the snapshot is damaged: its first note is not NT_KM_HEADER");
  }
  ByteReader prefix(descriptor);
  const uint64_t checksum = prefix.U64();
  if (checksum != Checksum(prefix.rest())) {
    return absl::DataLossError("the snapshot is damaged: the checksum of NT_KM_HEADER is wrong");
  }
  prefix.U32();
  if (const uint32_t minimum = prefix.U32(); minimum > KM_NOTE_VERSION) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the snapshot was made by a newer km: its NT_KM_HEADER needs a reader of "
                        "version %u, and this "
                        "one knows version %u",
                        minimum, KM_NOTE_VERSION));
  }
  return kHeaderDescriptor + descriptor_size;
}

}  // namespace

std::vector<uint8_t> EncodeHead(const Image& image, absl::Span<const Segment> segments,
                                const MemoryFacts& facts) {
  const bool is_snapshot = !image.fatal_signal.has_value();
  ByteWriter out;
  out.Zeros(kElfHeaderSize);
  if (is_snapshot) EncodeHeaderNote(image.header, facts.file_length, &out);
  const size_t header_end = out.size();
  EncodeStandardNotes(image, &out);
  if (is_snapshot) EncodeKmNotes(image, facts.checksums, facts.working_set, &out);
  const size_t notes_size = out.size() - kElfHeaderSize;
  out.Align(alignof(Elf64_Phdr));
  const Elf64_Ehdr header = ElfHeader(out.size(), segments.size() + 1);
  out.Patch(0, BytesOf(header));
  ProgramHeaders(segments, notes_size, &out);
  if (is_snapshot) Seal(header_end, &out);
  return out.Take();
}

absl::StatusOr<HeaderNote> DecodeHeader(absl::Span<const uint8_t> head) {
  KM_ASSIGN_OR_RETURN(const size_t header_end, CheckHeaderNote(head));
  HeaderNote header;
  ByteReader records(head.subspan(kHeaderRecords, header_end - kHeaderRecords));
  if (const absl::Status status = DecodeHeaderNote(records, &header); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat("NT_KM_HEADER: ", status.message()));
  }
  return header;
}

absl::StatusOr<HeaderNote> CheckHead(absl::Span<const uint8_t> head) {
  KM_ASSIGN_OR_RETURN(const size_t header_end, CheckHeaderNote(head));
  Elf64_Ehdr elf;
  std::memcpy(&elf, head.data(), sizeof(elf));
  const uint64_t headers_size = uint64_t{elf.e_phnum} * sizeof(Elf64_Phdr);
  if (elf.e_phoff < header_end || elf.e_phoff > head.size() ||
      headers_size > head.size() - elf.e_phoff) {
    return absl::DataLossError(
        "the snapshot is cut short or damaged: its program headers are not within the file");
  }
  const uint64_t checksum = WordAt(head, KM_SNAPSHOT_HEAD_CHECKSUM_OFFSET);
  if (checksum != HeadChecksum(head.first(elf.e_phoff + headers_size), header_end)) {
    return absl::DataLossError(
        "the snapshot is damaged: the checksum of its ELF header, notes and program headers is "
        "wrong");
  }
  return DecodeHeader(head);
}

}  // namespace km
