// mremap.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "km/base/status.h"
#include "km/memory/address_space.h"

namespace km {

// Whether [start, end) is one mapping to the program: what came from a snapshot and what was added
// since differ to the monitor only.
bool AddressSpace::OneMapping(uint64_t start, uint64_t end) const {
  auto it = std::prev(mappings_.upper_bound(start));
  const Mapping& first = it->second;
  for (; it != mappings_.end() && it->second.end < end; ++it) {
    auto next = std::next(it);
    if (next == mappings_.end() || next->second.start != it->second.end ||
        next->second.protection != first.protection || next->second.flags != first.flags ||
        next->second.file != first.file || next->second.name != first.name ||
        next->second.advice != first.advice) {
      return false;
    }
  }
  return true;
}

namespace {

// Whether the host has this part of the window as one mapping of its own. Asked by way of growing
// it, which fails in any case: the window goes on behind it. Before Linux 6.17 a move of more than
// one is refused only after what was at the destination is gone, and a mapping of the monitor's
// could come there.
bool IsOneInHost(std::byte* from, uint64_t length) {
  return mremap(from, length, length + kPageSize, 0) != MAP_FAILED || errno != EFAULT;
}

}  // namespace

// Extends the host's own mapping, which only mremap can do: for files and shared memory there is no
// descriptor that maps, and to memory that was moved the kernel joins nothing new: each time it
// would become one more mapping of the host's. It grows outside the window, where there is room
// behind it, and as far into a large page as it is here: so such pages stay in one piece.
int64_t AddressSpace::GrowInHost(const Mapping& mapping, uint64_t start, uint64_t new_end) {
  constexpr int kMove = MREMAP_MAYMOVE | MREMAP_FIXED;
  const uint64_t old_length = mapping.end - start, new_length = new_end - start;
  const uint64_t room_length = new_length + kLargePageSize;
  std::byte* host = memory_->window() + start;
  if (!IsOneInHost(host, old_length)) return -EFAULT;
  void* room =
      mmap(nullptr, room_length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return -errno;
  const uint64_t front = (start - reinterpret_cast<uint64_t>(room)) % kLargePageSize;
  std::byte* scratch = static_cast<std::byte*>(room) + front;
  Must(memory_->tables().Clear(start, new_end));
  UnlockInHost(mapping, start, mapping.end);
  if (mremap(host, old_length, old_length, kMove | MREMAP_DONTUNMAP, scratch) == MAP_FAILED) {
    int error = errno;
    munmap(room, room_length);
    AdviseHost(start, mapping.end, mapping.advice);
    return -error;
  }
  munmap(scratch + old_length, room_length - front - old_length);
  if (front != 0) munmap(room, front);
  // Moves on, should a thread of the monitor have taken that place.
  void* grown = mremap(scratch, old_length, new_length, MREMAP_MAYMOVE);
  const int error = grown == MAP_FAILED ? errno : 0;
  void* back = error == 0 ? mremap(grown, new_length, new_length, kMove, host)
                          : mremap(scratch, old_length, old_length, kMove, host);
  // There were more mappings than now when it was taken away.
  if (back == MAP_FAILED) Must(ErrnoStatus(errno, "cannot put the program's memory back"));
  AdviseHost(start, error == 0 ? new_end : mapping.end, mapping.advice);
  if (error != 0) return -error;
  Mapping added = mapping;
  CutBelow(mapping.end, &added);
  added.end = new_end;
  Insert(std::move(added));
  return static_cast<int64_t>(start);
}

// Extends the mapping that ends at `old_end` and was moved there or not; [old_end, new_end) is
// free.
int64_t AddressSpace::Grow(uint64_t start, uint64_t old_end, uint64_t new_end, bool moved) {
  Mapping mapping = FindMapping(old_end - 1)->second;
  const uint64_t first = std::max(start, mapping.start);
  MapRequest request = MoreOf(mapping);
  if (mapping.from_snapshot && !(mapping.flags & MAP_ANONYMOUS)) {
    // What the snapshot has behind it is something else.
    request.file = MappedFile::Open(mapping.name, O_RDONLY);
    if (request.file == nullptr) return -ENOMEM;
    request.host_fd = request.file->fd.get();
    request.offset = mapping.offset + (mapping.end - mapping.start);
  } else if (mapping.file != nullptr || (mapping.flags & MAP_SHARED)) {
    int64_t grown = GrowInHost(mapping, first, new_end);
    return grown < 0 ? grown : static_cast<int64_t>(start);
  } else if (moved && !mapping.from_snapshot && GrowInHost(mapping, first, new_end) >= 0) {
    if (new_end - first <= kEagerFill) FillAround(FindMapping(first)->second, first, new_end);
    return static_cast<int64_t>(start);
  }
  int64_t placed = PlaceLocked(request, old_end, new_end - old_end);
  return placed < 0 ? placed : static_cast<int64_t>(start);
}

// With MREMAP_DONTUNMAP the kernel counts locked memory twice, and unlocks all of the mapping that
// it moves a part of: what is locked is so again where it comes to lie.
void AddressSpace::UnlockInHost(const Mapping& mapping, uint64_t start, uint64_t end) {
  if (mapping.advice & kAdviceLocked) (void)munlock(memory_->window() + start, end - start);
}

namespace {

// Moves what the host has mapped at [from, from + length), mapping by mapping: how many there are
// is the kernel's to know. 0, or a negative errno with all where it was.
int64_t MoveInHost(std::byte* from, std::byte* to, uint64_t length) {
  constexpr int kFlags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
  if (length <= kPageSize || IsOneInHost(from, length)) {
    return mremap(from, length, length, kFlags, to) != MAP_FAILED ? 0 : -errno;
  }
  const uint64_t half = PageUp(length / 2);
  if (int64_t error = MoveInHost(from, to, half); error < 0) return error;
  const int64_t error = MoveInHost(from + half, to + half, length - half);
  if (error < 0) (void)MoveInHost(to, from, half);
  return error;
}

}  // namespace

// Moves [from, from + length) to the free range at `to`. The host's mapping is not taken away in
// the same step (MREMAP_DONTUNMAP): a hole in the window could be filled by a mapping of the
// monitor's.
int64_t AddressSpace::Move(uint64_t from, uint64_t to, uint64_t length, bool keep) {
  SplitAt(from);
  SplitAt(from + length);
  std::vector<Mapping> pieces;
  for (auto it = mappings_.find(from); it != mappings_.end() && it->first < from + length; ++it) {
    pieces.push_back(it->second);
  }
  PutSyscallsBack(from, from + length);
  Must(memory_->tables().Clear(from, from + length));
  for (const Mapping& piece : pieces) UnlockInHost(piece, piece.start, piece.end);
  std::byte* window = memory_->window();
  const int64_t moved = MoveInHost(window + from, window + to, length);
  for (Mapping& piece : pieces) {
    const uint64_t distance = moved < 0 ? 0 : to - from;  // it may wrap
    piece.start += distance;
    piece.end += distance;
    if (piece.snapshot_file_end != 0) piece.snapshot_file_end += distance;
    if (piece.advice & kAdviceLocked) AdviseHost(piece.start, piece.end, piece.advice);
  }
  if (moved < 0) {
    Reserve(to, to + length);
    return moved;
  }
  for (Mapping& piece : pieces) {
    if (length <= kEagerFill) FillAround(piece, piece.start, piece.end);
    Insert(piece);
  }
  if (!keep) return UnmapLocked(from, from + length);
  Mark(from, from + length, kAdviceLocked | kAdviceLockOnFault, 0);
  // What stays behind is fresh memory, not the snapshot file's once more.
  for (uint64_t start = from; start < from + length;) {
    uint64_t end = std::min(FindMapping(start)->second.end, from + length);
    if (FindMapping(start)->second.from_snapshot) {
      if (int64_t error = Discard(start, end, MADV_DONTNEED); error < 0) return error;
    }
    start = end;
  }
  return 0;
}

// A second view of shared memory: mremap(2) with an old size of 0. `to` 0: anywhere.
int64_t AddressSpace::Alias(uint64_t from, uint64_t length, uint64_t to) {
  Mapping mapping = FindMapping(from)->second;
  MapRequest request;
  request.length = length;
  if (to == 0) to = ChooseAddress(request);
  if (to == 0) return -ENOMEM;
  Must(memory_->tables().Clear(to, to + length));
  if (mremap(memory_->window() + from, 0, length, MREMAP_MAYMOVE | MREMAP_FIXED,
             memory_->window() + to) == MAP_FAILED) {
    const int error = errno;
    ReserveAgain(to, to + length);
    return -error;
  }
  Erase(to, to + length);
  mapping.offset += from - mapping.start;
  mapping.start = to;
  mapping.end = to + length;
  Insert(std::move(mapping));
  return static_cast<int64_t>(to);
}

namespace {

// Whether the host would lock so many bytes more. It is asked before anything moves: a move of
// locked memory that is taken back counts twice with some kernels.
bool MayLock(uint64_t length) {
  if (length == 0) return true;
  void* probe = mmap(nullptr, length, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_LOCKED, -1, 0);
  if (probe == MAP_FAILED) return false;
  munmap(probe, length);
  return true;
}

}  // namespace

// What mremap(2) refuses, in the kernel's order (mm/mremap.c). Lengths are rounded up.
int64_t AddressSpace::CheckRemap(uint64_t address, uint64_t old_length, uint64_t new_length,
                                 int flags, uint64_t new_address) const {
  auto it = mappings_.upper_bound(address);
  if (it == mappings_.begin() || (--it)->second.end <= address) return -EFAULT;
  const Mapping& mapping = it->second;
  if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
    if (!PageAligned(new_address) || !ValidRange(new_address, new_length)) return -EINVAL;
    if (address + old_length > new_address && new_address + new_length > address) return -EINVAL;
    if ((flags & MREMAP_FIXED) && AnySealed(new_address, new_address + new_length)) return -EPERM;
  }
  if (!ValidRange(address, old_length)) return old_length >= new_length ? -EINVAL : -EFAULT;
  if (AnySealed(address, address + std::max(old_length, kPageSize))) return -EPERM;
  bool moves = flags & (MREMAP_FIXED | MREMAP_DONTUNMAP);
  if (old_length >= new_length && !moves) return 0;
  if (old_length == 0 && !(mapping.flags & MAP_SHARED)) return -EINVAL;
  if ((mapping.flags & MAP_HUGETLB) && new_length > old_length) return -EINVAL;
  uint64_t kept = std::min(old_length, new_length);
  if (!RangeMapped(address, address + kept) || !OneMapping(address, address + kept)) {
    return -EFAULT;
  }
  uint64_t added = flags & MREMAP_DONTUNMAP ? new_length : new_length - kept;
  bool data = (mapping.protection & PROT_WRITE) && (mapping.flags & MAP_PRIVATE);
  if (!MayGrow(added, data ? added : 0)) return -ENOMEM;
  return (mapping.advice & kAdviceLocked) && !MayLock(added) ? -EAGAIN : 0;
}

int64_t AddressSpace::Remap(uint64_t address, uint64_t old_length, uint64_t new_length, int flags,
                            uint64_t new_address) {
  constexpr int kKnown = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
  bool fixed = flags & MREMAP_FIXED, keep = flags & MREMAP_DONTUNMAP;
  if ((flags & ~kKnown) || ((fixed || keep) && !(flags & MREMAP_MAYMOVE))) return -EINVAL;
  if ((keep && old_length != new_length) || !PageAligned(address)) return -EINVAL;
  old_length = PageUp(old_length);
  new_length = PageUp(new_length);
  if (new_length == 0) return -EINVAL;
  if (new_length > kTaskSize) return -EINVAL;
  if (!ValidRange(0, new_length)) return fixed || keep ? -EINVAL : -ENOMEM;
  absl::MutexLock lock(&mutex_);
  if (int64_t error = CheckRemap(address, old_length, new_length, flags, new_address); error < 0) {
    return error;
  }
  if (old_length == 0) {
    if (!(flags & MREMAP_MAYMOVE)) return -ENOMEM;
    return Alias(address, new_length, fixed ? new_address : 0);
  }
  // Only a shrink may span mappings.
  if (new_length < old_length) {
    if (int64_t error = UnmapLocked(address + new_length, address + old_length); error < 0) {
      return error;
    }
    old_length = new_length;
  }
  uint64_t end = address + old_length;
  if (!fixed && !keep) {
    if (new_length == old_length) return static_cast<int64_t>(address);
    uint64_t new_end = address + new_length;
    if (ValidRange(address, new_length) && RangeFree(end, new_end)) {
      if (int64_t grown = Grow(address, end, new_end, false); grown >= 0) return grown;
    }
    if (!(flags & MREMAP_MAYMOVE)) return -ENOMEM;
  }
  MapRequest request;
  request.length = new_length;
  request.address = keep ? new_address : 0;
  uint64_t target = fixed ? new_address : ChooseAddress(request);
  if (target == 0) return -ENOMEM;
  if (int64_t error = UnmapLocked(target, target + new_length); error < 0) return error;
  if (int64_t error = Move(address, target, old_length, keep); error < 0) return error;
  if (new_length == old_length) return static_cast<int64_t>(target);
  int64_t grown = Grow(target, target + old_length, target + new_length, true);
  if (grown >= 0) return grown;
  // A failed mremap leaves everything where it was.
  Move(target, address, old_length, false);
  return grown;
}

// remap_file_pages(2), which is an mmap of the same file at another offset: the host makes it, for
// it alone can map that file again.
int64_t AddressSpace::RemapFilePages(uint64_t start, uint64_t length, uint64_t page_offset,
                                     int flags) {
  uint64_t end = start + length;
  if (end <= start || page_offset + length / kPageSize < page_offset) return -EINVAL;
  absl::MutexLock lock(&mutex_);
  if (!ValidRange(start, length) || !RangeMapped(start, end)) return -EINVAL;
  Mapping mapping = FindMapping(start)->second;
  if (!(mapping.flags & MAP_SHARED)) return -EINVAL;
  for (auto it = FindMapping(start); it != mappings_.end() && it->first < end; ++it) {
    if (it->second.file != mapping.file || it->second.flags != mapping.flags) return -EINVAL;
  }
  if (AnySealed(start, end)) return -EPERM;
  Must(memory_->tables().Clear(start, end));
  if (syscall(SYS_remap_file_pages, memory_->window() + start, length, 0, page_offset, flags) !=
      0) {
    const int error = errno;
    ReserveAgain(start, end);
    return -error;
  }
  Erase(start, end);
  mapping.start = start;
  mapping.end = end;
  mapping.offset = page_offset * kPageSize;
  Insert(std::move(mapping));
  return 0;
}

}  // namespace km
