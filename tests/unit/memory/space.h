// An address space in a machine, in which nothing is mapped yet.
#ifndef TESTS_UNIT_MEMORY_SPACE_H_
#define TESTS_UNIT_MEMORY_SPACE_H_

#include <sys/mman.h>

#include <cstdint>

#include "km/memory/address_space.h"
#include "tests/unit/memory/machine.h"

namespace km {

class SpaceTest : public MachineTest {
 protected:
  static constexpr int kRw = PROT_READ | PROT_WRITE;
  static constexpr uint64_t kBase = 0x100000000000;
  static constexpr uint64_t kFixed = 0x200000000;
  static constexpr uint64_t kBrk = 0x500000 + 0x123;

  void SetUp() override {
    MachineTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    space_.SetMemory(memory_.get());
    AddressSpace::Layout layout;
    layout.mmap_base = kBase;
    layout.brk_start = layout.brk_end = kBrk;
    space_.SetLayout(layout);
  }

  // Anonymous memory, private unless `flags` have MAP_SHARED; address 0: anywhere.
  int64_t Map(uint64_t address, uint64_t pages, int protection = kRw, int flags = 0) {
    MapRequest request;
    request.address = address;
    request.length = pages * kPageSize;
    request.protection = protection;
    request.flags = MAP_ANONYMOUS | flags | (flags & MAP_SHARED ? 0 : MAP_PRIVATE) |
                    (address != 0 ? MAP_FIXED : 0);
    return space_.Map(request);
  }

  AddressSpace space_;
};

}  // namespace km

#endif  // TESTS_UNIT_MEMORY_SPACE_H_
