#include "km/snapshot/parser.h"

#include <elf.h>
#include <gelf.h>
#include <km/layout.h>
#include <km/notes.h>
#include <libelf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "km/base/bytes.h"
#include "km/base/status.h"
#include "km/snapshot/checksum.h"
#include "km/snapshot/head.h"
#include "km/snapshot/layout.h"
#include "km/snapshot/notes.h"

namespace km {
namespace {

// Notes hold a few KiB a thread and some bytes a mapping and a chunk of memory; this is room for
// 100,000 threads. A file that wants more is refused before memory is allocated for it.
constexpr uint64_t kMaxHeadSize = uint64_t{512} << 20;

struct ElfCloser {
  void operator()(Elf* elf) const { elf_end(elf); }
};
using OwnedElf = std::unique_ptr<Elf, ElfCloser>;

absl::Status Named(absl::string_view note, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(
      status.code(), absl::StrCat("the snapshot's note ", note, " is damaged: ", status.message()));
}

// Decodes the notes of one file. Their order matters only where NT_X86_XSTATE follows its
// NT_PRSTATUS.
class NoteDecoder {
 public:
  NoteDecoder(HeaderNote header, Image* image) : image_(image) {
    image_->header = std::move(header.header);
  }

  absl::Status Decode(absl::string_view owner, uint32_t type,
                      absl::Span<const uint8_t> descriptor) {
    if (owner == KM_NOTE_OWNER) return DecodeKm(type, descriptor);
    if (owner == "CORE" && type == NT_PRSTATUS) {
      image_->threads.emplace_back();
      return Named("NT_PRSTATUS", DecodePrstatus(descriptor, &image_->threads.back()));
    }
    if (owner == "CORE" && type == NT_AUXV) {
      KM_RETURN_IF_ERROR(Once(type));
      return Named("NT_AUXV", DecodeAuxv(descriptor, &image_->process.auxv));
    }
    if (owner == "LINUX" && type == NT_X86_XSTATE) {
      if (image_->threads.empty() || !image_->threads.back().xsave.empty()) {
        return absl::DataLossError("the snapshot has a note NT_X86_XSTATE without NT_PRSTATUS");
      }
      return Named("NT_X86_XSTATE",
                   DecodeXsave(descriptor, image_->header.xcr0, &image_->threads.back()));
    }
    // Made of what other notes say, for debuggers, and made anew with every snapshot.
    constexpr std::array<uint32_t, 4> kDerived = {NT_PRPSINFO, NT_SIGINFO, NT_FILE, NT_FPREGSET};
    if (owner == "CORE" && std::count(kDerived.begin(), kDerived.end(), type) != 0) {
      return absl::OkStatus();
    }
    return Keep(owner, type, descriptor);
  }

  // After the last note: joins the threads' halves and misses what is not there.
  absl::Status Finish() {
    for (const uint32_t type : {NT_KM_HEADER, NT_KM_GUEST, NT_KM_PROCESS, NT_KM_SIGNALS,
                                NT_KM_MAPPINGS, NT_KM_FILES, NT_KM_CHECKSUMS}) {
      if (!seen_.contains(type)) {
        return absl::DataLossError(absl::StrCat("the snapshot has no note ", NoteName(type)));
      }
    }
    if (image_->threads.empty() || image_->process.auxv.empty()) {
      return absl::DataLossError("the snapshot has no note NT_PRSTATUS or NT_AUXV");
    }
    absl::flat_hash_set<uint32_t> tids;
    for (ImageThread& thread : image_->threads) {
      const auto vcpu = vcpus_.find(thread.tid);
      if (thread.tid == 0 || thread.tid > INT32_MAX || !tids.insert(thread.tid).second ||
          vcpu == vcpus_.end() || thread.xsave.empty()) {
        return absl::DataLossError(
            absl::StrFormat("the snapshot's thread %u is there twice, or has no note NT_KM_VCPU or "
                            "NT_X86_XSTATE",
                            thread.tid));
      }
      vcpu->second.registers = thread.registers;
      vcpu->second.xsave = std::move(thread.xsave);
      thread = std::move(vcpu->second);
    }
    if (vcpus_.size() == tids.size()) return CheckSegments(*image_);
    return absl::DataLossError("the snapshot has a note NT_KM_VCPU without NT_PRSTATUS");
  }

 private:
  absl::Status Once(uint32_t type) {
    if (seen_.insert(type).second) return absl::OkStatus();
    return absl::DataLossError(
        absl::StrCat("the snapshot has two notes ", type == NT_AUXV ? "NT_AUXV" : NoteName(type)));
  }

  absl::Status Keep(absl::string_view owner, uint32_t type, absl::Span<const uint8_t> descriptor) {
    image_->unknown_notes.push_back(
        {std::string(owner), type, {descriptor.begin(), descriptor.end()}});
    return absl::OkStatus();
  }

  absl::Status DecodeKm(uint32_t type, absl::Span<const uint8_t> descriptor) {
    const std::string name = NoteName(type);
    ByteReader reader(descriptor);
    const uint64_t checksum = reader.U64();
    const bool intact = checksum == Checksum(reader.rest());
    reader.U32();
    const uint32_t minimum_reader = reader.U32();
    const uint32_t flags = reader.U32();
    reader.U32();
    if (!reader.ok() || !intact) return Named(name, absl::DataLossError("its checksum is wrong"));
    const bool known = (type >= NT_KM_HEADER && type <= NT_KM_TIMERS) ||
                       (type >= NT_KM_IPC && type <= NT_KM_WORKING_SET);
    if (known && minimum_reader <= KM_NOTE_VERSION) return DecodeKnown(type, name, reader);
    if ((flags & KM_NOTE_REQUIRED) == 0) return Keep(KM_NOTE_OWNER, type, descriptor);
    return absl::FailedPreconditionError(absl::StrFormat(
        "the snapshot was made by a newer km (%s): its note %s is necessary and needs a reader of "
        "version %u, which this km is not",
        image_->header.producer, name, minimum_reader));
  }

  absl::Status DecodeKnown(uint32_t type, const std::string& name, ByteReader records) {
    if (type == NT_KM_VCPU) {
      ImageThread thread;
      KM_RETURN_IF_ERROR(Named(name, DecodeVcpu(records, &thread)));
      const uint32_t tid = thread.tid;
      if (vcpus_.try_emplace(tid, std::move(thread)).second) return absl::OkStatus();
      return absl::DataLossError(absl::StrFormat("the snapshot's thread %u is there twice", tid));
    }
    KM_RETURN_IF_ERROR(Once(type));
    switch (type) {
      case NT_KM_GUEST:
        return Named(name, DecodeProgram(records, &image_->program));
      case NT_KM_DYNLINKER:
        return Named(name, DecodeProgram(records, &image_->dynamic_linker.emplace()));
      case NT_KM_PROCESS:
        return Named(name, DecodeProcess(records, &image_->process));
      case NT_KM_SIGNALS:
        return Named(name, DecodeSignals(records, &image_->process));
      case NT_KM_TIMERS:
        return Named(name, DecodeTimers(records, &image_->process));
      case NT_KM_MAPPINGS:
        return Named(name, DecodeMappings(records, image_));
      case NT_KM_IPC:
        return Named(name, DecodeIpc(records, image_));
      case NT_KM_BASES:
        return Named(name, DecodeBases(records, image_));
      case NT_KM_WORKING_SET:
        return Named(name, DecodeWorkingSet(records, image_));
      case NT_KM_FILES:
        return Named(name, DecodeFiles(records, image_));
      case NT_KM_CHECKSUMS:
        return Named(name, DecodeChecksums(records, &image_->memory_checksums));
      default:
        return absl::OkStatus();  // NT_KM_HEADER: decoded before
    }
  }

  Image* const image_;
  absl::flat_hash_set<uint32_t> seen_;
  absl::flat_hash_map<uint32_t, ImageThread> vcpus_;
};

absl::Status DecodeNotes(Elf* elf, const GElf_Phdr& header, HeaderNote header_note, Image* image) {
  Elf_Data* data =
      elf_getdata_rawchunk(elf, static_cast<int64_t>(header.p_offset), header.p_filesz, ELF_T_NHDR);
  if (data == nullptr) {
    return absl::DataLossError(
        absl::StrCat("the snapshot's notes cannot be read: ", elf_errmsg(-1)));
  }
  const auto* bytes = static_cast<const uint8_t*>(data->d_buf);
  NoteDecoder decoder(std::move(header_note), image);
  size_t position = 0;
  while (position < data->d_size) {
    GElf_Nhdr note;
    size_t name = 0, descriptor = 0;
    const size_t next = gelf_getnote(data, position, &note, &name, &descriptor);
    if (next == 0) return absl::DataLossError("a note of the snapshot is not whole");
    position = next;
    absl::string_view owner(reinterpret_cast<const char*>(bytes) + name, note.n_namesz);
    if (owner.empty() || owner.back() != '\0') {
      return absl::DataLossError("a note of the snapshot has no owner");
    }
    owner.remove_suffix(1);
    KM_RETURN_IF_ERROR(decoder.Decode(owner, note.n_type, {bytes + descriptor, note.n_descsz}));
  }
  return decoder.Finish();
}

// Turns the PT_LOADs with bytes in the file into image->memory.
absl::Status DecodeSegments(Elf* elf, size_t count, uint64_t file_size, Image* image) {
  uint64_t previous_end = 0;
  uint64_t chunks = 0;
  const std::vector<ImageMapping> mappings = MappingsAndObjects(*image);
  size_t mapping = 0;
  for (size_t i = 1; i < count; ++i) {
    GElf_Phdr load;
    if (gelf_getphdr(elf, static_cast<int>(i), &load) == nullptr || load.p_type != PT_LOAD) {
      return absl::DataLossError(absl::StrFormat("program header %u is not PT_LOAD", i));
    }
    while (mapping < mappings.size() && mappings[mapping].end <= load.p_vaddr) ++mapping;
    if (mapping == mappings.size() || load.p_vaddr < mappings[mapping].start ||
        load.p_vaddr < previous_end || load.p_filesz > load.p_memsz ||
        load.p_memsz > mappings[mapping].end - load.p_vaddr ||
        (load.p_vaddr | load.p_memsz | load.p_filesz | load.p_offset) % kPageSize != 0) {
      return absl::DataLossError(absl::StrFormat(
          "the snapshot's segment %u (%#x, %u bytes) overlaps another, is misaligned, or is in no "
          "mapping",
          i, load.p_vaddr, load.p_memsz));
    }
    previous_end = load.p_vaddr + load.p_memsz;
    if (load.p_filesz == 0) continue;
    if (load.p_offset > file_size || load.p_filesz > file_size - load.p_offset) {
      return absl::DataLossError(absl::StrFormat(
          "the snapshot is cut short: the memory at %#x, %u bytes at offset %u, is not in the file",
          load.p_vaddr, load.p_filesz, load.p_offset));
    }
    // These are bytes of the object, shown at another address to debuggers.
    if (mappings[mapping].object != 0) continue;
    if (IsSharedFile(mappings[mapping])) {
      return absl::DataLossError(absl::StrFormat(
          "the snapshot has memory at %#x, which is that of the file '%s' and not its own",
          load.p_vaddr, mappings[mapping].name));
    }
    chunks += ChunkCount(load.p_vaddr, load.p_filesz);
    image->memory.push_back({load.p_vaddr, load.p_filesz, load.p_offset});
  }
  if (chunks == image->memory_checksums.size()) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrFormat("the snapshot has %u checksums for %u chunks of memory",
                      image->memory_checksums.size(), chunks));
}

// What CheckHead and libelf do not look at. elf_memory takes e_phentsize on trust.
absl::Status CheckElfHeader(absl::Span<const uint8_t> head) {
  Elf64_Ehdr header;
  std::memcpy(&header, head.data(), sizeof(header));
  if (header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_ident[EI_DATA] == ELFDATA2LSB &&
      header.e_machine == EM_X86_64 && header.e_type == ET_CORE && header.e_shnum == 0 &&
      header.e_shoff == 0 && header.e_phentsize == sizeof(Elf64_Phdr) && header.e_phnum >= 1 &&
      header.e_phnum <= kMaxSegments + 1 && header.e_phoff % alignof(Elf64_Phdr) == 0) {
    return absl::OkStatus();
  }
  return absl::DataLossError("the snapshot's ELF header is not that of a core for x86-64");
}

// `head`: as much as LooksLikeSnapshot wants, at least.
absl::Status CheckHeadSize(absl::Span<const uint8_t> head) {
  Elf64_Ehdr header;
  std::memcpy(&header, head.data(), sizeof(header));
  if (header.e_phoff <= kMaxHeadSize) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrFormat("its notes have %u bytes, and no snapshot may have more than %u: the process "
                      "has too much in pipes, sockets and queues, or the file is damaged",
                      header.e_phoff, kMaxHeadSize));
}

absl::Status NotASnapshot(absl::Span<const uint8_t> first_bytes) {
  if (first_bytes.size() < SELFMAG || std::memcmp(first_bytes.data(), ELFMAG, SELFMAG) != 0) {
    return absl::InvalidArgumentError("not a km snapshot: not an ELF file");
  }
  if (first_bytes.size() < sizeof(Elf64_Ehdr)) {
    return absl::InvalidArgumentError("not a km snapshot: cut short within the ELF header");
  }
  Elf64_Ehdr header;
  std::memcpy(&header, first_bytes.data(), sizeof(header));
  if (header.e_type != ET_CORE) {
    return absl::InvalidArgumentError("not a km snapshot: an ELF file, but no core");
  }
  return absl::InvalidArgumentError(
      "a core dump, not a km snapshot: it can be looked at with gdb, but not resumed");
}

// Appends the file's bytes from head->size() to `end`, or to the end of the file.
absl::Status ReadTo(int fd, uint64_t end, std::vector<uint8_t>* head) {
  size_t done = head->size();
  head->resize(end);
  while (done < end) {
    const ssize_t count = pread(fd, head->data() + done, end - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return ErrnoStatus(errno, "reading the snapshot");
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  head->resize(done);
  return absl::OkStatus();
}

}  // namespace

bool LooksLikeSnapshot(absl::Span<const uint8_t> first_bytes) {
  return first_bytes.size() >= kSnapshotMagicEnd &&
         std::memcmp(first_bytes.data(), ELFMAG, SELFMAG) == 0 &&
         std::memcmp(first_bytes.data() + KM_SNAPSHOT_MAGIC_OFFSET, KM_SNAPSHOT_MAGIC,
                     KM_SNAPSHOT_MAGIC_SIZE) == 0;
}

absl::StatusOr<Image> ParseSnapshot(absl::Span<const uint8_t> head, uint64_t file_size) {
  static_assert(kSnapshotMagicEnd == KM_SNAPSHOT_MAGIC_OFFSET + KM_SNAPSHOT_MAGIC_SIZE);
  if (!LooksLikeSnapshot(head)) return NotASnapshot(head);
  KM_RETURN_IF_ERROR(CheckHeadSize(head));
  KM_ASSIGN_OR_RETURN(HeaderNote header, CheckHead(head));
  KM_RETURN_IF_ERROR(CheckElfHeader(head));
  if (header.file_length != file_size) {
    return absl::DataLossError(absl::StrFormat(
        "the snapshot is %s: it had %u bytes when it was written, and has %u",
        file_size < header.file_length ? "cut short" : "damaged", header.file_length, file_size));
  }
  elf_version(EV_CURRENT);
  // libelf reads through a pointer to mutable bytes, and writes none of them.
  char* bytes = const_cast<char*>(reinterpret_cast<const char*>(head.data()));
  const OwnedElf elf(elf_memory(bytes, head.size()));
  size_t count = 0;
  GElf_Phdr notes;
  if (elf == nullptr || elf_getphdrnum(elf.get(), &count) != 0 || count == 0 ||
      gelf_getphdr(elf.get(), 0, &notes) == nullptr || notes.p_type != PT_NOTE ||
      notes.p_offset != sizeof(Elf64_Ehdr) || notes.p_filesz > head.size() - notes.p_offset) {
    return absl::DataLossError("the snapshot's first program header is not that of its notes");
  }
  Image image;
  KM_RETURN_IF_ERROR(DecodeNotes(elf.get(), notes, std::move(header), &image));
  KM_RETURN_IF_ERROR(DecodeSegments(elf.get(), count, file_size, &image));
  KM_RETURN_IF_ERROR(CheckBaseMemory(MappingsAndObjects(image), image));
  return image;
}

absl::StatusOr<ImageHeader> ParseSnapshotHeader(int fd) {
  struct stat file = {};
  if (fstat(fd, &file) != 0) return ErrnoStatus(errno, "reading the snapshot");
  std::vector<uint8_t> head;
  KM_RETURN_IF_ERROR(ReadTo(fd, kPageSize, &head));
  if (!LooksLikeSnapshot(head)) return NotASnapshot(head);
  uint32_t note_size = 0;  // of the header note's descriptor
  std::memcpy(&note_size, head.data() + sizeof(Elf64_Ehdr) + sizeof(uint32_t), sizeof(note_size));
  if (note_size > std::min(kMaxHeadSize, static_cast<uint64_t>(file.st_size))) {
    return absl::DataLossError("the snapshot's header is too long");
  }
  KM_RETURN_IF_ERROR(ReadTo(fd, kPageSize + note_size, &head));
  KM_ASSIGN_OR_RETURN(HeaderNote note, DecodeHeader(head));
  return std::move(note.header);
}

absl::StatusOr<Image> ParseSnapshot(int fd) {
  struct stat file = {};
  if (fstat(fd, &file) != 0) return ErrnoStatus(errno, "reading the snapshot");
  const auto file_size = static_cast<uint64_t>(file.st_size);
  std::vector<uint8_t> head;
  // One page says where the head ends.
  KM_RETURN_IF_ERROR(ReadTo(fd, kPageSize, &head));
  if (!LooksLikeSnapshot(head)) return NotASnapshot(head);
  KM_RETURN_IF_ERROR(CheckHeadSize(head));
  Elf64_Ehdr header;
  std::memcpy(&header, head.data(), sizeof(header));
  const uint64_t headers_size = uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
  if (header.e_phoff > file_size || headers_size > file_size - header.e_phoff) {
    return absl::DataLossError(
        "the snapshot is cut short or damaged: its program headers are not within the file");
  }
  KM_RETURN_IF_ERROR(ReadTo(fd, std::max(kPageSize, header.e_phoff + headers_size), &head));
  return ParseSnapshot(head, file_size);
}

}  // namespace km
