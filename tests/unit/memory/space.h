// An address space in a machine, in which nothing is mapped yet.
#ifndef TESTS_UNIT_MEMORY_SPACE_H_
#define TESTS_UNIT_MEMORY_SPACE_H_

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

#include "km/memory/address_space.h"
#include "tests/unit/memory/machine.h"

namespace km {

class SpaceTest : public MachineTest {
 protected:
  static constexpr int kRw = PROT_READ | PROT_WRITE;
  static constexpr uint64_t kWrite = 6, kRead = 4, kFetch = 0x14;  // error codes of faults
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

  // A file of `pages` pages, each filled with its number + 1.
  std::shared_ptr<MappedFile> MakeFile(uint64_t pages) {
    auto file = std::make_shared<MappedFile>();
    file->fd = OwnedFd(memfd_create("km-test", MFD_CLOEXEC));
    for (uint64_t i = 0; i < pages; ++i) {
      std::string page(kPageSize, static_cast<char>(i + 1));
      EXPECT_EQ(write(file->fd.get(), page.data(), page.size()), ssize_t{kPageSize});
    }
    file->path = "/km-test";
    return file;
  }

  int64_t MapFile(const std::shared_ptr<MappedFile>& file, uint64_t address, uint64_t pages,
                  int flags, uint64_t first_page = 0, int protection = kRw) {
    MapRequest request;
    request.address = address;
    request.length = pages * kPageSize;
    request.protection = protection;
    request.flags = flags | MAP_FIXED;
    request.host_fd = file->fd.get();
    request.offset = first_page * kPageSize;
    request.file = file;
    return space_.Map(request);
  }

  uint8_t* Host(uint64_t address) {
    return reinterpret_cast<uint8_t*>(memory_->window()) + address;
  }
  bool Present(uint64_t address, int rights = 0) {
    return memory_->tables().Allows(address, rights);
  }
  FaultOutcome Fault(uint64_t address, uint64_t error) { return space_.Fault(address, error); }
  // How many mappings the host has of [address, address + length).
  int HostMappings(uint64_t address, uint64_t length) {
    const uint64_t start = reinterpret_cast<uint64_t>(Host(address)), end = start + length;
    std::ifstream maps("/proc/self/maps");
    int count = 0;
    unsigned long from = 0, to = 0;
    for (std::string line; std::getline(maps, line);) {
      count += sscanf(line.c_str(), "%lx-%lx", &from, &to) == 2 && from < end && to > start;
    }
    return count;
  }
  // The mappings as text: one line each, in pages from kFixed.
  std::string Shape() {
    std::string text;
    for (const Mapping& mapping : space_.Mappings()) {
      text += std::to_string((mapping.start - kFixed) / kPageSize) + "-" +
              std::to_string((mapping.end - kFixed) / kPageSize) + ":" +
              std::to_string(mapping.protection) + " ";
    }
    return text;
  }

  AddressSpace space_;
};

inline void ExpectFault(const FaultOutcome& outcome, int sig, int code) {
  EXPECT_EQ(outcome.signal, sig);
  EXPECT_EQ(outcome.code, code);
}

}  // namespace km

#endif  // TESTS_UNIT_MEMORY_SPACE_H_
