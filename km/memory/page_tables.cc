#include "km/memory/page_tables.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>

#include "km/base/status.h"

namespace km {
namespace {

constexpr uint64_t kPresent = 1, kWritable = 2, kUser = 4, kLarge = 0x80;
// Set beforehand: no processor then has to write to the tables.
constexpr uint64_t kAccessed = 0x20, kDirty = 0x40;
constexpr uint64_t kTableBits = kPresent | kWritable | kUser | kAccessed;  // the leaves restrict
constexpr uint64_t kNoExecute = uint64_t{1} << 63;
constexpr uint64_t kAddressMask = 0x000ffffffffff000;
constexpr int kTopShift = 39;
constexpr uint64_t kEntries = 512;

uint64_t* EntryOf(uint64_t* table, uint64_t va, int shift) {
  return table + ((va >> shift) & (kEntries - 1));
}

uint64_t Load(const uint64_t* entry) { return __atomic_load_n(entry, __ATOMIC_RELAXED); }

void Store(uint64_t* entry, uint64_t value) { __atomic_store_n(entry, value, __ATOMIC_RELEASE); }

uint64_t RightsBits(int rights) {
  if (rights == PROT_NONE) return 0;
  uint64_t bits = kPresent | kAccessed | kDirty;
  if (rights & PROT_WRITE) bits |= kWritable;
  if (!(rights & PROT_EXEC)) bits |= kNoExecute;
  return bits;
}

constexpr uint64_t kRightsMask = kPresent | kWritable | kNoExecute;

uint64_t Restricted(uint64_t entry, int rights) {
  if (rights == PROT_NONE) return 0;
  if (!(rights & PROT_WRITE)) entry &= ~kWritable;
  if (!(rights & PROT_EXEC)) entry |= kNoExecute;
  return entry;
}

}  // namespace

absl::Status PageTables::Initialize(TableArena* arena) {
  arena_ = arena;
  KM_ASSIGN_OR_RETURN(root_, arena->Allocate());
  return absl::OkStatus();
}

absl::StatusOr<PageTables::Table> PageTables::Descend(uint64_t* entry) {
  uint64_t value = Load(entry);
  if (!(value & kPresent)) {
    KM_ASSIGN_OR_RETURN(uint64_t gpa, arena_->Allocate());
    value = gpa | kTableBits;
    Store(entry, value);
  }
  return At(value & kAddressMask);
}

absl::StatusOr<uint64_t*> PageTables::DirectoryEntry(uint64_t va) {
  KM_ASSIGN_OR_RETURN(Table pointers, Descend(EntryOf(At(root_), va, kTopShift)));
  KM_ASSIGN_OR_RETURN(Table directory, Descend(EntryOf(pointers, va, 30)));
  return EntryOf(directory, va, 21);
}

absl::Status PageTables::MapPage(uint64_t va, uint64_t gpa, int rights, Owner owner) {
  KM_ASSIGN_OR_RETURN(uint64_t * entry, DirectoryEntry(va));
  KM_ASSIGN_OR_RETURN(Table table, Descend(entry));
  Store(EntryOf(table, va, 12), gpa | RightsBits(rights) | (owner == Owner::kKernel ? 0 : kUser));
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> PageTables::TableFor(uint64_t va) {
  auto it = displaced_.find(va & ~(kLargePageSize - 1));
  if (it == displaced_.end()) return arena_->Allocate();
  const uint64_t gpa = it->second;
  displaced_.erase(it);
  return gpa;
}

// A 2 MiB leaf becomes a table of 512 leaves with the same rights.
absl::Status PageTables::Split(uint64_t* entry, uint64_t va) {
  uint64_t large = Load(entry);
  KM_ASSIGN_OR_RETURN(const uint64_t gpa, TableFor(va));
  Table table = At(gpa);
  uint64_t base = large & kAddressMask & ~(kLargePageSize - 1);
  uint64_t bits = large & ~kAddressMask & ~kLarge;
  for (uint64_t i = 0; i < kEntries; ++i) Store(table + i, (base + i * kPageSize) | bits);
  Store(entry, gpa | kTableBits);
  return absl::OkStatus();
}

absl::Status PageTables::FillLarge(uint64_t va, uint64_t gpa, int rights) {
  KM_ASSIGN_OR_RETURN(uint64_t * entry, DirectoryEntry(va));
  uint64_t value = Load(entry);
  if ((value & kPresent) && !(value & kLarge)) {
    Table table = At(value & kAddressMask);
    bool empty = std::all_of(table, table + kEntries, [](uint64_t leaf) { return leaf == 0; });
    if (!empty) {
      for (uint64_t i = 0; i < kEntries; ++i) {
        Store(table + i, (gpa + i * kPageSize) | RightsBits(rights) | kUser);
      }
      return absl::OkStatus();
    }
    displaced_[va] = value & kAddressMask;
  }
  Store(entry, gpa | RightsBits(rights) | kUser | kLarge);
  return absl::OkStatus();
}

absl::Status PageTables::Fill(uint64_t start, uint64_t end, uint64_t gpa, int rights) {
  if (rights == PROT_NONE) return absl::OkStatus();
  for (uint64_t va = start; va < end;) {
    uint64_t next = std::min(end, (va | (kLargePageSize - 1)) + 1);
    if (next - va == kLargePageSize) {
      KM_RETURN_IF_ERROR(FillLarge(va, gpa, rights));
      gpa += kLargePageSize;
      va = next;
      continue;
    }
    KM_ASSIGN_OR_RETURN(uint64_t * entry, DirectoryEntry(va));
    if (!(Load(entry) & kPresent)) {
      KM_ASSIGN_OR_RETURN(const uint64_t table_gpa, TableFor(va));
      Store(entry, table_gpa | kTableBits);
    } else if (Load(entry) & kLarge) {
      KM_RETURN_IF_ERROR(Split(entry, va));
    }
    Table table = At(Load(entry) & kAddressMask);
    for (; va < next; va += kPageSize, gpa += kPageSize) {
      Store(EntryOf(table, va, 12), gpa | RightsBits(rights) | kUser);
    }
  }
  return absl::OkStatus();
}

// Calls change(entry) for every present leaf in the range, splitting large ones that reach out of
// it. The cost is in the tables that exist, not in the size of the range.
template <typename Change>
absl::Status PageTables::ForEachLeaf(uint64_t start, uint64_t end, Change change) {
  for (uint64_t va = start; va < end;) {
    uint64_t top = Load(EntryOf(At(root_), va, kTopShift));
    if (!(top & kPresent)) {
      va = (va | ((uint64_t{1} << kTopShift) - 1)) + 1;
      continue;
    }
    uint64_t pointer = Load(EntryOf(At(top & kAddressMask), va, 30));
    if (!(pointer & kPresent)) {
      va = (va | ((uint64_t{1} << 30) - 1)) + 1;
      continue;
    }
    uint64_t* entry = EntryOf(At(pointer & kAddressMask), va, 21);
    uint64_t next = std::min(end, (va | (kLargePageSize - 1)) + 1);
    uint64_t value = Load(entry);
    if ((value & kPresent) && (value & kLarge)) {
      if (next - va == kLargePageSize) {
        change(entry);
        va = next;
        continue;
      }
      KM_RETURN_IF_ERROR(Split(entry, va));
      value = Load(entry);
    }
    if (value & kPresent) {
      Table table = At(value & kAddressMask);
      for (uint64_t leaf_va = va; leaf_va < next; leaf_va += kPageSize) {
        uint64_t* leaf = EntryOf(table, leaf_va, 12);
        if (Load(leaf) & kPresent) change(leaf);
      }
    }
    va = next;
  }
  return absl::OkStatus();
}

absl::Status PageTables::Restrict(uint64_t start, uint64_t end, int rights) {
  return ForEachLeaf(start, end,
                     [rights](uint64_t* entry) { Store(entry, Restricted(Load(entry), rights)); });
}

absl::Status PageTables::Grant(uint64_t start, uint64_t end, int rights) {
  return ForEachLeaf(start, end, [rights](uint64_t* entry) {
    Store(entry, (Load(entry) & ~kRightsMask) | (RightsBits(rights) & kRightsMask));
  });
}

absl::Status PageTables::Clear(uint64_t start, uint64_t end) {
  return ForEachLeaf(start, end, [](uint64_t* entry) { Store(entry, 0); });
}

bool PageTables::Allows(uint64_t va, int rights) const {
  uint64_t value = root_ | kPresent;
  for (int shift = kTopShift; shift >= 12; shift -= 9) {
    value = Load(EntryOf(At(value & kAddressMask), va, shift));
    if (!(value & kPresent)) return false;
    if (shift == 21 && (value & kLarge)) break;
  }
  if ((rights & PROT_WRITE) && !(value & kWritable)) return false;
  return !((rights & PROT_EXEC) && (value & kNoExecute));
}

}  // namespace km
