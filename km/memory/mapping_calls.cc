// mmap, munmap, mprotect, mremap, brk and madvise.
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "km/base/log.h"
#include "km/memory/address_space.h"
#include "km/memory/guarded_copy.h"

namespace km {
namespace {

constexpr uint64_t kLowestAddress = 0x10000;  // vm.mmap_min_addr
constexpr uint64_t kGuardGap = 256 * kPageSize;
constexpr uint64_t k32BitEnd = uint64_t{1} << 31;
constexpr int kTypeMask = 0xf;
constexpr int kProtSem = 0x8;  // PROT_SEM of <asm/mman.h>: accepted, without meaning
constexpr int kKeptFlags = MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_NORESERVE;
constexpr int kMonitorFlags = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT | MAP_GROWSDOWN;

bool ValidRange(uint64_t start, uint64_t length) {
  return length <= KM_GUEST_END && start <= KM_GUEST_END - length;
}

// A failure here leaves an entry that the host no longer backs: the table arena is exhausted.
void Must(const absl::Status& status) {
  if (!status.ok()) Log(LogLevel::kError, status.message());
}

}  // namespace

// The highest gap of `length` bytes below `below`, 0 when there is none.
uint64_t AddressSpace::FindGap(uint64_t length, uint64_t alignment, uint64_t below) const {
  uint64_t end = below;
  for (auto it = mappings_.lower_bound(below);;) {
    if (end < length + kLowestAddress) return 0;
    uint64_t start = (end - length) & ~(alignment - 1);
    if (it == mappings_.begin() || std::prev(it)->second.end <= start) {
      return start >= kLowestAddress ? start : 0;
    }
    --it;
    end = std::min(end, it->second.start);
    if (it->second.flags & MAP_GROWSDOWN) end -= std::min(end, kGuardGap);
  }
}

uint64_t AddressSpace::FindGapBelowBase(uint64_t length, uint64_t alignment) {
  uint64_t below =
      length >= searched_length_ ? std::min(searched_above_, layout_.mmap_base) : layout_.mmap_base;
  uint64_t start = FindGap(length, alignment, below);
  if (start != 0 && alignment == kPageSize) {
    searched_length_ = length;
    searched_above_ = start + length;
  }
  return start;
}

uint64_t AddressSpace::ChooseAddress(const MapRequest& request) {
  uint64_t length = PageUp(request.length);
  uint64_t hint = PageUp(request.address);
  if (hint >= kLowestAddress && ValidRange(hint, length) && RangeFree(hint, hint + length)) {
    return hint;
  }
  // Where 2 MiB entries can serve it, it shall lie so.
  uint64_t alignment =
      length >= kLargePageSize && length % kLargePageSize == 0 ? kLargePageSize : kPageSize;
  if (request.flags & MAP_32BIT) return FindGap(length, alignment, k32BitEnd);
  uint64_t address = FindGapBelowBase(length, alignment);
  if (address == 0 && alignment != kPageSize) address = FindGapBelowBase(length, kPageSize);
  // As Linux does when the space below is full: anywhere.
  return address != 0 ? address : FindGap(length, kPageSize, KM_GUEST_END);
}

int64_t AddressSpace::Map(const MapRequest& request) {
  absl::MutexLock lock(&mutex_);
  return MapLocked(request);
}

int64_t AddressSpace::MapLocked(const MapRequest& request) {
  if (request.length == 0 || !PageAligned(request.offset)) return -EINVAL;
  uint64_t length = PageUp(request.length);
  if (length == 0 || length > KM_GUEST_END) return -ENOMEM;
  int type = request.flags & kTypeMask;
  if (type != MAP_SHARED && type != MAP_PRIVATE && type != MAP_SHARED_VALIDATE) return -EINVAL;
  if (request.offset + length < request.offset) return -EOVERFLOW;
  uint64_t start = request.address;
  if (request.flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
    if (!PageAligned(start)) return -EINVAL;
    if (!ValidRange(start, length)) return -ENOMEM;
    if (start < kLowestAddress) return -EPERM;
    if ((request.flags & MAP_FIXED_NOREPLACE) && !RangeFree(start, start + length)) return -EEXIST;
  } else {
    start = ChooseAddress(request);
    if (start == 0) return -ENOMEM;
  }
  return PlaceLocked(request, start, length);
}

// A fixed mapping failed. Kernels before 6.12 may have taken away by then what was there; the
// window must not have a hole that a mapping of the monitor's could come to lie in.
void AddressSpace::ReserveAgain(uint64_t start, uint64_t end) {
  std::byte* host = memory_->window() + start;
  // msync says ENOMEM for a range with a hole.
  if (msync(host, end - start, MS_ASYNC) == 0 || errno != ENOMEM) return;
  if (mmap(host, end - start, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
           -1, 0) != MAP_FAILED) {
    Erase(start, end);
  }
}

// What was there goes: its entries first, then the host's mapping is replaced.
int64_t AddressSpace::PlaceLocked(const MapRequest& request, uint64_t start, uint64_t length) {
  uint64_t end = start + length;
  Must(memory_->tables().Clear(start, end));
  int protection = request.protection & (PROT_READ | PROT_WRITE | PROT_EXEC);
  void* host = memory_->window() + start;
  if (mmap(host, length, HostProtection(protection), (request.flags & ~kMonitorFlags) | MAP_FIXED,
           request.host_fd, static_cast<off_t>(request.offset)) == MAP_FAILED) {
    int error = errno;
    ReserveAgain(start, end);
    return -error;
  }
  Erase(start, end);
  Mapping mapping;
  mapping.start = start;
  mapping.end = end;
  mapping.protection = protection;
  mapping.flags = (request.flags & kKeptFlags) |
                  ((request.flags & kTypeMask) == MAP_PRIVATE ? MAP_PRIVATE : MAP_SHARED);
  if (!(request.flags & MAP_ANONYMOUS)) {
    mapping.file = request.file;
    mapping.offset = request.offset;
  }
  mapping.name = request.name;
  if (length <= kEagerFill || (request.flags & MAP_POPULATE)) FillAround(mapping, start, end);
  Insert(std::move(mapping));
  return static_cast<int64_t>(start);
}

int64_t AddressSpace::Unmap(uint64_t address, uint64_t length) {
  if (!PageAligned(address) || length == 0) return -EINVAL;
  length = PageUp(length);
  if (length == 0 || !ValidRange(address, length)) return -EINVAL;
  absl::MutexLock lock(&mutex_);
  return UnmapLocked(address, address + length);
}

int64_t AddressSpace::UnmapLocked(uint64_t start, uint64_t end) {
  if (RangeFree(start, end)) return 0;
  Must(memory_->tables().Clear(start, end));
  // The window stays reserved: nothing of the monitor's may come to lie in it.
  if (mmap(memory_->window() + start, end - start, PROT_NONE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED) {
    return -errno;
  }
  Erase(start, end);
  return 0;
}

int64_t AddressSpace::Protect(uint64_t address, uint64_t length, int protection) {
  if (!PageAligned(address)) return -EINVAL;
  if (length == 0) return 0;
  length = PageUp(length);
  if (length == 0 || !ValidRange(address, length)) return -ENOMEM;
  constexpr int kGrows = PROT_GROWSDOWN | PROT_GROWSUP;
  if ((protection & kGrows) == kGrows) return -EINVAL;
  if (protection & ~(PROT_READ | PROT_WRITE | PROT_EXEC | kGrows | kProtSem)) return -EINVAL;
  absl::MutexLock lock(&mutex_);
  uint64_t start = address, end = address + length;
  auto first = FindMapping(start);
  if (first == mappings_.end()) return -ENOMEM;
  if (protection & PROT_GROWSDOWN) {
    if (!(first->second.flags & MAP_GROWSDOWN) && first->second.name != "[stack]") return -EINVAL;
    start = first->second.start;
  }
  protection &= PROT_READ | PROT_WRITE | PROT_EXEC;
  while (start < end) {
    auto it = FindMapping(start);
    if (it == mappings_.end()) return -ENOMEM;
    Mapping mapping = it->second;
    uint64_t piece_end = std::min(end, mapping.end);
    if (mapping.protection != protection) {
      if (int64_t error = ProtectOne(mapping, start, piece_end, protection); error < 0)
        return error;
    }
    start = piece_end;
  }
  return 0;
}

int64_t AddressSpace::ProtectOne(const Mapping& mapping, uint64_t start, uint64_t end,
                                 int protection) {
  int old = mapping.protection;
  if (old & ~protection) Must(memory_->tables().Restrict(start, end, old & protection));
  if (mprotect(memory_->window() + start, end - start, HostProtection(protection)) != 0)
    return -errno;
  if ((protection & ~old) && (old & protection)) {
    Must(memory_->tables().Grant(start, end, protection));
  }
  Erase(start, end);
  Mapping changed = mapping;
  changed.offset += start - mapping.start;
  changed.start = start;
  changed.end = end;
  changed.protection = protection;
  if (!(old & protection) && end - start <= kEagerFill) FillAround(changed, start, end);
  Insert(std::move(changed));
  return 0;
}

int64_t AddressSpace::Brk(uint64_t end) {
  absl::MutexLock lock(&mutex_);
  uint64_t current = layout_.brk_end;
  if (end < layout_.brk_start || end > KM_GUEST_END) return static_cast<int64_t>(current);
  uint64_t old_page = PageUp(current), new_page = PageUp(end);
  if (new_page < old_page) {
    if (UnmapLocked(new_page, old_page) < 0) return static_cast<int64_t>(current);
  } else if (new_page > old_page) {
    if (!RangeFree(old_page, new_page + kPageSize)) return static_cast<int64_t>(current);
    MapRequest request;
    request.protection = PROT_READ | PROT_WRITE;
    request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
    request.name = "[heap]";
    if (PlaceLocked(request, old_page, new_page - old_page) < 0) {
      return static_cast<int64_t>(current);
    }
  }
  layout_.brk_end = end;
  return static_cast<int64_t>(end);
}

// Whether [start, end) is one mapping to the program: what came from a snapshot and what was added
// since differ to the monitor only.
bool AddressSpace::OneMapping(uint64_t start, uint64_t end) const {
  auto it = std::prev(mappings_.upper_bound(start));
  const Mapping& first = it->second;
  for (; it != mappings_.end() && it->second.end < end; ++it) {
    auto next = std::next(it);
    if (next == mappings_.end() || next->second.start != it->second.end ||
        next->second.protection != first.protection || next->second.flags != first.flags ||
        next->second.file != first.file || next->second.name != first.name) {
      return false;
    }
  }
  return true;
}

// Extends a mapping of a file or of shared memory, which only mremap can do without a descriptor
// that maps. The host's mapping grows outside the window, where there is room behind it.
int64_t AddressSpace::GrowObject(const Mapping& mapping, uint64_t start, uint64_t new_end) {
  uint64_t old_length = mapping.end - start, new_length = new_end - start;
  std::byte* host = memory_->window() + start;
  Must(memory_->tables().Clear(start, new_end));
  void* scratch = mremap(host, old_length, old_length, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
  if (scratch == MAP_FAILED) return -errno;
  void* grown = mremap(scratch, old_length, new_length, MREMAP_MAYMOVE);
  int error = grown == MAP_FAILED ? errno : 0;
  uint64_t length = grown == MAP_FAILED ? old_length : new_length;
  mremap(grown == MAP_FAILED ? scratch : grown, length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
         host);
  if (error != 0) return -error;
  Mapping added = mapping;
  added.offset += mapping.end - mapping.start;
  added.start = mapping.end;
  added.end = new_end;
  Insert(std::move(added));
  return static_cast<int64_t>(start);
}

// Extends the mapping that ends at `old_end`; [old_end, new_end) is free.
int64_t AddressSpace::Grow(uint64_t start, uint64_t old_end, uint64_t new_end) {
  Mapping mapping = FindMapping(old_end - 1)->second;
  if (!(mapping.flags & MAP_ANONYMOUS) || (mapping.flags & MAP_SHARED)) {
    int64_t grown = GrowObject(mapping, std::max(start, mapping.start), new_end);
    return grown < 0 ? grown : static_cast<int64_t>(start);
  }
  MapRequest request;
  request.protection = mapping.protection;
  request.flags = mapping.flags;
  request.name = mapping.name;
  int64_t placed = PlaceLocked(request, old_end, new_end - old_end);
  return placed < 0 ? placed : static_cast<int64_t>(start);
}

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
  Must(memory_->tables().Clear(from, from + length));
  std::byte* window = memory_->window();
  if (mremap(window + from, length, length, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
             window + to) == MAP_FAILED) {
    return -errno;
  }
  for (Mapping& piece : pieces) {
    piece.start = piece.start - from + to;
    piece.end = piece.end - from + to;
    if (length <= kEagerFill) FillAround(piece, piece.start, piece.end);
    Insert(piece);
  }
  if (!keep) return UnmapLocked(from, from + length);
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
    return -errno;
  }
  Erase(to, to + length);
  mapping.offset += from - mapping.start;
  mapping.start = to;
  mapping.end = to + length;
  Insert(std::move(mapping));
  return static_cast<int64_t>(to);
}

int64_t AddressSpace::Remap(uint64_t address, uint64_t old_length, uint64_t new_length, int flags,
                            uint64_t new_address) {
  constexpr int kKnown = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
  if ((flags & ~kKnown) || !PageAligned(address)) return -EINVAL;
  bool fixed = flags & MREMAP_FIXED, keep = flags & MREMAP_DONTUNMAP;
  if ((fixed || keep) && !(flags & MREMAP_MAYMOVE)) return -EINVAL;
  old_length = PageUp(old_length);
  new_length = PageUp(new_length);
  if (new_length == 0 || (keep && old_length != new_length)) return -EINVAL;
  if (!ValidRange(address, old_length)) return -EFAULT;
  if (new_length > KM_GUEST_END) return -ENOMEM;
  if (fixed) {
    if (!PageAligned(new_address) || !ValidRange(new_address, new_length)) return -EINVAL;
    if (new_address < address + old_length && address < new_address + new_length) return -EINVAL;
  }
  absl::MutexLock lock(&mutex_);
  auto it = FindMapping(address);
  if (it == mappings_.end() || !RangeMapped(address, address + old_length)) return -EFAULT;
  if (old_length == 0) {
    if (!(it->second.flags & MAP_SHARED) || !(flags & MREMAP_MAYMOVE)) return -EINVAL;
    return Alias(address, new_length, fixed ? new_address : 0);
  }
  // Only a shrink may span mappings.
  bool whole = OneMapping(address, address + old_length);
  if (new_length < old_length) {
    if (int64_t error = UnmapLocked(address + new_length, address + old_length); error < 0) {
      return error;
    }
    old_length = new_length;
  } else if (!whole) {
    return -EFAULT;
  }
  uint64_t end = address + old_length;
  if (!fixed && !keep) {
    if (new_length == old_length) return static_cast<int64_t>(address);
    uint64_t new_end = address + new_length;
    if (ValidRange(address, new_length) && RangeFree(end, new_end)) {
      if (int64_t grown = Grow(address, end, new_end); grown >= 0) return grown;
    }
    if (!(flags & MREMAP_MAYMOVE)) return -ENOMEM;
  }
  MapRequest request;
  request.length = new_length;
  uint64_t target = fixed ? new_address : ChooseAddress(request);
  if (target == 0) return -ENOMEM;
  if (int64_t error = UnmapLocked(target, target + new_length); error < 0) return error;
  if (int64_t error = Move(address, target, old_length, keep); error < 0) return error;
  if (new_length == old_length) return static_cast<int64_t>(target);
  return Grow(target, target + old_length, target + new_length);
}

// MADV_DONTNEED and MADV_FREE. Memory that the host maps from the snapshot file is replaced by what
// the program expects, zeros or its own file's bytes: the host's own MADV_DONTNEED would bring back
// the snapshot's. (A file that is gone leaves nothing better.)
int64_t AddressSpace::Discard(uint64_t start, uint64_t end, int advice) {
  Mapping mapping = FindMapping(start)->second;
  MapRequest request;
  bool anonymous = mapping.flags & MAP_ANONYMOUS;
  if (mapping.from_snapshot && !anonymous) request.file = MappedFile::Open(mapping.name, O_RDONLY);
  if (!mapping.from_snapshot || (!anonymous && request.file == nullptr)) {
    return madvise(memory_->window() + start, end - start, advice) == 0 ? 0 : -errno;
  }
  request.protection = mapping.protection;
  request.flags = mapping.flags;
  if (anonymous) {
    request.name = mapping.name;
  } else {
    request.host_fd = request.file->fd.get();
    request.offset = mapping.offset + (start - mapping.start);
  }
  int64_t placed = PlaceLocked(request, start, end - start);
  return placed < 0 ? placed : 0;
}

int64_t AddressSpace::Advise(uint64_t address, uint64_t length, int advice) {
  switch (advice) {
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_REMOVE:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE:
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
      break;
    case MADV_DONTFORK:
    case MADV_DOFORK:
    case MADV_WIPEONFORK:
    case MADV_KEEPONFORK:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
      break;  // Without fork and with whole dumps there is nothing to do; the range is still
              // checked.
    default:
      return -EINVAL;
  }
  if (!PageAligned(address)) return -EINVAL;
  uint64_t size = PageUp(length);
  if ((length != 0 && size == 0) || address + size < address) return -EINVAL;
  absl::MutexLock lock(&mutex_);
  bool hole = false, populate = advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE;
  for (uint64_t start = address, end = address + size; start < end;) {
    auto it = FindMapping(start);
    if (it == mappings_.end()) {
      hole = true;
      if (populate) break;
      auto next = mappings_.upper_bound(start);
      if (next == mappings_.end()) break;
      start = next->first;
      continue;
    }
    uint64_t piece_end = std::min(end, it->second.end);
    int64_t result = 0;
    if (advice == MADV_DONTNEED || advice == MADV_FREE) {
      result = Discard(start, piece_end, advice);
    } else if (advice != MADV_DONTFORK && advice != MADV_DOFORK && advice != MADV_WIPEONFORK &&
               advice != MADV_KEEPONFORK && advice != MADV_DONTDUMP && advice != MADV_DODUMP) {
      if (madvise(memory_->window() + start, piece_end - start, advice) != 0) result = -errno;
      if (populate) {
        FillAround(it->second, start, piece_end);
      }
    }
    if (result < 0) return result;
    start = piece_end;
  }
  return hole ? -ENOMEM : 0;
}

}  // namespace km
