// madvise, mlock and its relatives, mseal, and names of mappings.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "km/base/host_files.h"
#include "km/memory/address_space.h"
#include "km/memory/guarded_copy.h"

// Newer than Debian 12's headers.
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

namespace km {
namespace {

// What the host is told again when memory takes the place of other memory.
constexpr struct {
  uint32_t bit;
  int advice;
} kHostAdvice[] = {{kAdviceSequential, MADV_SEQUENTIAL},
                   {kAdviceRandom, MADV_RANDOM},
                   {kAdviceHuge, MADV_HUGEPAGE},
                   {kAdviceNoHuge, MADV_NOHUGEPAGE},
                   {kAdviceMergeable, MADV_MERGEABLE}};

constexpr uint32_t kAccess = kAdviceSequential | kAdviceRandom;

// How an advice changes the bits that are kept of it.
struct Kept {
  int advice;
  uint32_t take, give;
};
constexpr Kept kKept[] = {{MADV_NORMAL, kAccess, 0},
                          {MADV_RANDOM, kAccess, kAdviceRandom},
                          {MADV_SEQUENTIAL, kAccess, kAdviceSequential},
                          {MADV_DONTFORK, 0, kAdviceDontFork},
                          {MADV_DOFORK, kAdviceDontFork, 0},
                          {MADV_WIPEONFORK, 0, kAdviceWipeOnFork},
                          {MADV_KEEPONFORK, kAdviceWipeOnFork, 0},
                          {MADV_DONTDUMP, 0, kAdviceDontDump},
                          {MADV_DODUMP, kAdviceDontDump, 0},
                          {MADV_HUGEPAGE, kAdviceNoHuge, kAdviceHuge},
                          {MADV_NOHUGEPAGE, kAdviceHuge, kAdviceNoHuge},
                          {MADV_MERGEABLE, 0, kAdviceMergeable},
                          {MADV_UNMERGEABLE, kAdviceMergeable, 0}};

const Kept* FindKept(int advice) {
  for (const Kept& kept : kKept) {
    if (kept.advice == advice) return &kept;
  }
  return nullptr;
}

bool ForFork(int advice) {
  return advice == MADV_DONTFORK || advice == MADV_DOFORK || advice == MADV_WIPEONFORK ||
         advice == MADV_KEEPONFORK || advice == MADV_DONTDUMP || advice == MADV_DODUMP;
}

bool Discards(int advice) {
  return advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED || advice == MADV_FREE;
}

bool Populates(int advice) { return advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE; }

bool Known(int advice) {
  switch (advice) {
    case MADV_WILLNEED:
    case MADV_REMOVE:
    case MADV_COLD:
    case MADV_PAGEOUT:
    case MADV_COLLAPSE:
      return true;
    default:
      return FindKept(advice) != nullptr || Discards(advice) || Populates(advice);
  }
}

// What is put in the place of a piece is two more mappings of the host's, which has 65,530
// (vm.max_map_count), and natively no such advice takes any. A heap of many pieces keeps its
// memory.
constexpr size_t kManyMappings = 16384;

bool FillWithZeros(std::byte* at, uint64_t size) {
  static constexpr std::byte kZeros[kPageSize] = {};
  for (uint64_t done = 0; done < size; done += kPageSize) {
    if (!GuardedCopy(at + done, kZeros, kPageSize)) return false;
  }
  return true;
}

// Below this nobody looks: no host has so low a limit.
constexpr uint64_t kFewPieces = 1024;

// The host's limit on the mappings of a process.
uint64_t MostPieces() {
  constexpr uint64_t kDefault = 65530;  // DEFAULT_MAX_MAP_COUNT of include/linux/mm.h
  uint64_t most = 0;
  const std::string text = HostText("/proc/sys/vm/max_map_count");
  return absl::SimpleAtoi(absl::StripAsciiWhitespace(text), &most) ? most : kDefault;
}

}  // namespace

bool AddressSpace::MaySplit(uint64_t start, uint64_t end) {
  uint64_t pieces = mappings_.size();
  for (const uint64_t at : {start, end}) {
    auto it = FindMapping(at);
    if (it != mappings_.end() && it->first != at) ++pieces;
  }
  return pieces == mappings_.size() || pieces <= kFewPieces || pieces <= MostPieces();
}

void AddressSpace::Mark(uint64_t start, uint64_t end, uint32_t take, uint32_t give) {
  SplitAt(start);
  SplitAt(end);
  std::vector<Mapping> pieces;
  for (auto it = mappings_.lower_bound(start); it != mappings_.end() && it->first < end; ++it) {
    pieces.push_back(it->second);
  }
  for (Mapping& piece : pieces) {
    Erase(piece.start, piece.end);
    piece.advice = (piece.advice & ~take) | give;
    Insert(std::move(piece));
  }
}

// Advice is advice: what the host does not take it leaves. (Locked memory beyond a limit included:
// the memory is there.)
void AddressSpace::AdviseHost(uint64_t start, uint64_t end, uint32_t advice) {
  std::byte* host = memory_->window() + start;
  for (const auto& [bit, number] : kHostAdvice) {
    if (advice & bit) (void)madvise(host, end - start, number);
  }
  if (advice & kAdviceLocked) {
    (void)mlock2(host, end - start, advice & kAdviceLockOnFault ? MLOCK_ONFAULT : 0);
  }
}

// MADV_DONTNEED and MADV_FREE. Memory that the host maps from the snapshot file is replaced by what
// the program expects, zeros or its own file's bytes: the host's own MADV_DONTNEED would bring back
// the snapshot's. (A file that is gone leaves nothing better.)
int64_t AddressSpace::Discard(uint64_t start, uint64_t end, int advice) {
  Mapping mapping = FindMapping(start)->second;
  bool anonymous = mapping.flags & MAP_ANONYMOUS;
  if ((mapping.advice & kAdviceLocked) && advice != MADV_DONTNEED_LOCKED) return -EINVAL;
  if (advice == MADV_FREE && !Anonymous(mapping)) return -EINVAL;
  MapRequest request = MoreOf(mapping);
  if (mapping.from_snapshot && !anonymous) request.file = MappedFile::Open(mapping.name, O_RDONLY);
  if (!mapping.from_snapshot || (!anonymous && request.file == nullptr)) {
    return madvise(memory_->window() + start, end - start, advice) == 0 ? 0 : -errno;
  }
  if (!anonymous) {
    request.name.clear();
    request.host_fd = request.file->fd.get();
    request.offset = mapping.offset + (start - mapping.start);
  }
  if (anonymous && (mapping.protection & PROT_WRITE) && mappings_.size() > kManyMappings &&
      end - start <= kLargePageSize && FillWithZeros(memory_->window() + start, end - start)) {
    return 0;
  }
  int64_t placed = PlaceLocked(request, start, end - start);
  return placed < 0 ? placed : 0;
}

// For [start, end) within `mapping`.
int64_t AddressSpace::AdviseOne(const Mapping& mapping, uint64_t start, uint64_t end, int advice) {
  bool anonymous = Anonymous(mapping) && (mapping.flags & MAP_PRIVATE);
  bool destroys = Discards(advice) || advice == MADV_REMOVE || advice == MADV_DONTFORK ||
                  advice == MADV_WIPEONFORK;
  if (destroys && (mapping.advice & kAdviceSealed) && anonymous &&
      !(mapping.protection & PROT_WRITE)) {
    return -EPERM;
  }
  if (Discards(advice)) return Discard(start, end, advice);
  if (advice == MADV_WIPEONFORK && !anonymous) return -EINVAL;
  if ((advice == MADV_KEEPONFORK || advice == MADV_DODUMP) && (mapping.advice & kAdviceDroppable)) {
    return -EINVAL;
  }
  // What the host keeps readable for KVM the program may not read.
  if (advice == MADV_POPULATE_READ && !(mapping.protection & PROT_READ)) return -EINVAL;
  const Kept* kept = FindKept(advice);
  const bool changes =
      kept != nullptr && ((mapping.advice & ~kept->take) | kept->give) != mapping.advice;
  if (changes && !MaySplit(start, end)) return -EAGAIN;
  if (!ForFork(advice) && madvise(memory_->window() + start, end - start, advice) != 0) {
    return -errno;
  }
  if (Populates(advice)) FillAround(mapping, start, end);
  if (kept != nullptr) Mark(start, end, kept->take, kept->give);
  return 0;
}

int64_t AddressSpace::ForEachPiece(
    uint64_t start, uint64_t end, bool stop_at_hole,
    absl::FunctionRef<int64_t(const Mapping&, uint64_t, uint64_t)> each) {
  bool hole = false;
  while (start < end) {
    auto it = FindMapping(start);
    if (it == mappings_.end()) {
      hole = true;
      auto next = mappings_.upper_bound(start);
      if (next == mappings_.end() || stop_at_hole) break;
      start = next->first;
      continue;
    }
    const uint64_t piece_end = std::min(end, it->second.end);
    const Mapping mapping = it->second;
    if (int64_t error = each(mapping, start, piece_end); error < 0) return error;
    start = piece_end;
  }
  return hole ? -ENOMEM : 0;
}

int64_t AddressSpace::Advise(uint64_t address, uint64_t length, int advice) {
  bool poisons = advice == MADV_HWPOISON || advice == 101 /* MADV_SOFT_OFFLINE */;
  if (!poisons && !Known(advice)) return -EINVAL;
  uint64_t size = PageUp(length), end = address + size;
  if (!PageAligned(address) || (length != 0 && size == 0) || end < address) return -EINVAL;
  if (size == 0) return 0;
  // That takes memory from the whole machine.
  if (poisons) return -EPERM;
  absl::MutexLock lock(&mutex_);
  return ForEachPiece(
      address, end, Populates(advice),
      [this, advice](const Mapping& mapping, uint64_t from, uint64_t to)
          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return AdviseOne(mapping, from, to, advice); });
}

// The host keeps count and limit: nothing of the monitor's own is ever locked.
int64_t AddressSpace::Lock(uint64_t address, uint64_t length, bool on_fault) {
  uint64_t start = PageDown(address), size = PageUp(length + (address - start));
  uint64_t end = start + size;
  if (end < start) return -EINVAL;
  absl::MutexLock lock(&mutex_);
  // As far as it is mapped, at least one page: the host then says what it has against it.
  uint64_t mapped = start;
  for (auto it = FindMapping(start); it != mappings_.end() && it->first <= mapped; ++it) {
    mapped = it->second.end;
    if (mapped >= end) break;
  }
  bool hole = mapped < end;
  uint64_t known = std::min(end, mapped);
  uint32_t give = kAdviceLocked | (on_fault ? kAdviceLockOnFault : 0);
  int result = 0;
  // Without memory of the program's, the answer to a length that no limit allows is the host's too.
  void* host = memory_->window() + std::min(start, memory_->end());
  if (mlock2(host, known - std::min(start, known), on_fault ? MLOCK_ONFAULT : 0) != 0) {
    result = errno;
  }
  if (result != 0 && result != ENOMEM) return -result;
  if (known > start && result == 0) Mark(start, known, kAdviceLockOnFault, give);
  return hole ? -ENOMEM : -result;
}

int64_t AddressSpace::Unlock(uint64_t address, uint64_t length) {
  uint64_t start = PageDown(address), size = PageUp(length + (address - start));
  uint64_t end = start + size;
  if (end < start) return -EINVAL;
  absl::MutexLock lock(&mutex_);
  uint64_t mapped = start;
  for (auto it = FindMapping(start); it != mappings_.end() && it->first <= mapped; ++it) {
    uint64_t piece_end = std::min(end, it->second.end);
    if (munlock(memory_->window() + mapped, piece_end - mapped) != 0) return -errno;
    mapped = piece_end;
    if (mapped >= end) break;
  }
  Mark(start, mapped, kAdviceLocked | kAdviceLockOnFault, 0);
  return mapped < end ? -ENOMEM : 0;
}

int64_t AddressSpace::LockAll(int flags, uint64_t limit) {
  absl::MutexLock lock(&mutex_);
  if ((flags & MCL_CURRENT) && total_ > limit) return -ENOMEM;
  layout_.lock_future = flags & MCL_FUTURE ? flags & (MCL_FUTURE | MCL_ONFAULT) : 0;
  if (!(flags & MCL_CURRENT)) return 0;
  bool on_fault = flags & MCL_ONFAULT;
  for (const auto& [start, mapping] : mappings_) {
    // What cannot be there (beyond the end of a file) does not count.
    (void)mlock2(memory_->window() + start, mapping.end - start, on_fault ? MLOCK_ONFAULT : 0);
  }
  Mark(0, memory_->end(), kAdviceLockOnFault, kAdviceLocked | (on_fault ? kAdviceLockOnFault : 0));
  return 0;
}

int64_t AddressSpace::UnlockAll() {
  absl::MutexLock lock(&mutex_);
  layout_.lock_future = 0;
  if (munlockall() != 0) return -errno;
  Mark(0, memory_->end(), kAdviceLocked | kAdviceLockOnFault, 0);
  return 0;
}

// The host's mapping is not sealed: it must be possible to put a reservation there.
int64_t AddressSpace::Seal(uint64_t address, uint64_t length) {
  uint64_t size = PageUp(length), end = address + size;
  if (!PageAligned(address) || (length != 0 && size == 0) || end < address) return -EINVAL;
  if (size == 0) return 0;
  absl::MutexLock lock(&mutex_);
  if (!RangeMapped(address, end) || !MaySplit(address, end)) return -ENOMEM;
  Mark(address, end, 0, kAdviceSealed);
  return 0;
}

bool AddressSpace::AnySealed(uint64_t start, uint64_t end) const {
  auto it = mappings_.upper_bound(start);
  if (it != mappings_.begin() && std::prev(it)->second.end > start) --it;
  for (; it != mappings_.end() && it->first < end; ++it) {
    if (it->second.advice & kAdviceSealed) return true;
  }
  return false;
}

int64_t AddressSpace::SetName(uint64_t address, uint64_t length, const std::string& name) {
  uint64_t size = PageUp(length), end = address + size;
  if (!PageAligned(address) || (length != 0 && size == 0)) return -EINVAL;
  if (end < address) return -EINVAL;
  absl::MutexLock lock(&mutex_);
  return ForEachPiece(address, end, false,
                      [this, &name](const Mapping& mapping, uint64_t from, uint64_t to)
                          ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
                            return SetNameOfPiece(mapping, from, to, name);
                          });
}

// For [start, end) within `mapping`.
int64_t AddressSpace::SetNameOfPiece(const Mapping& mapping, uint64_t start, uint64_t end,
                                     const std::string& name) {
  if (!(mapping.flags & MAP_ANONYMOUS)) return -EBADF;
  // The kernel shows these two whatever they are called.
  if (mapping.name == "[heap]" || mapping.name == "[stack]") return 0;
  if (!MaySplit(start, end)) return -EAGAIN;
  Erase(start, end);
  Mapping piece = mapping;
  CutBelow(start, &piece);
  piece.end = end;
  piece.name.clear();
  if (!name.empty()) {
    piece.name = (piece.flags & MAP_SHARED ? "[anon_shmem:" : "[anon:") + name + "]";
  }
  Insert(std::move(piece));
  return 0;
}

}  // namespace km
