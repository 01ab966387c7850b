// The guest's memory as the monitor sees it: one window of host addresses, and the guest-physical
// chunks that the machine has been given of it.
#ifndef KM_MEMORY_GUEST_MEMORY_H_
#define KM_MEMORY_GUEST_MEMORY_H_

#include <km/layout.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/base/owned.h"
#include "km/kvm/vcpu.h"
#include "km/kvm/vm.h"
#include "km/memory/guest_addr.h"
#include "km/memory/page_tables.h"
#include "km/memory/table_arena.h"

namespace km {

// Host address = window + guest address, for every address below end().
//
// Span, CopyIn, CopyOut and the like are thread-safe; what changes tables and chunks is not, and is
// called by AddressSpace under its lock (or before the first vCPU runs).
class GuestMemory {
 public:
  static absl::StatusOr<std::unique_ptr<GuestMemory>> Create(Vm* vm);

  // The host address of [address, address + size), or null when it is not below end(). Not a
  // promise that it is mapped: give it to the host kernel, or to a guarded copy.
  std::byte* Span(GuestAddr address, uint64_t size) const {
    if (size > end_ || address.value() > end_ - size) return nullptr;
    return window_ + address.value();
  }
  // Where the window ends: KM_GUEST_END, or KM_PLACED_END where the monitor's own addresses leave
  // no room for more (a build with a sanitizer).
  uint64_t end() const { return end_; }
  std::byte* window() const { return window_; }

  // Copies once, in or out; 0 or -EFAULT.
  int CopyIn(void* to, GuestAddr from, uint64_t size) const;
  int CopyOut(GuestAddr to, const void* from, uint64_t size) const;
  template <typename T>
  int CopyIn(T* to, GuestAddr from) const {
    return CopyIn(static_cast<void*>(to), from, sizeof(T));
  }
  template <typename T>
  int CopyOut(GuestAddr to, const T& from) const {
    return CopyOut(to, static_cast<const void*>(&from), sizeof(T));
  }
  // A NUL-terminated string of at most `limit` bytes with its NUL; 0, -EFAULT, or -ENAMETOOLONG.
  int CopyInString(std::string* to, GuestAddr from, size_t limit) const;

  PageTables& tables() { return tables_; }

  // The guest-physical address of `va`; makes the chunk that holds it when there is none. `room`
  // are bytes around `va` that belong to one mapping, [room_start, room_end): a large mapping gets
  // large chunks at once. *end gets where the chunk ends.
  absl::StatusOr<uint64_t> PhysicalAddress(uint64_t va, uint64_t room_start, uint64_t room_end,
                                           uint64_t* end);

  // Pages for one more vCPU. Thread-safe only under AddressSpace's lock.
  absl::StatusOr<VcpuPages> MakeVcpuPages(int index);

  // What the vDSO reads (struct km_vdso_data).
  km_vdso_data* vdso_data() const { return vdso_data_; }

  uint64_t chunk_count() const { return chunks_.size(); }

 private:
  struct Chunk {
    uint64_t end = 0;
    uint64_t gpa = 0;
  };

  GuestMemory() = default;
  absl::Status ReserveWindow();
  absl::Status MapRuntime();
  absl::Status MapHostVdso();
  absl::Status MapBlob(uint64_t va, const unsigned char* bytes, size_t size,
                       PageTables::Owner owner);
  absl::StatusOr<std::byte*> MapNewPage(uint64_t va, int rights, PageTables::Owner owner);
  absl::StatusOr<uint64_t> MakeChunk(uint64_t va, uint64_t size, uint64_t* end);
  bool RangeFree(uint64_t start, uint64_t end) const;

  Vm* vm_ = nullptr;
  OwnedMapping reservation_;
  std::byte* window_ = nullptr;
  uint64_t end_ = 0;
  TableArena arena_;
  PageTables tables_;
  absl::btree_map<uint64_t, Chunk> chunks_;
  uint64_t chunk_bytes_ = 0;
  uint64_t next_gpa_ = TableArena::kEnd;
  uint32_t next_slot_ = TableArena::kMaxSlots;
  km_vdso_data* vdso_data_ = nullptr;
};

}  // namespace km

#endif  // KM_MEMORY_GUEST_MEMORY_H_
