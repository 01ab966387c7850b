#include "km/snapshot/writer.h"

#include <fcntl.h>
#include <km/notes.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "km/base/owned.h"
#include "km/base/status.h"
#include "km/snapshot/checksum.h"
#include "km/snapshot/head.h"
#include "km/snapshot/layout.h"
#include "km/snapshot/new_file.h"
#include "km/snapshot/parser.h"
#include "km/snapshot/working_set.h"

namespace km {
namespace {

// In a chunk of 2 MiB, fewer zero pages than this are written like the others: the chunk then is
// one large folio in the page cache, and a resumed guest reads it a hundred times faster than
// single pages.
constexpr uint64_t kMinZeroPagesOfLargeChunk = 32;

// Every 8 bytes are looked at from the start, so a page with anything near its start costs one
// cache line.
bool IsZeroPage(const uint8_t* page) {
  uint64_t first;
  std::memcpy(&first, page, sizeof(first));
  return first == 0 && std::memcmp(page, page + sizeof(first), kPageSize - sizeof(first)) == 0;
}

// Writes memory into a file, where checksums are gathered too. Neighbours in the file are written
// together.
class MemoryWriter {
 public:
  MemoryWriter(int fd, absl::Span<const ImageMemory> pieces, const MemorySource& source,
               WriteProgress* progress, WorkingSetWatch* watch)
      : fd_(fd), pieces_(pieces), source_(source), progress_(progress), watch_(watch) {}

  // Segments are to come in ascending order.
  absl::Status Write(const Segment& segment) {
    for (uint64_t done = 0; done < segment.file_size;) {
      const uint64_t size = ChunkSize(segment.address + done, segment.file_size - done);
      KM_RETURN_IF_ERROR(WriteChunk(segment.address + done, size, segment.file_offset + done));
      done += size;
      if (watch_ != nullptr) watch_->LookNowAndThen();
      if (progress_ == nullptr) continue;
      progress_->done += size;
      if (progress_->cancelled) return ErrnoStatus(ECANCELED, "it was cancelled");
    }
    return absl::OkStatus();
  }

  // Writes what is still waiting.
  absl::Status Flush() {
    absl::Span<iovec> rest = absl::MakeSpan(waiting_);
    while (!rest.empty()) {
      const auto count = static_cast<int>(std::min<size_t>(rest.size(), IOV_MAX));
      const ssize_t result = pwritev(fd_, rest.data(), count, static_cast<off_t>(waiting_offset_));
      if (result < 0 && errno == EINTR) continue;
      if (result < 0) return ErrnoStatus(errno, "writing memory");
      if (result == 0) return ErrnoStatus(EIO, "writing memory");
      waiting_offset_ += static_cast<uint64_t>(result);
      auto written = static_cast<size_t>(result);
      while (!rest.empty() && written >= rest[0].iov_len) {
        written -= rest[0].iov_len;
        rest.remove_prefix(1);
      }
      if (!rest.empty()) {
        rest[0].iov_base = static_cast<uint8_t*>(rest[0].iov_base) + written;
        rest[0].iov_len -= written;
      }
    }
    waiting_.clear();
    waiting_size_ = 0;
    return absl::OkStatus();
  }

  std::vector<uint64_t> TakeChecksums() { return std::move(checksums_); }

 private:
  absl::Status WriteChunk(uint64_t address, uint64_t size, uint64_t offset) {
    while (pieces_[next_piece_].address + pieces_[next_piece_].size <= address) ++next_piece_;
    while (next_unreadable_ < source_.unreadable.size() &&
           source_.unreadable[next_unreadable_].end <= address) {
      ++next_unreadable_;
    }
    const ImageMemory& piece = pieces_[next_piece_];
    if (piece.address >= address + size && size == kLargePageSize) {
      checksums_.push_back(HoleChecksum());
      return absl::OkStatus();
    }
    const bool in_one_piece =
        piece.address <= address && address + size <= piece.address + piece.size;
    const bool readable = next_unreadable_ == source_.unreadable.size() ||
                          source_.unreadable[next_unreadable_].start >= address + size;
    if (in_one_piece && readable) {
      return WriteBytes(reinterpret_cast<const uint8_t*>(source_.At(address)), size, offset);
    }
    KM_RETURN_IF_ERROR(Flush());  // the buffer may be waiting
    KM_RETURN_IF_ERROR(Gather(address, size));
    return WriteBytes(buffer_.data(), size, offset);
  }

  // Of a whole chunk in which there is no piece: a large object may be nearly all of these.
  uint64_t HoleChecksum() {
    if (!hole_checksum_.has_value()) {
      const std::vector<uint8_t> zeros(kLargePageSize);
      hole_checksum_ = Checksum(zeros);
    }
    return *hole_checksum_;
  }

  // Copies a chunk into buffer_, with zeros where there is no piece.
  absl::Status Gather(uint64_t address, uint64_t size) {
    buffer_.assign(size, 0);
    for (size_t i = next_piece_; i < pieces_.size() && pieces_[i].address < address + size; ++i) {
      const uint64_t start = std::max(address, pieces_[i].address);
      const uint64_t end = std::min(address + size, pieces_[i].address + pieces_[i].size);
      for (uint64_t at = start; at < end;) {
        const ssize_t count = Read(source_.At(at), end - at, buffer_.data() + (at - address));
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) {
          return ErrnoStatus(count < 0 ? errno : EFAULT,
                             absl::StrFormat("reading memory at %#x", at));
        }
        at += static_cast<uint64_t>(count);
      }
    }
    return absl::OkStatus();
  }

  // As read(2). What the page tables allow a process may always read of itself; the rest is read
  // through /proc/self/mem, or where that is refused, as to one that gave up its rights, made
  // readable for the moment.
  ssize_t Read(const std::byte* from, uint64_t size, uint8_t* to) {
    const iovec local = {to, size}, remote = {const_cast<std::byte*>(from), size};
    const ssize_t count = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
    if (count > 0) return count;
    if (!memory_.valid()) memory_ = OwnedFd(open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
    const auto host = reinterpret_cast<uintptr_t>(from);
    if (memory_.valid()) return pread(memory_.get(), to, size, static_cast<off_t>(host));
    auto* page = reinterpret_cast<void*>(host - host % kPageSize);
    // Only if its rights are what stands in the way, and not a file that became shorter.
    if (madvise(page, kPageSize, MADV_POPULATE_READ) == 0 || errno != EINVAL) {
      errno = EFAULT;
      return -1;
    }
    if (mprotect(page, kPageSize, PROT_READ) != 0) return -1;
    const iovec part = {remote.iov_base, std::min(size, kPageSize - host % kPageSize)};
    const ssize_t got = process_vm_readv(getpid(), &local, 1, &part, 1, 0);
    const int error = errno;
    mprotect(page, kPageSize, PROT_NONE);
    errno = error;
    return got;
  }

  // Queues the pages that are not zero.
  absl::Status WriteBytes(const uint8_t* bytes, uint64_t size, uint64_t offset) {
    checksums_.push_back(Checksum({bytes, size}));  // this brings the chunk into the cache
    const uint64_t pages = size / kPageSize;
    is_zero_.resize(pages);
    uint64_t zeros = 0;
    for (uint64_t i = 0; i < pages; ++i) {
      is_zero_[i] = IsZeroPage(bytes + i * kPageSize);
      zeros += is_zero_[i];
    }
    if (size == kLargePageSize && zeros < kMinZeroPagesOfLargeChunk) {
      return Queue(bytes, size, offset);
    }
    for (uint64_t i = 0; i < pages;) {
      uint64_t end = i;
      while (end < pages && is_zero_[end] == is_zero_[i]) ++end;
      if (!is_zero_[i]) {
        const uint64_t at = i * kPageSize;
        KM_RETURN_IF_ERROR(Queue(bytes + at, (end - i) * kPageSize, offset + at));
      }
      i = end;
    }
    return absl::OkStatus();
  }

  absl::Status Queue(const uint8_t* bytes, uint64_t size, uint64_t offset) {
    if (offset != waiting_offset_ + waiting_size_ || waiting_size_ + size > kLargePageSize) {
      KM_RETURN_IF_ERROR(Flush());
      waiting_offset_ = offset;
    }
    waiting_.push_back({const_cast<uint8_t*>(bytes), size});
    waiting_size_ += size;
    return absl::OkStatus();
  }

  const int fd_;
  const absl::Span<const ImageMemory> pieces_;
  const MemorySource& source_;
  WriteProgress* const progress_;  // may be null
  WorkingSetWatch* const watch_;   // may be null
  size_t next_piece_ = 0, next_unreadable_ = 0;
  OwnedFd memory_;  // /proc/self/mem, which reads whatever the page tables say
  std::vector<uint8_t> buffer_;
  std::vector<uint8_t> is_zero_;
  std::vector<iovec> waiting_;  // for waiting_offset_ in the file, waiting_size_ bytes
  uint64_t waiting_offset_ = 0, waiting_size_ = 0;
  std::vector<uint64_t> checksums_;
  std::optional<uint64_t> hole_checksum_;
};

absl::Status WriteHead(int fd, absl::Span<const uint8_t> head) {
  for (size_t done = 0; done < head.size();) {
    const ssize_t count =
        pwrite(fd, head.data() + done, head.size() - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return ErrnoStatus(count < 0 ? errno : EIO, "writing notes");
    done += static_cast<size_t>(count);
  }
  return absl::OkStatus();
}

void TellName(const std::string& name, WriteProgress* progress) {
  if (progress == nullptr || name.size() >= sizeof(progress->unfinished)) return;
  std::memcpy(progress->unfinished, name.c_str(), name.size() + 1);
}

absl::Status Write(const Image& image, const MemorySource& memory, const std::string& path,
                   const WriteOptions& options) {
  KM_ASSIGN_OR_RETURN(std::vector<Segment> segments, BuildSegments(image));
  uint64_t chunks = 0;
  for (const Segment& segment : segments) {
    if (segment.file_size != 0 && segment.object == 0)
      chunks += ChunkCount(segment.address, segment.file_size);
  }
  MemoryFacts facts;
  facts.checksums.resize(chunks);
  facts.working_set = WorkingSetEntries(image.working_set);
  if (options.running != nullptr) facts.working_set.resize(kMaxWorkingSetPages);
  const size_t head_size = EncodeHead(image, segments, facts).size();
  facts.file_length = PlaceSegments(head_size, &segments);
  if (facts.file_length > options.size_limit) {
    return ErrnoStatus(EFBIG, absl::StrFormat("it needs %u bytes", facts.file_length));
  }

  NewFile file(image.fatal_signal.has_value() ? NewFile::Links::kReplace : NewFile::Links::kFollow);
  if (options.file < 0) KM_RETURN_IF_ERROR(file.Create(path));
  TellName(file.name(), options.progress);
  const int fd = options.file < 0 ? file.fd() : options.file;
  if (ftruncate(fd, static_cast<off_t>(facts.file_length)) != 0) {
    return ErrnoStatus(errno, absl::StrFormat("making it %u bytes long", facts.file_length));
  }
  std::optional<WorkingSetWatch> watch;
  if (options.running != nullptr) watch.emplace(image, *options.running);
  MemoryWriter writer(fd, image.memory, memory, options.progress,
                      watch.has_value() ? &*watch : nullptr);
  for (const Segment& segment : segments) {
    if (segment.object == 0) KM_RETURN_IF_ERROR(writer.Write(segment));
  }
  KM_RETURN_IF_ERROR(writer.Flush());
  // The head comes last: it holds the checksums of what was written.
  facts.checksums = writer.TakeChecksums();
  if (watch.has_value()) {
    facts.working_set = WorkingSetEntries(watch->Finish());
    facts.working_set.resize(kMaxWorkingSetPages);
  }
  const std::vector<uint8_t> head = EncodeHead(image, segments, facts);
  // An older snapshot is never replaced by one that cannot be resumed.
  if (!image.fatal_signal.has_value()) {
    KM_RETURN_IF_ERROR(ParseSnapshot(head, facts.file_length).status());
  }
  KM_RETURN_IF_ERROR(WriteHead(fd, head));
  if (options.file < 0) {
    const absl::Status committed = file.Commit(options.sync);
    TellName("", options.progress);
    return committed;
  }
  if (options.sync && fsync(fd) != 0) return ErrnoStatus(errno, "fsync");
  return absl::OkStatus();
}

}  // namespace

const std::byte* MemorySource::At(uint64_t address) const {
  if (address < KM_OBJECT_BASE) return window + address;
  auto object = std::upper_bound(
      objects.begin(), objects.end(), address,
      [](uint64_t wanted, const auto& candidate) { return wanted < candidate.first; });
  --object;
  return object->second + (address - object->first);
}

absl::Status WriteSnapshot(const Image& image, const MemorySource& memory, const std::string& path,
                           const WriteOptions& options) {
  absl::Status status = Write(image, memory, path, options);
  if (status.ok()) return status;
  absl::Status named(status.code(), absl::StrCat("writing ", path, ": ", status.message()));
  status.ForEachPayload(
      [&](absl::string_view type, const absl::Cord& payload) { named.SetPayload(type, payload); });
  return named;
}

}  // namespace km
