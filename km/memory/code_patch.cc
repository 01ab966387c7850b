// System-call instructions of the program that exit at once (docs/decisions/0018).
#include <km/layout.h>
#include <sys/mman.h>

#include <cstdint>

#include "km/memory/address_space.h"
#include "km/memory/guarded_copy.h"

namespace km {
namespace {

// Both have two bytes, so one store changes one into the other.
constexpr uint16_t kSyscall = 0x050f;
constexpr uint16_t kOut = KM_EXIT_PORT << 8 | 0xe6;
constexpr uint64_t kPage = 4096, kCacheLine = 64;

}  // namespace

// The store is a single one within a cache line, into a page that other vCPUs may be executing:
// they see the old instruction or the new one. The guest's entries stay as they are.
bool AddressSpace::ReplaceCode(uint64_t address, uint16_t old_code, uint16_t new_code) {
  auto it = FindMapping(address);
  if (it == mappings_.end() || address % kCacheLine == kCacheLine - 1) return false;
  const Mapping& mapping = it->second;
  uint16_t code = 0;
  if ((mapping.flags & MAP_PRIVATE) == 0 || (mapping.protection & PROT_EXEC) == 0 ||
      (mapping.protection & PROT_WRITE) != 0 || memory_->CopyIn(&code, GuestAddr(address)) != 0 ||
      code != old_code) {
    return false;
  }
  std::byte* page = memory_->window() + address / kPage * kPage;
  const int protection = HostProtection(mapping.protection);
  if (mprotect(page, kPage, protection | PROT_WRITE) != 0) return false;
  const bool done = GuardedStore16(memory_->window() + address, new_code);
  mprotect(page, kPage, protection);
  return done;
}

bool AddressSpace::PatchSyscall(uint64_t address) {
  absl::MutexLock lock(&mutex_);
  if (patches_are_refused_) return false;
  // Marked first: the vCPU of another thread may come out of it before this returns.
  if (!patched_.insert(address).second) return true;
  if (ReplaceCode(address, kSyscall, kOut)) return true;
  patched_.erase(address);
  return false;
}

bool AddressSpace::IsPatched(uint64_t address) const {
  absl::MutexLock lock(&mutex_);
  return patched_.contains(address);
}

void AddressSpace::UnpatchAll() {
  absl::MutexLock lock(&mutex_);
  PutSyscallsBack(0, memory_->end());
}

// Before the rights of a page change, too, and before it moves: later it could not be told any more
// which `out` is one of these.
void AddressSpace::PutSyscallsBack(uint64_t start, uint64_t end) {
  const auto first = patched_.lower_bound(start), last = patched_.lower_bound(end);
  for (auto it = first; it != last; ++it) ReplaceCode(*it, kOut, kSyscall);
  patched_.erase(first, last);
}

bool AddressSpace::IsSyscall(uint64_t address) const {
  uint16_t code = 0;
  return memory_->CopyIn(&code, GuestAddr(address)) == 0 && code == kSyscall;
}

// A `syscall` raises no protection fault: where one stands now, another thread's refusal has just
// put it back.
bool AddressSpace::TakeRefusedPatchesBack(uint64_t address) {
  absl::MutexLock lock(&mutex_);
  if (patched_.contains(address)) {
    patches_are_refused_ = true;
    PutSyscallsBack(0, memory_->end());
    return true;
  }
  return patches_are_refused_ && IsSyscall(address);
}

}  // namespace km
