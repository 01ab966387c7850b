// A machine with one vCPU and a little memory, for tests that need KVM.
#ifndef TESTS_UNIT_MEMORY_MACHINE_H_
#define TESTS_UNIT_MEMORY_MACHINE_H_

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>

#include "km/kvm/vcpu.h"
#include "km/kvm/vm.h"
#include "km/memory/guarded_copy.h"
#include "km/memory/guest_memory.h"

namespace km {

// While it lives, faults of guarded copies are repaired.
class FaultRepair {
 public:
  FaultRepair() {
    struct sigaction action = {};
    action.sa_sigaction = [](int sig, siginfo_t*, void* context) {
      // Any other fault is a bug of the test: it happens again and ends the program.
      if (!FixGuardedFault(static_cast<ucontext_t*>(context))) signal(sig, SIG_DFL);
    };
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, &old_segv_);
    sigaction(SIGBUS, &action, &old_bus_);
  }
  ~FaultRepair() {
    sigaction(SIGSEGV, &old_segv_, nullptr);
    sigaction(SIGBUS, &old_bus_, nullptr);
  }
  FaultRepair(const FaultRepair&) = delete;
  FaultRepair& operator=(const FaultRepair&) = delete;

 private:
  struct sigaction old_segv_ = {}, old_bus_ = {};
};

inline bool KvmUsable() { return access("/dev/kvm", R_OK | W_OK) == 0; }

// Skips its tests, visibly, where there is no KVM.
class MachineTest : public testing::Test {
 protected:
  static constexpr uint64_t kCode = 0x10000, kData = 0x20000, kStack = 0x30000;

  void SetUp() override {
    if (!KvmUsable()) GTEST_SKIP() << "no /dev/kvm, or no right to it";
    auto vm = Vm::Create();
    ASSERT_TRUE(vm.ok()) << vm.status();
    vm_ = *std::move(vm);
    ASSERT_TRUE(vm_->AwaitCpuid().ok());
    auto memory = GuestMemory::Create(vm_.get());
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
    auto pages = memory_->MakeVcpuPages(0);
    ASSERT_TRUE(pages.ok()) << pages.status();
    auto vcpu = Vcpu::Create(*vm_, *pages);
    ASSERT_TRUE(vcpu.ok()) << vcpu.status();
    vcpu_ = *std::move(vcpu);
  }

  // Anonymous memory of the host at `va`, not yet known to the guest.
  std::byte* MapHost(uint64_t va, uint64_t size) {
    void* at = mmap(memory_->window() + va, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    EXPECT_NE(at, MAP_FAILED);
    return static_cast<std::byte*>(at);
  }

  // The same, with `rights` in the guest; not across a chunk's end.
  std::byte* MapGuest(uint64_t va, uint64_t size, int rights) {
    std::byte* at = MapHost(va, size);
    uint64_t end = 0;
    auto gpa = memory_->PhysicalAddress(va, va, va + size, &end);
    EXPECT_TRUE(gpa.ok()) << gpa.status();
    EXPECT_LE(va + size, end);
    EXPECT_TRUE(memory_->tables().Fill(va, va + size, *gpa, rights).ok());
    return at;
  }

  // Makes kCode hold `code` and kStack's page be the stack; registers that start there.
  Registers Program(std::initializer_list<uint8_t> code) {
    memcpy(MapGuest(kCode, kPageSize, PROT_READ | PROT_EXEC), code.begin(), code.size());
    MapGuest(kStack, kPageSize, PROT_READ | PROT_WRITE);
    Registers registers;
    registers.rip = kCode;
    registers.rsp = kStack + kPageSize;
    return registers;
  }

  // In this order: the memory outlives what runs in it.
  std::unique_ptr<Vm> vm_;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<Vcpu> vcpu_;
};

}  // namespace km

#endif  // TESTS_UNIT_MEMORY_MACHINE_H_
