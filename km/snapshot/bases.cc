#include "km/snapshot/bases.h"

#include <fcntl.h>
#include <km/layout.h>
#include <km/notes.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "km/base/host_files.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/snapshot/layout.h"
#include "km/snapshot/notes.h"
#include "km/snapshot/parser.h"
#include "km/snapshot/writer.h"

namespace km {
namespace {

absl::Status IsBase(int fd, const SnapshotFile& base, const std::string& path) {
  struct stat file = {};
  if (fstat(fd, &file) != 0) return ErrnoStatus(errno, absl::StrCat("reading ", path));
  std::string why = "it was written anew or changed";
  if (static_cast<uint64_t>(file.st_size) == base.length) {
    const absl::StatusOr<ImageHeader> header = ParseSnapshotHeader(fd);
    if (header.ok() && header->id == base.id) return absl::OkStatus();
    if (!header.ok()) why = std::string(header.status().message());
  }
  return absl::FailedPreconditionError(
      absl::StrCat("'", path, "' is not the snapshot that this one is built on: ", why));
}

std::string DirectoryOf(const std::string& path) { return path.substr(0, path.rfind('/') + 1); }

// Memory of several files, each piece at its place.
class MergedMemory {
 public:
  explicit MergedMemory(Image* image) : image_(image) {}

  absl::Status Map(int snapshot, const std::vector<OwnedFd>& bases);
  const MemorySource& source() const { return source_; }

 private:
  absl::Status Reserve();
  std::byte* At(uint64_t address) { return const_cast<std::byte*>(source_.window) + address; }
  absl::Status MapPiece(std::byte* to, uint64_t size, int fd, uint64_t offset);
  absl::Status MapObjects(int snapshot);

  Image* const image_;
  OwnedMapping window_;
  std::vector<OwnedMapping> objects_;
  MemorySource source_;
};

absl::Status MergedMemory::MapPiece(std::byte* to, uint64_t size, int fd, uint64_t offset) {
  if (mmap(to, size, PROT_READ, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
           static_cast<off_t>(offset)) != MAP_FAILED) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, "mapping memory of a snapshot");
}

absl::Status MergedMemory::MapObjects(int snapshot) {
  for (const MemoryObject& object : image_->objects) {
    const uint64_t size = (object.size + kPageSize - 1) / kPageSize * kPageSize;
    if (size == 0) continue;
    OwnedMapping room(
        mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), size);
    if (!room.valid()) return ErrnoStatus(errno, "making room for shared memory");
    for (const ImageMemory& piece : image_->memory) {
      if (piece.address < object.address || piece.address - object.address >= size) continue;
      KM_RETURN_IF_ERROR(MapPiece(room.data() + (piece.address - object.address), piece.size,
                                  snapshot, piece.file_offset));
    }
    source_.objects.emplace_back(object.address, room.data());
    objects_.push_back(std::move(room));
  }
  return absl::OkStatus();
}

// Room for what lies between the lowest piece and the highest: up to 101 TiB of addresses.
absl::Status MergedMemory::Reserve() {
  uint64_t low = KM_GUEST_END, high = 0;
  const auto add = [&](uint64_t address, uint64_t size) {
    if (address >= KM_OBJECT_BASE) return;
    low = std::min(low, address);
    high = std::max(high, address + size);
  };
  for (const ImageMemory& piece : image_->memory) add(piece.address, piece.size);
  for (const ImageBaseMemory& piece : image_->base_memory) add(piece.address, piece.size);
  if (low >= high) return absl::OkStatus();
  window_ = OwnedMapping(
      mmap(nullptr, high - low, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
      high - low);
  if (!window_.valid()) return ErrnoStatus(errno, "reserving addresses for a program's memory");
  source_.window = window_.data() - low;
  return absl::OkStatus();
}

absl::Status MergedMemory::Map(int snapshot, const std::vector<OwnedFd>& bases) {
  KM_RETURN_IF_ERROR(Reserve());
  for (const ImageMemory& piece : image_->memory) {
    if (piece.address >= KM_OBJECT_BASE) continue;
    KM_RETURN_IF_ERROR(MapPiece(At(piece.address), piece.size, snapshot, piece.file_offset));
  }
  KM_RETURN_IF_ERROR(MapObjects(snapshot));
  for (const ImageBaseMemory& piece : image_->base_memory) {
    KM_RETURN_IF_ERROR(
        MapPiece(At(piece.address), piece.size, bases[piece.base].get(), piece.file_offset));
    image_->memory.push_back({piece.address, piece.size, 0});
  }
  std::sort(image_->memory.begin(), image_->memory.end(),
            [](const ImageMemory& a, const ImageMemory& b) { return a.address < b.address; });
  image_->base_memory.clear();
  image_->bases.clear();
  // A file that somebody makes shorter meanwhile is an error of read(2), not the end.
  source_.unreadable.push_back({0, KM_OBJECT_END});
  return absl::OkStatus();
}

}  // namespace

void EncodeBases(const Image& image, ByteWriter* out) {
  if (image.bases.empty()) return;
  const size_t note = BeginKmNote(NT_KM_BASES, true, out);
  for (const SnapshotFile& base : image.bases) {
    const size_t record = out->BeginRecord(KM_BASES_FILE);
    out->Bytes(base.id);
    out->U64(base.length);
    out->CountedText(base.path);
    out->EndRecord(record);
  }
  for (const ImageBaseMemory& piece : image.base_memory) {
    const size_t record = out->BeginRecord(KM_BASES_MEMORY);
    out->U64(piece.address);
    out->U64(piece.size);
    out->U64(piece.file_offset);
    out->U32(piece.base);
    out->U32(0);
    out->EndRecord(record);
  }
  EndKmNote(note, out);
}

absl::Status DecodeBases(ByteReader records, Image* image) {
  KM_RETURN_IF_ERROR(ForEachRecord(records, [&](uint32_t tag, ByteReader* value) {
    if (tag == KM_BASES_FILE) {
      SnapshotFile& base = image->bases.emplace_back();
      for (uint8_t& byte : base.id) byte = value->U8();
      base.length = value->U64();
      base.path = std::string(value->CountedText());
      return true;
    }
    if (tag != KM_BASES_MEMORY) return false;
    ImageBaseMemory& piece = image->base_memory.emplace_back();
    piece.address = value->U64();
    piece.size = value->U64();
    piece.file_offset = value->U64();
    piece.base = value->U32();
    value->U32();
    return true;
  }));
  if (image->bases.size() > kMaxBases || image->base_memory.size() > kMaxSegments) {
    return absl::DataLossError("it names too many snapshots, or too many pieces of them");
  }
  for (const SnapshotFile& base : image->bases) {
    KM_RETURN_IF_ERROR(CheckText("path", base.path, kMaxPath));
    if (base.path.empty() || base.path[0] != '/') {
      return absl::DataLossError("the path of a snapshot in it is not absolute");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> OpenBase(const SnapshotFile& base, const std::string& directory) {
  const std::string beside = directory + base.path.substr(base.path.rfind('/') + 1);
  absl::Status problem;
  for (const std::string& path : {base.path, beside}) {
    absl::StatusOr<OwnedFd> fd = OpenRegular(path);
    if (absl::IsNotFound(fd.status())) continue;
    const absl::Status status = fd.ok() ? IsBase(fd->get(), base, path) : fd.status();
    if (status.ok()) return fd;
    problem.Update(status);
  }
  if (!problem.ok()) return problem;
  return absl::NotFoundError(absl::StrCat("the snapshot that this one is built on is missing: '",
                                          base.path, "' (put it there, or beside this one)"));
}

absl::StatusOr<std::vector<OwnedFd>> OpenBases(const Image& image, int snapshot) {
  std::vector<OwnedFd> files;
  if (image.bases.empty()) return files;
  const std::string directory = DirectoryOf(HostPathOf(snapshot));
  for (const SnapshotFile& base : image.bases) {
    KM_ASSIGN_OR_RETURN(files.emplace_back(), OpenBase(base, directory));
  }
  return files;
}

bool IsOneOf(const std::string& path, const std::vector<OwnedFd>& files) {
  struct stat file = {}, other = {};
  if (stat(path.c_str(), &file) != 0) return false;
  return std::any_of(files.begin(), files.end(), [&](const OwnedFd& fd) {
    return fstat(fd.get(), &other) == 0 && file.st_dev == other.st_dev &&
           file.st_ino == other.st_ino;
  });
}

absl::Status MergeSnapshot(Image image, int snapshot, const std::string& path,
                           WriteProgress* progress) {
  KM_ASSIGN_OR_RETURN(const std::vector<OwnedFd> bases, OpenBases(image, snapshot));
  if (getrandom(image.header.id.data(), image.header.id.size(), 0) !=
      static_cast<ssize_t>(image.header.id.size())) {
    return ErrnoStatus(errno, "cannot draw a random id");
  }
  MergedMemory memory(&image);
  KM_RETURN_IF_ERROR(memory.Map(snapshot, bases));
  WriteOptions options;
  options.progress = progress;
  return WriteSnapshot(image, memory.source(), path, options);
}

}  // namespace km
