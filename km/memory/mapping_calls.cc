// mmap, munmap, mprotect and brk. The others: remap_calls.cc, advice_calls.cc.
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "km/base/log.h"
#include "km/memory/address_space.h"
#include "km/memory/guarded_copy.h"

namespace km {
namespace {

constexpr uint64_t kGuardGap = 256 * kPageSize;
constexpr uint64_t k32BitStart = uint64_t{1} << 30, k32BitEnd = uint64_t{1} << 31;
constexpr int kTypeMask = 0xf;
constexpr int kProtSem = 0x8;       // PROT_SEM of <asm/mman.h>: accepted, without meaning
constexpr int kMapDroppable = 0x8;  // of Linux 6.11, a type
constexpr int kHugeFlags = MAP_HUGETLB | (MAP_HUGE_MASK << MAP_HUGE_SHIFT);
constexpr int kKeptFlags = MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_NORESERVE | kHugeFlags;
// Memory up to this size is likely to be written to soon: allocators ask for as much, as python's
// arenas are.
constexpr uint64_t kWrittenSoon = uint64_t{1} << 20;
// Of all such together: what a program may take more than natively that maps much and writes
// little, as to a thousand stacks of its own making.
constexpr uint64_t kMostAhead = uint64_t{128} << 20;
constexpr int kMonitorFlags = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT | MAP_GROWSDOWN;

uint64_t AlignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

// Of MAP_HUGETLB: as MAP_HUGE_* say, else the machine's default, which is 2 MiB.
uint64_t HugePageSize(int flags) {
  int shift = (static_cast<unsigned>(flags) >> MAP_HUGE_SHIFT) & MAP_HUGE_MASK;
  return shift >= 21 && shift <= 30 ? uint64_t{1} << shift : kLargePageSize;
}

// Whether any x86-64 kernel has pages of that size.
bool HugePageKnown(int flags) {
  int shift = (static_cast<unsigned>(flags) >> MAP_HUGE_SHIFT) & MAP_HUGE_MASK;
  return shift == 0 || shift == 21 || shift == 30;
}

// Memory of a snapshot on a file system that lets nothing be executed (noexec): anonymous memory
// with the same bytes takes its place. 0 or a negative errno, with all as it was but for its
// rights.
int ReplaceByCopy(std::byte* at, uint64_t length, int host_protection) {
  // Nothing is written meanwhile.
  if (mprotect(at, length, PROT_READ) != 0) return -errno;
  void* const copy =
      mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (copy == MAP_FAILED) return -ENOMEM;
  if (GuardedCopy(copy, at, length) && mprotect(copy, length, host_protection) == 0 &&
      mremap(copy, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, at) != MAP_FAILED) {
    return 0;
  }
  munmap(copy, length);
  return -EACCES;
}

}  // namespace

bool AddressSpace::ValidRange(uint64_t start, uint64_t length) const {
  return length <= memory_->end() && start <= memory_->end() - length;
}

// A failure here leaves an entry that the host no longer backs: the table arena is exhausted.
void AddressSpace::Must(const absl::Status& status) {
  if (!status.ok()) Log(LogLevel::kError, status.message());
}

// The highest gap of `length` bytes below `below`, 0 when there is none.
uint64_t AddressSpace::FindGap(uint64_t length, uint64_t alignment, uint64_t below) const {
  uint64_t end = below;
  auto it = mappings_.lower_bound(below);
  if (it != mappings_.end() && (it->second.flags & MAP_GROWSDOWN)) {
    end = std::min(end, it->first - std::min(it->first, kGuardGap));
  }
  while (true) {
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
  uint64_t below = std::min(layout_.mmap_base, memory_->end());
  if (length >= searched_length_) below = std::min(below, searched_above_);
  uint64_t start = FindGap(length, alignment, below);
  if (start != 0 && alignment == kPageSize) {
    searched_length_ = length;
    searched_above_ = start + length;
  }
  return start;
}

// Whether [start, start + length) is free, with the gap that Linux keeps below what grows down.
bool AddressSpace::HintFree(uint64_t start, uint64_t length) const {
  if (start < kLowestAddress || !ValidRange(start, length)) return false;
  auto next = mappings_.lower_bound(start + length);
  bool grows = next != mappings_.end() && (next->second.flags & MAP_GROWSDOWN);
  return RangeFree(start, start + length) &&
         (!grows || next->first - (start + length) >= kGuardGap);
}

uint64_t AddressSpace::ChooseAddress(const MapRequest& request) {
  uint64_t length = PageUp(request.length);
  // Where 2 MiB entries can serve it, it shall lie so.
  uint64_t alignment =
      length >= kLargePageSize && length % kLargePageSize == 0 ? kLargePageSize : kPageSize;
  uint64_t least = kPageSize;
  if (request.flags & MAP_HUGETLB) alignment = least = HugePageSize(request.flags);
  uint64_t hint = PageDown(request.address);
  if (hint != 0) hint = AlignUp(std::max(hint, kLowestAddress), least);
  if (request.flags & MAP_32BIT) {
    if (hint != 0 && hint + length <= k32BitEnd && HintFree(hint, length)) return hint;
    uint64_t address = FindGap(length, alignment, k32BitEnd);
    return address >= k32BitStart ? address : 0;
  }
  if (hint != 0 && HintFree(hint, length)) return hint;
  uint64_t address = FindGapBelowBase(length, alignment);
  if (address == 0 && alignment != least) address = FindGapBelowBase(length, least);
  // As Linux does when the space below is full: anywhere.
  return address != 0 ? address : FindGap(length, least, memory_->end());
}

int64_t AddressSpace::Map(const MapRequest& request) {
  int64_t start;
  {
    absl::MutexLock lock(&mutex_);
    start = MapLocked(request);
  }
  if (start >= 0) PrepareForWrites(request, static_cast<uint64_t>(start));
  return start;
}

// The first touch of a page costs a program many times what it costs natively, unless the host has
// the page already or has a large one (docs/decisions/0028-first-touches.md). Not under the lock:
// what another thread does to the mapping meanwhile makes this useless, not wrong.
void AddressSpace::PrepareForWrites(const MapRequest& request, uint64_t start) {
  constexpr int kOrdinary = MAP_PRIVATE | MAP_ANONYMOUS;
  constexpr int kOthers = kTypeMask | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_STACK | MAP_HUGETLB;
  if (!(request.protection & PROT_WRITE) || (request.flags & kOthers) != kOrdinary) return;
  const uint64_t length = PageUp(request.length);
  std::byte* host = memory_->window() + start;
  if (length <= kWrittenSoon) {
    if (ahead_.fetch_add(length) > kMostAhead - length) return;
    (void)madvise(host, length, MADV_POPULATE_WRITE);
  } else if (!(request.flags & MAP_NORESERVE)) {
    (void)madvise(host, length, MADV_HUGEPAGE);
  }
}

// Shared anonymous memory is a file without a name here too: so it can grow, be seen twice, and end
// where it ends. Where no file can be had (RLIMIT_FSIZE binds those as well), the host's own.
void AddressSpace::MakeShared(uint64_t length, MapRequest* request) {
  rlimit limit;
  if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur < length) return;
  int huge = request->flags & MAP_HUGETLB ? request->flags & kHugeFlags : 0;
  request->file = MappedFile::SharedMemory(length, huge);
  request->offset = 0;
  if (request->file != nullptr) request->host_fd = request->file->fd.get();
}

// What do_mmap of the kernel's mm/mmap.c refuses before it looks at kinds of memory.
int64_t AddressSpace::ValidMapping(const MapRequest& request, uint64_t* length) const {
  if ((request.flags & MAP_HUGETLB) && !HugePageKnown(request.flags)) return -EINVAL;
  if (request.length == 0 || !PageAligned(request.offset)) return -EINVAL;
  *length = PageUp(request.length);
  if (request.flags & MAP_HUGETLB) *length = AlignUp(request.length, HugePageSize(request.flags));
  if (*length == 0 || *length > memory_->end()) return -ENOMEM;
  if (request.offset + *length < request.offset) return -EOVERFLOW;
  if (!(request.flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))) return 0;
  if (!ValidRange(request.address, *length)) return -ENOMEM;
  if (!PageAligned(request.address)) return -EINVAL;
  if (request.address < kLowestAddress) return -EPERM;
  if ((request.flags & MAP_FIXED_NOREPLACE) &&
      !RangeFree(request.address, request.address + *length)) {
    return -EEXIST;
  }
  return 0;
}

int64_t AddressSpace::MapLocked(MapRequest request) {
  uint64_t length = 0;
  if (int64_t error = ValidMapping(request, &length); error < 0) return error;
  uint64_t start = request.address;
  if (!(request.flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))) {
    request.length = length;
    start = ChooseAddress(request);
    if (start == 0) return -ENOMEM;
  }
  int type = request.flags & kTypeMask;
  bool anonymous = request.flags & MAP_ANONYMOUS;
  if (type != MAP_SHARED && type != MAP_PRIVATE &&
      type != (anonymous ? kMapDroppable : MAP_SHARED_VALIDATE)) {
    return -EINVAL;
  }
  if ((request.flags & MAP_GROWSDOWN) && (type == MAP_SHARED || !anonymous)) return -EINVAL;
  if (AnySealed(start, start + length)) return -EPERM;
  uint64_t added = length - MappedBytes(start, start + length);
  bool data =
      (request.protection & PROT_WRITE) && type != MAP_SHARED && !(request.flags & MAP_GROWSDOWN);
  if (!MayGrow(added, data ? added : 0)) return -ENOMEM;
  if (anonymous && type == MAP_SHARED && request.file == nullptr) MakeShared(length, &request);
  request.advice |= FutureAdvice();
  return PlaceLocked(request, start, length);
}

// The window stays reserved where the program has nothing: nothing of the monitor's may come to lie
// in it.
bool AddressSpace::Reserve(uint64_t start, uint64_t end) {
  return mmap(memory_->window() + start, end - start, PROT_NONE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

// A fixed mapping failed. The kernel may have taken away by then what was there: before 6.12
// mostly, later where the file refuses; the window must not have a hole that a mapping of the
// monitor's could come to lie in.
void AddressSpace::ReserveAgain(uint64_t start, uint64_t end) {
  std::byte* host = memory_->window() + start;
  // msync says ENOMEM for a range with a hole.
  if (msync(host, end - start, MS_ASYNC) == 0 || errno != ENOMEM) return;
  if (Reserve(start, end)) Erase(start, end);
}

// What was there goes: its entries first, then the host's mapping is replaced.
int64_t AddressSpace::PlaceLocked(const MapRequest& request, uint64_t start, uint64_t length) {
  uint64_t end = start + length;
  PutSyscallsBack(start, end);
  Must(memory_->tables().Clear(start, end));
  int protection = request.protection & (PROT_READ | PROT_WRITE | PROT_EXEC);
  void* host = memory_->window() + start;
  int flags = (request.flags & ~kMonitorFlags) | MAP_FIXED;
  if (request.host_fd >= 0 && (flags & MAP_ANONYMOUS)) flags &= ~(MAP_ANONYMOUS | MAP_HUGETLB);
  uint32_t advice = request.advice | (request.flags & MAP_LOCKED ? kAdviceLocked : 0);
  if ((advice & kAdviceLocked) && !(advice & kAdviceLockOnFault)) flags |= MAP_LOCKED;
  if (mmap(host, length, HostProtection(protection), flags, request.host_fd,
           static_cast<off_t>(request.offset)) == MAP_FAILED) {
    int error = errno;
    ReserveAgain(start, end);
    return -error;
  }
  Erase(start, end);
  Mapping mapping;
  mapping.start = start;
  mapping.end = end;
  mapping.protection = protection;
  int type = request.flags & kTypeMask;
  bool shared = type == MAP_SHARED || type == MAP_SHARED_VALIDATE;
  mapping.flags = (request.flags & kKeptFlags) | (shared ? MAP_SHARED : MAP_PRIVATE);
  mapping.file = request.file;
  if (request.file != nullptr) mapping.offset = request.offset;
  mapping.name = request.name;
  mapping.advice = advice;
  if (type == kMapDroppable) {
    mapping.advice |= kAdviceDroppable | kAdviceWipeOnFork | kAdviceDontDump;
    mapping.advice &= ~uint32_t{kAdviceLocked | kAdviceLockOnFault};
  }
  if (request.advice != 0) AdviseHost(start, end, mapping.advice);
  if (length <= kEagerFill || (request.flags & MAP_POPULATE)) FillAround(mapping, start, end);
  Insert(std::move(mapping));
  return static_cast<int64_t>(start);
}

uint32_t AddressSpace::FutureAdvice() const {
  return (layout_.lock_future & MCL_FUTURE ? kAdviceLocked : 0) |
         (layout_.lock_future & MCL_ONFAULT ? kAdviceLockOnFault : 0);
}

MapRequest AddressSpace::MoreOf(const Mapping& mapping) {
  MapRequest request;
  request.protection = mapping.protection;
  request.flags = mapping.flags;
  if (mapping.advice & kAdviceDroppable) request.flags ^= MAP_PRIVATE ^ kMapDroppable;
  request.name = mapping.name;
  request.advice = mapping.advice;
  return request;
}

int64_t AddressSpace::Unmap(uint64_t address, uint64_t length) {
  if (!PageAligned(address) || length == 0) return -EINVAL;
  length = PageUp(length);
  if (length == 0 || length > kTaskSize || address > kTaskSize - length) return -EINVAL;
  absl::MutexLock lock(&mutex_);
  // Behind the window there is nothing to unmap.
  return UnmapLocked(std::min(address, memory_->end()), std::min(address + length, memory_->end()));
}

int64_t AddressSpace::UnmapLocked(uint64_t start, uint64_t end) {
  if (RangeFree(start, end)) return 0;
  if (AnySealed(start, end)) return -EPERM;
  PutSyscallsBack(start, end);
  Must(memory_->tables().Clear(start, end));
  if (!Reserve(start, end)) return -errno;
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
  if (protection & PROT_GROWSUP) return -EINVAL;  // no stack of x86 does
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
    if (mapping.advice & kAdviceSealed) return -EPERM;
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
  uint64_t length = end - start;
  bool becomes_data = (protection & ~old & PROT_WRITE) && (mapping.flags & MAP_PRIVATE) &&
                      !(mapping.flags & MAP_GROWSDOWN);
  if (becomes_data && MayGrow(length, 0) && !MayGrow(length, length)) return -ENOMEM;
  PutSyscallsBack(start, end);
  if (old & ~protection) Must(memory_->tables().Restrict(start, end, old & protection));
  if (mprotect(memory_->window() + start, end - start, HostProtection(protection)) != 0) {
    if (errno != EACCES || !mapping.from_snapshot || !(protection & PROT_EXEC)) return -errno;
    const int error = ReplaceByCopy(memory_->window() + start, length, HostProtection(protection));
    if (error != 0) return error;
  }
  if ((protection & ~old) && (old & protection)) {
    Must(memory_->tables().Grant(start, end, protection));
  }
  Erase(start, end);
  Mapping changed = mapping;
  CutBelow(start, &changed);
  changed.end = end;
  changed.protection = protection;
  if (!(old & protection) && end - start <= kEagerFill) FillAround(changed, start, end);
  Insert(std::move(changed));
  return 0;
}

int64_t AddressSpace::Brk(uint64_t end) {
  MapRequest grown;
  int64_t result;
  {
    absl::MutexLock lock(&mutex_);
    result = BrkLocked(end, &grown);
  }
  if (grown.length > 0) PrepareForWrites(grown, grown.address);
  return result;
}

int64_t AddressSpace::BrkLocked(uint64_t end, MapRequest* grown) {
  uint64_t current = layout_.brk_end;
  if (end < layout_.brk_start || std::max(end, current) > memory_->end()) {
    return static_cast<int64_t>(current);
  }
  uint64_t old_page = PageUp(current), new_page = PageUp(end);
  if (new_page < old_page) {
    if (UnmapLocked(new_page, old_page) < 0) return static_cast<int64_t>(current);
  } else if (new_page > old_page) {
    uint64_t added = new_page - old_page;
    auto next = mappings_.lower_bound(old_page);
    bool grows = next != mappings_.end() && (next->second.flags & MAP_GROWSDOWN);
    if (!RangeFree(old_page, new_page + (grows ? kGuardGap : kPageSize)) ||
        end - layout_.brk_start > limits_.data || !MayGrow(added, added)) {
      return static_cast<int64_t>(current);
    }
    MapRequest request;
    request.protection = PROT_READ | PROT_WRITE;
    request.flags = MAP_PRIVATE | MAP_ANONYMOUS;
    request.name = "[heap]";
    request.advice = FutureAdvice();
    request.address = old_page;
    request.length = added;
    if (PlaceLocked(request, old_page, added) < 0) return static_cast<int64_t>(current);
    *grown = request;
  }
  layout_.brk_end = end;
  return static_cast<int64_t>(end);
}

}  // namespace km
