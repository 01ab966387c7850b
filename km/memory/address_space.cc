// The tree of mappings, and page faults. The calls that change mappings: mapping_calls.cc.
#include "km/memory/address_space.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "absl/strings/str_format.h"
#include "km/base/log.h"

namespace km {
namespace {

// A fault makes present what lies in the same block of this size: few exits, and no cost in memory.
constexpr uint64_t kFaultBlock = uint64_t{64} << 20;
// What Linux keeps free below a mapping that grows (stack_guard_gap).
constexpr uint64_t kGuardGap = 256 * kPageSize;

constexpr uint64_t kErrorWrite = 2, kErrorFetch = 16;

bool Mergeable(const Mapping& low, const Mapping& high) {
  return low.end == high.start && low.protection == high.protection && low.flags == high.flags &&
         low.file == high.file && low.name == high.name &&
         low.from_snapshot == high.from_snapshot &&
         low.snapshot_file_end == high.snapshot_file_end && low.advice == high.advice &&
         low.source == high.source &&
         (low.source < 0 || low.source_offset + (low.end - low.start) == high.source_offset) &&
         (Anonymous(low) || low.offset + (low.end - low.start) == high.offset);
}

// As is_data_mapping of the kernel's mm/internal.h.
bool IsData(const Mapping& mapping) {
  return (mapping.protection & PROT_WRITE) && !(mapping.flags & (MAP_SHARED | MAP_GROWSDOWN));
}

}  // namespace

AddressSpace::Layout AddressSpace::layout() const {
  absl::MutexLock lock(&mutex_);
  return layout_;
}

void AddressSpace::SetLayout(const Layout& layout) {
  absl::MutexLock lock(&mutex_);
  layout_ = layout;
}

AddressSpace::Tree::iterator AddressSpace::FindMapping(uint64_t address) {
  auto it = mappings_.upper_bound(address);
  if (it == mappings_.begin()) return mappings_.end();
  --it;
  return address < it->second.end ? it : mappings_.end();
}

bool AddressSpace::RangeFree(uint64_t start, uint64_t end) const {
  auto it = mappings_.lower_bound(end);
  return it == mappings_.begin() || std::prev(it)->second.end <= start;
}

bool AddressSpace::RangeMapped(uint64_t start, uint64_t end) const {
  auto it = mappings_.upper_bound(start);
  if (it == mappings_.begin()) return false;
  for (--it; it != mappings_.end() && it->second.start <= start && start < end; ++it) {
    if (it->second.end <= start) return false;
    start = it->second.end;
  }
  return start >= end;
}

void AddressSpace::SplitAt(uint64_t address) {
  auto it = FindMapping(address);
  if (it == mappings_.end() || it->first == address) return;
  Mapping high = it->second;
  it->second.end = address;
  CutBelow(address, &high);
  mappings_.emplace(address, std::move(high));
}

void AddressSpace::Count(const Mapping& mapping, uint64_t bytes) {
  total_ += bytes;
  if (IsData(mapping)) data_ += bytes;
}

bool AddressSpace::MayGrow(uint64_t bytes, uint64_t data_bytes) const {
  if (bytes != 0 && (total_ > limits_.total || bytes > limits_.total - total_)) return false;
  return data_bytes == 0 || (data_ <= limits_.data && data_bytes <= limits_.data - data_);
}

void AddressSpace::SetLimits(const Limits& limits) {
  absl::MutexLock lock(&mutex_);
  limits_ = limits;
}

void AddressSpace::Insert(Mapping mapping) {
  Count(mapping, mapping.end - mapping.start);
  auto it = mappings_.lower_bound(mapping.start);
  if (it != mappings_.end() && Mergeable(mapping, it->second)) {
    mapping.end = it->second.end;
    it = mappings_.erase(it);
  }
  if (it != mappings_.begin() && Mergeable(std::prev(it)->second, mapping)) {
    std::prev(it)->second.end = mapping.end;
    return;
  }
  mappings_.emplace_hint(it, mapping.start, std::move(mapping));
}

void AddressSpace::Erase(uint64_t start, uint64_t end) {
  SplitAt(start);
  SplitAt(end);
  for (auto it = mappings_.lower_bound(start); it != mappings_.end() && it->first < end; ++it) {
    Count(it->second, it->first - it->second.end);
  }
  auto next = mappings_.erase(mappings_.lower_bound(start), mappings_.lower_bound(end));
  // What is free now may be part of a larger gap that ends where the next mapping begins.
  searched_above_ =
      std::max(searched_above_, next != mappings_.end() ? next->first : memory_->end());
}

uint64_t AddressSpace::ReadableEnd(const Mapping& mapping) {
  struct stat file;
  if (mapping.from_snapshot && !(mapping.flags & MAP_ANONYMOUS)) {
    return std::clamp(mapping.snapshot_file_end, mapping.start, mapping.end);
  }
  if (mapping.file == nullptr || fstat(mapping.file->fd.get(), &file) != 0 ||
      !S_ISREG(file.st_mode)) {
    return mapping.end;
  }
  uint64_t size = PageUp(static_cast<uint64_t>(file.st_size));
  if (size <= mapping.offset) return mapping.start;
  return std::min(mapping.end, mapping.start + (size - mapping.offset));
}

bool AddressSpace::FillWithin(const Mapping& mapping, uint64_t start, uint64_t end,
                              uint64_t room_start, uint64_t room_end) {
  if (mapping.protection == PROT_NONE) return true;
  end = std::min(end, ReadableEnd(mapping));
  for (uint64_t va = start; va < end;) {
    uint64_t chunk_end = 0;
    absl::StatusOr<uint64_t> gpa = memory_->PhysicalAddress(va, room_start, room_end, &chunk_end);
    absl::Status status = gpa.status();
    uint64_t next = std::min(end, chunk_end);
    if (status.ok()) status = memory_->tables().Fill(va, next, *gpa, mapping.protection);
    if (!status.ok()) {
      Log(LogLevel::kError, status.message());
      return false;
    }
    va = next;
  }
  return true;
}

// A mapping that grows down and begins above `address` is made to reach it.
bool AddressSpace::GrowDown(uint64_t address) {
  auto it = mappings_.upper_bound(address);
  if (it == mappings_.end() || !(it->second.flags & MAP_GROWSDOWN)) return false;
  uint64_t start = PageDown(address);
  uint64_t length = it->second.start - start;
  if (start < kLowestAddress || it->second.end - start > limits_.stack || !MayGrow(length, 0))
    return false;
  if (it != mappings_.begin()) {
    const Mapping& below = std::prev(it)->second;
    if (start - below.end < kGuardGap && below.protection != PROT_NONE) return false;
  }
  return PlaceLocked(MoreOf(it->second), start, length) >= 0;
}

FaultOutcome AddressSpace::Fault(uint64_t address, uint64_t error_code) {
  absl::MutexLock lock(&mutex_);
  if (address >= memory_->end()) {
    bool runtime = address >= KM_RUNTIME_BASE && address < KM_RUNTIME_END;
    return {SIGSEGV, runtime ? SEGV_ACCERR : SEGV_MAPERR};
  }
  auto it = FindMapping(address);
  if (it == mappings_.end()) {
    if (!GrowDown(address)) return {SIGSEGV, SEGV_MAPERR};
    it = FindMapping(address);
  }
  const Mapping& mapping = it->second;
  int needed = (error_code & kErrorWrite)   ? PROT_WRITE
               : (error_code & kErrorFetch) ? PROT_EXEC
                                            : PROT_READ | PROT_WRITE | PROT_EXEC;
  if (!(mapping.protection & needed)) return {SIGSEGV, SEGV_ACCERR};
  // Another thread may have come first.
  if (memory_->tables().Allows(address, needed == PROT_WRITE || needed == PROT_EXEC ? needed : 0)) {
    return {};
  }
  if (address >= ReadableEnd(mapping)) return {SIGBUS, BUS_ADRERR};
  uint64_t block = address & ~(kFaultBlock - 1);
  if (!FillAround(mapping, std::max(mapping.start, block),
                  std::min(mapping.end, block + kFaultBlock))) {
    return {SIGBUS, BUS_ADRERR};
  }
  return {};
}

bool AddressSpace::Reach(uint64_t address) {
  absl::MutexLock lock(&mutex_);
  return address < memory_->end() && FindMapping(address) == mappings_.end() && GrowDown(address);
}

void AddressSpace::HostFault() {
  absl::MutexLock lock(&mutex_);
  for (const auto& [start, mapping] : mappings_) {
    if (mapping.file == nullptr || mapping.from_snapshot) continue;
    uint64_t readable = ReadableEnd(mapping);
    if (readable == mapping.end) continue;
    if (absl::Status status = memory_->tables().Clear(readable, mapping.end); !status.ok()) {
      Log(LogLevel::kError, status.message());
    }
  }
}

bool AddressSpace::IsMapped(uint64_t address, uint64_t length) const {
  absl::MutexLock lock(&mutex_);
  return length == 0 || (address + length > address && RangeMapped(address, address + length));
}

std::vector<std::pair<uint64_t, uint64_t>> AddressSpace::MappedPieces(uint64_t start,
                                                                      uint64_t end) const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::pair<uint64_t, uint64_t>> pieces;
  auto it = mappings_.upper_bound(start);
  if (it != mappings_.begin() && std::prev(it)->second.end > start) --it;
  for (; it != mappings_.end() && it->first < end; ++it) {
    uint64_t from = std::max(start, it->first), to = std::min(end, it->second.end);
    if (!pieces.empty() && pieces.back().second == from) {
      pieces.back().second = to;
    } else {
      pieces.emplace_back(from, to);
    }
  }
  return pieces;
}

uint64_t AddressSpace::MappedBytes(uint64_t start, uint64_t end) const {
  uint64_t bytes = 0;
  auto it = mappings_.upper_bound(start);
  if (it != mappings_.begin() && std::prev(it)->second.end > start) --it;
  for (; it != mappings_.end() && it->first < end; ++it) {
    bytes += std::min(end, it->second.end) - std::max(start, it->first);
  }
  return bytes;
}

std::vector<Mapping> AddressSpace::Mappings() const {
  absl::MutexLock lock(&mutex_);
  std::vector<Mapping> all;
  all.reserve(mappings_.size());
  for (const auto& [start, mapping] : mappings_) all.push_back(mapping);
  return all;
}

void AddressSpace::Adopt(Mapping mapping, uint64_t room_start, uint64_t room_end) {
  absl::MutexLock lock(&mutex_);
  if (mapping.advice != 0) AdviseHost(mapping.start, mapping.end, mapping.advice);
  if (mapping.end - mapping.start <= kEagerFill) {
    FillWithin(mapping, mapping.start, mapping.end, room_start, room_end);
  }
  Insert(std::move(mapping));
}

std::string AddressSpace::MapsText() const {
  absl::MutexLock lock(&mutex_);
  std::string text;
  for (const auto& [start, mapping] : mappings_) {
    const MappedFile* file = mapping.file.get();
    uint64_t device = file != nullptr ? file->device : 0;
    std::string line = absl::StrFormat(
        "%08x-%08x %c%c%c%c %08x %02x:%02x %d ", start, mapping.end,
        mapping.protection & PROT_READ ? 'r' : '-', mapping.protection & PROT_WRITE ? 'w' : '-',
        mapping.protection & PROT_EXEC ? 'x' : '-', mapping.flags & MAP_SHARED ? 's' : 'p',
        Anonymous(mapping) ? 0 : mapping.offset, major(device), minor(device),
        file != nullptr ? file->inode : 0);
    // A name that the program gave it goes before a path that it did not.
    const std::string& name = !mapping.name.empty() || file == nullptr ? mapping.name : file->path;
    // The kernel pads to column 73 when a name follows.
    if (!name.empty()) line.resize(std::max<size_t>(line.size(), 73), ' ');
    absl::StrAppend(&text, line, name, "\n");
  }
  absl::StrAppendFormat(&text, "%x-%x r-xp 00000000 00:00 0                  [vdso]\n",
                        uint64_t{KM_VDSO_ADDRESS}, uint64_t{KM_VDSO_ADDRESS + KM_VDSO_MAX_SIZE});
  return text;
}

absl::StatusOr<VcpuPages> AddressSpace::MakeVcpuPages(int index) {
  absl::MutexLock lock(&mutex_);
  return memory_->MakeVcpuPages(index);
}

}  // namespace km
