#include "km/snapshot/restore_memory.h"

#include <fcntl.h>
#include <km/notes.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "km/base/status.h"
#include "km/files/named_file.h"

namespace km {
namespace {

// Writable pieces up to this size are copied before the program runs, and no more than kMaxCopied.
constexpr uint64_t kSmallPiece = 64 << 10, kMaxCopied = 256 << 10;

// A file may say anything.
Mapping MappingOf(const ImageMapping& from, uint64_t start, uint64_t end) {
  constexpr uint32_t kKnownFlags =
      MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_NORESERVE;
  Mapping mapping;
  mapping.start = start;
  mapping.end = end;
  mapping.protection = static_cast<int>(from.protection);
  mapping.flags = static_cast<int>(from.flags & kKnownFlags);
  mapping.name = from.name;
  mapping.advice = from.advice & kAdviceAll;
  return mapping;
}

// Bytes of a file.
struct Piece {
  uint64_t address, size, file_offset;
  int source;  // 0: the snapshot itself, then its bases
};

// 0 or an errno.
int ReadAt(int fd, std::byte* to, uint64_t size, off_t offset) {
  for (uint64_t done = 0; done < size;) {
    const ssize_t bytes = pread(fd, to + done, size - done, offset + static_cast<off_t>(done));
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return bytes < 0 ? errno : EIO;
    done += static_cast<uint64_t>(bytes);
  }
  return 0;
}

class MemoryRestorer {
 public:
  MemoryRestorer(const Image& image, int fd, const std::vector<OwnedFd>& bases,
                 const absl::flat_hash_map<uint64_t, OwnedFd>& objects, FileRestorer& files,
                 IpcRestorer& ipc, Process& process)
      : image_(image),
        fd_(fd),
        bases_(bases),
        objects_(objects),
        files_(files),
        ipc_(ipc),
        process_(process) {}

  absl::Status Run();

 private:
  absl::Status RestorePrivate(const ImageMapping& from);
  absl::Status MapPiece(const ImageMapping& from, uint64_t start, uint64_t end, const Piece* piece);
  absl::Status ReadPiece(const ImageMapping& from, uint64_t start, uint64_t end, int fd,
                         off_t offset);
  bool NextPiece(uint64_t end, Piece* piece);
  absl::Status RestoreSharedMemory(const ImageMapping& from);
  absl::Status RestoreSharedFile(const ImageMapping& from);
  absl::StatusOr<OwnedFd> OpenShared(const ImageMapping& from);
  absl::StatusOr<OwnedFd> OpenObject(const ImageMapping& from, int object);
  absl::Status Fail(const ImageMapping& mapping, int error) const;
  bool CopySmall(uint64_t start, uint64_t end);
  void CopyWorkingSet(uint64_t start, uint64_t end);
  void Copy(uint64_t start, uint64_t end);
  std::byte* Host(uint64_t address) { return process_.memory().window() + address; }

  const Image& image_;
  const int fd_;
  const std::vector<OwnedFd>& bases_;
  const absl::flat_hash_map<uint64_t, OwnedFd>& objects_;
  FileRestorer& files_;
  IpcRestorer& ipc_;
  Process& process_;
  size_t next_memory_ = 0;       // in image_.memory
  size_t next_base_memory_ = 0;  // in image_.base_memory
  uint64_t copied_ = 0;          // bytes, by CopySmall
  size_t next_working_ = 0;      // in image_.working_set
};

absl::Status MemoryRestorer::Fail(const ImageMapping& mapping, int error) const {
  return ErrnoStatus(error, absl::StrFormat("cannot map its memory at %#x-%#x (%s)", mapping.start,
                                            mapping.end, mapping.name));
}

absl::Status MemoryRestorer::Run() {
  for (uint64_t command = 1; command <= image_.process.membarrier; command <<= 1) {
    if (image_.process.membarrier & command) (void)syscall(SYS_membarrier, command, 0, 0);
  }
  process_.membarrier() = image_.process.membarrier;
  for (const ImageMapping& mapping : image_.mappings) {
    if (mapping.end > process_.memory().end()) return Fail(mapping, ENOMEM);
    bool shared = mapping.flags & MAP_SHARED;
    if (!shared) {
      KM_RETURN_IF_ERROR(RestorePrivate(mapping));
    } else if (mapping.segment.has_value()) {
      KM_RETURN_IF_ERROR(ipc_.Attach(mapping, MappingOf(mapping, mapping.start, mapping.end)));
    } else if ((mapping.flags & MAP_ANONYMOUS) && mapping.object == 0) {
      KM_RETURN_IF_ERROR(RestoreSharedMemory(mapping));
    } else {
      KM_RETURN_IF_ERROR(RestoreSharedFile(mapping));
    }
  }
  return absl::OkStatus();
}

// From the file where it has bytes, fresh memory elsewhere. Nothing is read.
absl::Status MemoryRestorer::RestorePrivate(const ImageMapping& from) {
  uint64_t done = from.start;
  for (Piece piece; NextPiece(from.end, &piece);) {
    KM_RETURN_IF_ERROR(MapPiece(from, done, piece.address, nullptr));
    done = piece.address + piece.size;
    KM_RETURN_IF_ERROR(MapPiece(from, piece.address, done, &piece));
  }
  return MapPiece(from, done, from.end, nullptr);
}

// The next one that begins below `end`, of whichever file.
bool MemoryRestorer::NextPiece(uint64_t end, Piece* piece) {
  const std::vector<ImageMemory>& own = image_.memory;
  const std::vector<ImageBaseMemory>& others = image_.base_memory;
  const uint64_t address = next_memory_ < own.size() ? own[next_memory_].address : ~uint64_t{0};
  const uint64_t other =
      next_base_memory_ < others.size() ? others[next_base_memory_].address : ~uint64_t{0};
  if (std::min(address, other) >= end) return false;
  if (address < other) {
    const ImageMemory& from = own[next_memory_++];
    *piece = {from.address, from.size, from.file_offset, 0};
  } else {
    const ImageBaseMemory& from = others[next_base_memory_++];
    *piece = {from.address, from.size, from.file_offset, static_cast<int>(from.base) + 1};
  }
  return true;
}

// Variables and the top of a stack are written to at once, which costs the guest two exits for a
// page. Whether this was such a piece.
bool MemoryRestorer::CopySmall(uint64_t start, uint64_t end) {
  if (end - start > kSmallPiece || copied_ + (end - start) > kMaxCopied) return false;
  copied_ += end - start;
  Copy(start, end);
  return true;
}

// Those of its pages that are within one piece of the file.
void MemoryRestorer::CopyWorkingSet(uint64_t start, uint64_t end) {
  const std::vector<AddressRange>& pages = image_.working_set;
  while (next_working_ < pages.size() && pages[next_working_].end <= start) ++next_working_;
  for (size_t i = next_working_; i < pages.size() && pages[i].start < end; ++i) {
    Copy(std::max(start, pages[i].start), std::min(end, pages[i].end));
  }
}

void MemoryRestorer::Copy(uint64_t start, uint64_t end) {
  // Kernels before 5.14 cannot, and need not.
  (void)madvise(Host(start), end - start, MADV_POPULATE_WRITE);
}

// What is to be executed, from a file system that allows it of no file (noexec): its bytes are
// read.
absl::Status MemoryRestorer::ReadPiece(const ImageMapping& from, uint64_t start, uint64_t end,
                                       int fd, off_t offset) {
  const uint64_t size = end - start;
  if (mmap(Host(start), size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1,
           0) == MAP_FAILED) {
    return Fail(from, errno);
  }
  if (int error = ReadAt(fd, Host(start), size, offset); error != 0) return Fail(from, error);
  if (mprotect(Host(start), size, HostProtection(static_cast<int>(from.protection))) != 0) {
    return Fail(from, errno);
  }
  return absl::OkStatus();
}

// [start, end) of a private mapping: from the file, or without `piece` fresh.
absl::Status MemoryRestorer::MapPiece(const ImageMapping& from, uint64_t start, uint64_t end,
                                      const Piece* piece) {
  if (start == end) return absl::OkStatus();
  bool anonymous = from.flags & MAP_ANONYMOUS;
  int flags = MAP_PRIVATE | MAP_FIXED | (from.flags & MAP_NORESERVE ? MAP_NORESERVE : 0);
  if (piece == nullptr) flags |= MAP_ANONYMOUS;
  int fd = -1;
  if (piece != nullptr) {
    fd = piece->source == 0 ? fd_ : bases_[static_cast<size_t>(piece->source) - 1].get();
  }
  const auto offset = piece != nullptr ? static_cast<off_t>(piece->file_offset) : 0;
  if (mmap(Host(start), end - start, HostProtection(static_cast<int>(from.protection)), flags, fd,
           offset) == MAP_FAILED) {
    if (errno != EPERM || !(from.protection & PROT_EXEC) || piece == nullptr) {
      return Fail(from, errno);
    }
    KM_RETURN_IF_ERROR(ReadPiece(from, start, end, fd, offset));
  }
  if (piece != nullptr && (from.protection & PROT_WRITE) && !CopySmall(start, end)) {
    CopyWorkingSet(start, end);
  }
  Mapping mapping = MappingOf(from, start, end);
  if (!anonymous) mapping.offset = from.file_offset + (start - from.start);
  // A file's pages that the snapshot does not hold lay behind the file's end: SIGBUS, not zeros.
  mapping.from_snapshot = piece != nullptr || !anonymous;
  if (piece != nullptr) {
    mapping.source = piece->source;
    mapping.source_offset = piece->file_offset;
  }
  mapping.snapshot_file_end = !anonymous && piece == nullptr ? start : anonymous ? 0 : end;
  process_.space().Adopt(std::move(mapping), from.start, from.end);
  return absl::OkStatus();
}

// Shared anonymous memory of an older file, which holds it as a mapping. Read at once: it cannot be
// mapped from the file and stay shared.
absl::Status MemoryRestorer::RestoreSharedMemory(const ImageMapping& from) {
  auto memory_file = MappedFile::SharedMemory(from.end - from.start, 0);
  if (memory_file == nullptr ||
      mmap(Host(from.start), from.end - from.start, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
           memory_file->fd.get(), 0) == MAP_FAILED) {
    return Fail(from, errno);
  }
  const std::vector<ImageMemory>& memory = image_.memory;
  for (; next_memory_ < memory.size() && memory[next_memory_].address < from.end; ++next_memory_) {
    const ImageMemory& piece = memory[next_memory_];
    const auto offset = static_cast<off_t>(piece.file_offset);
    const int error = ReadAt(fd_, Host(piece.address), piece.size, offset);
    if (error != 0) return Fail(from, error);
  }
  if (mprotect(Host(from.start), from.end - from.start,
               HostProtection(static_cast<int>(from.protection))) != 0) {
    return Fail(from, errno);
  }
  Mapping mapping = MappingOf(from, from.start, from.end);
  mapping.file = std::move(memory_file);
  mapping.offset = 0;
  process_.space().Adopt(std::move(mapping), from.start, from.end);
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> MemoryRestorer::OpenShared(const ImageMapping& from) {
  if (from.advice & KM_ADVICE_READ_ONLY) {
    return OpenAgain(from.name, O_RDONLY, S_IFREG, from.identity, files_);
  }
  // A mapping that may be made writable later needs a descriptor that allows it.
  absl::StatusOr<OwnedFd> fd = OpenAgain(from.name, O_RDWR, S_IFREG, from.identity, files_);
  if (!fd.ok() && !(from.protection & PROT_WRITE)) {
    fd = OpenAgain(from.name, O_RDONLY, S_IFREG, from.identity, files_);
  }
  return fd;
}

// What is to be mapped of a memory object; an invalid one: its own descriptor.
absl::StatusOr<OwnedFd> MemoryRestorer::OpenObject(const ImageMapping& from, int object) {
  const int seals = fcntl(object, F_GET_SEALS);
  // Before Linux 6.7 such a one is mapped only where it is open for reading alone.
  const bool sealed = seals >= 0 && (seals & F_SEAL_WRITE) != 0;
  if (!sealed && (from.advice & KM_ADVICE_READ_ONLY) == 0) return OwnedFd();
  FileRecord reading;
  reading.flags = O_RDONLY;
  return Reopen(object, reading);
}

absl::Status MemoryRestorer::RestoreSharedFile(const ImageMapping& from) {
  auto object = objects_.find(from.object);
  // Closed before locks are restored: with each descriptor of a file that is closed the kernel
  // drops the process's locks on it. What the mapping keeps is none that locks (O_PATH).
  OwnedFd opened;
  if (object == objects_.end()) {
    KM_ASSIGN_OR_RETURN(opened, OpenShared(from));
  } else {
    KM_ASSIGN_OR_RETURN(opened, OpenObject(from, object->second.get()));
  }
  const int host_fd = opened.valid() ? opened.get() : object->second.get();
  // Nobody else has it yet.
  auto file = std::const_pointer_cast<MappedFile>(
      from.flags & MAP_ANONYMOUS ? MappedFile::SharedMemoryOf(host_fd) : MappedFile::Of(host_fd));
  if (file == nullptr) return Fail(from, EBADF);
  // A deleted file that was made anew is called as it was.
  if (object != objects_.end() && !(from.flags & MAP_ANONYMOUS)) file->path = from.name;
  MapRequest request;
  request.address = from.start;
  request.length = from.end - from.start;
  request.protection = static_cast<int>(from.protection);
  request.flags =
      MAP_SHARED | MAP_FIXED | static_cast<int>(from.flags & (MAP_ANONYMOUS | MAP_NORESERVE));
  request.advice = from.advice & kAdviceAll;
  if (from.flags & MAP_ANONYMOUS) request.name = from.name;
  request.host_fd = host_fd;
  request.offset = from.file_offset;
  request.file = std::move(file);
  int64_t placed = process_.space().Map(request);
  return placed < 0 ? Fail(from, static_cast<int>(-placed)) : absl::OkStatus();
}

}  // namespace

absl::Status RestoreMemory(const Image& image, int fd, const std::vector<OwnedFd>& bases,
                           const absl::flat_hash_map<uint64_t, OwnedFd>& objects,
                           FileRestorer& files, IpcRestorer& ipc, Process& process) {
  return MemoryRestorer(image, fd, bases, objects, files, ipc, process).Run();
}

}  // namespace km
