// Attachments of System V shared memory.
#include <sys/mman.h>
#include <sys/shm.h>

#include <cerrno>
#include <utility>

#include "km/memory/address_space.h"

namespace km {

int64_t AddressSpace::Attach(int id, uint64_t length, uint64_t address, int flags,
                             std::shared_ptr<const MappedFile> file) {
  if (!ValidRange(address, length)) return -EINVAL;
  absl::MutexLock lock(&mutex_);
  uint64_t start = address;
  if (address == 0) {
    MapRequest request;
    request.length = length;
    start = ChooseAddress(request);
    if (start == 0) return -ENOMEM;
  } else if (!(flags & SHM_REMAP) && !RangeFree(start, start + length)) {
    return -EINVAL;
  }
  uint64_t end = start + length;
  if (AnySealed(start, end)) return -EPERM;
  if (!MayGrow(length - MappedBytes(start, end), 0)) return -ENOMEM;
  Must(memory_->tables().Clear(start, end));
  // The window is reserved memory: whatever is there is replaced.
  int host_flags = (flags & (SHM_RDONLY | SHM_EXEC)) | SHM_REMAP;
  if (shmat(id, memory_->window() + start, host_flags) == reinterpret_cast<void*>(-1)) {
    int error = errno;
    ReserveAgain(start, end);
    return -error;
  }
  Erase(start, end);
  Mapping mapping;
  mapping.start = start;
  mapping.end = end;
  mapping.protection =
      PROT_READ | (flags & SHM_RDONLY ? 0 : PROT_WRITE) | (flags & SHM_EXEC ? PROT_EXEC : 0);
  mapping.flags = MAP_SHARED;
  mapping.file = std::move(file);
  mapping.advice = FutureAdvice();
  if (mapping.advice != 0) AdviseHost(start, end, mapping.advice);
  if (length <= kEagerFill) FillAround(mapping, start, end);
  Insert(std::move(mapping));
  return static_cast<int64_t>(start);
}

// The whole segment is attached elsewhere, the piece is moved from there.
int64_t AddressSpace::AttachPiece(int id, uint64_t length, Mapping mapping) {
  const uint64_t size = mapping.end - mapping.start;
  if (mapping.offset > length || size > length - mapping.offset) return -EINVAL;
  absl::MutexLock lock(&mutex_);
  if (!ValidRange(mapping.start, size) || !RangeFree(mapping.start, mapping.end)) return -EINVAL;
  const int executable = mapping.protection & PROT_EXEC ? SHM_EXEC : 0;
  void* whole = shmat(id, nullptr, (mapping.file->read_only ? SHM_RDONLY : 0) | executable);
  if (whole == reinterpret_cast<void*>(-1)) return -errno;
  auto* first = static_cast<std::byte*>(whole);
  std::byte* place = memory_->window() + mapping.start;
  int error = 0;
  if (mremap(first + mapping.offset, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, place) ==
      MAP_FAILED) {
    error = errno;
    munmap(first + mapping.offset, size);
  }
  if (mapping.offset != 0) munmap(first, mapping.offset);
  if (const uint64_t end = mapping.offset + size; end != length) munmap(first + end, length - end);
  if (error == 0 && mprotect(place, size, HostProtection(mapping.protection)) != 0) error = errno;
  if (error != 0) {
    ReserveAgain(mapping.start, mapping.end);
    return -error;
  }
  if (mapping.advice != 0) AdviseHost(mapping.start, mapping.end, mapping.advice);
  Insert(std::move(mapping));
  return 0;
}

// Every piece of the attachment that began at `address`, as ksys_shmdt of the kernel's ipc/shm.c:
// the host's count of attachments goes down as its mappings go.
int64_t AddressSpace::Detach(uint64_t address) {
  if (!PageAligned(address)) return -EINVAL;
  absl::MutexLock lock(&mutex_);
  auto belongs = [address](const Mapping& mapping) {
    return IsSysv(mapping) && mapping.start - address == mapping.offset;
  };
  auto it = mappings_.lower_bound(address);
  while (it != mappings_.end() && !belongs(it->second)) ++it;
  if (it == mappings_.end()) return -EINVAL;
  std::shared_ptr<const MappedFile> file = it->second.file;
  while (it != mappings_.end()) {
    Mapping mapping = it->second;
    if (mapping.file == file && belongs(mapping)) {
      if (int64_t error = UnmapLocked(mapping.start, mapping.end); error < 0) return error;
    }
    it = mappings_.lower_bound(mapping.end);
  }
  return 0;
}

}  // namespace km
