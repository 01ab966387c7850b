// Guest-physical pages for what the monitor itself keeps in the guest: page tables, gates, stubs.
#ifndef KM_MEMORY_TABLE_ARENA_H_
#define KM_MEMORY_TABLE_ARENA_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/base/owned.h"
#include "km/kvm/vm.h"
#include "km/memory/guest_addr.h"

namespace km {

// Pages at guest-physical [0, size of the arena), all zero when handed out and never taken back: a
// page-table page stays bound to its range for the life of the machine (see docs/memory.md).
// Not thread-safe: the owner's lock covers it.
class TableArena {
 public:
  // Guest-physical addresses from here on are the program's.
  static constexpr uint64_t kEnd = uint64_t{4} << 30;

  // Reserves host memory and gives the first megabyte to the machine, from memory slot `first_slot`
  // on; at most kMaxSlots slots are used.
  static constexpr uint32_t kMaxSlots = 16;
  absl::Status Initialize(Vm* vm, uint32_t first_slot);

  // The guest-physical address of a fresh zero page.
  absl::StatusOr<uint64_t> Allocate();
  std::byte* Host(uint64_t gpa) const { return memory_.data() + gpa; }

 private:
  absl::Status Grow();

  Vm* vm_ = nullptr;
  uint32_t next_slot_ = 0;
  OwnedMapping memory_;
  uint64_t used_ = 0;
  uint64_t given_ = 0;  // bytes that the machine has
};

}  // namespace km

#endif  // KM_MEMORY_TABLE_ARENA_H_
