// The guest's page tables: four levels, 4 KiB and 2 MiB leaves (Intel SDM vol. 3, 4.5).
#ifndef KM_MEMORY_PAGE_TABLES_H_
#define KM_MEMORY_PAGE_TABLES_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "km/memory/table_arena.h"

namespace km {

// Rights are PROT_* bits; PROT_NONE is an absent entry. Ranges are page aligned. Not thread-safe
// towards itself (AddressSpace's lock covers it); the processors walk the tables all the while, so
// every entry is written in one store.
//
// The order of a change towards the host's own mapping, and why, is in docs/memory.md.
class PageTables {
 public:
  enum class Owner { kProgram, kUserRuntime, kKernel };

  absl::Status Initialize(TableArena* arena);
  uint64_t root() const { return root_; }

  // Maps one page that is not the program's memory.
  absl::Status MapPage(uint64_t va, uint64_t gpa, int rights, Owner owner);

  // Makes [start, end) present with `rights`; guest-physical memory is contiguous from `gpa`, which
  // agrees with `start` modulo 2 MiB. Uses 2 MiB leaves where they fit.
  absl::Status Fill(uint64_t start, uint64_t end, uint64_t gpa, int rights);
  // Takes from the present entries what `rights` lacks.
  absl::Status Restrict(uint64_t start, uint64_t end, int rights);
  // Gives the present entries exactly `rights`, which are not PROT_NONE.
  absl::Status Grant(uint64_t start, uint64_t end, int rights);
  absl::Status Clear(uint64_t start, uint64_t end);
  // Whether the entry of `va` is present and grants all of `rights`.
  bool Allows(uint64_t va, int rights) const;

 private:
  using Table = uint64_t*;  // 512 entries in the arena

  Table At(uint64_t gpa) const { return reinterpret_cast<Table>(arena_->Host(gpa)); }
  // The table that the entry leads to, made when absent.
  absl::StatusOr<Table> Descend(uint64_t* entry);
  absl::StatusOr<uint64_t*> DirectoryEntry(uint64_t va);
  // An empty table for the 2 MiB around `va`: the one that a leaf displaced, or a new one.
  absl::StatusOr<uint64_t> TableFor(uint64_t va);
  absl::Status Split(uint64_t* entry, uint64_t va);
  absl::Status FillLarge(uint64_t va, uint64_t gpa, int rights);
  template <typename Change>
  absl::Status ForEachLeaf(uint64_t start, uint64_t end, Change change);

  TableArena* arena_ = nullptr;
  uint64_t root_ = 0;
  // Tables displaced by a 2 MiB leaf, by the address of their range: they serve that range again.
  absl::flat_hash_map<uint64_t, uint64_t> displaced_;
};

}  // namespace km

#endif  // KM_MEMORY_PAGE_TABLES_H_
