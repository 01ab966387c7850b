#include "km/memory/table_arena.h"

#include <algorithm>
#include <cerrno>

#include "km/base/status.h"

namespace km {
namespace {
constexpr uint64_t kFirstSlotSize = uint64_t{1} << 20;
}

absl::Status TableArena::Initialize(Vm* vm, uint32_t first_slot) {
  vm_ = vm;
  next_slot_ = first_slot;
  // Not accessible yet: where the host promises no more memory than it has
  // (vm.overcommit_memory=2), all that is counts.
  memory_ = OwnedMapping(
      mmap(nullptr, kEnd, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), kEnd);
  if (!memory_.valid()) return ErrnoStatus(errno, "cannot reserve memory for page tables");
  return Grow();
}

// Slots double, so that sixteen of them reach the end.
absl::Status TableArena::Grow() {
  uint64_t size = std::min(std::max(given_, kFirstSlotSize), kEnd - given_);
  if (size == 0) {
    return absl::ResourceExhaustedError("the program's memory needs more page tables than 4 GiB");
  }
  if (mprotect(memory_.data() + given_, size, PROT_READ | PROT_WRITE) != 0) {
    return ErrnoStatus(errno, "cannot have more memory for page tables");
  }
  KM_RETURN_IF_ERROR(vm_->SetSlot(next_slot_, given_, size, memory_.data() + given_, false));
  ++next_slot_;
  given_ += size;
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> TableArena::Allocate() {
  if (used_ == given_) KM_RETURN_IF_ERROR(Grow());
  uint64_t gpa = used_;
  used_ += kPageSize;
  return gpa;
}

}  // namespace km
