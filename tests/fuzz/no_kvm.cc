// Vm and Vcpu without KVM, in place of km/kvm/vm.cc and km/kvm/vcpu.cc: a machine that has memory
// slots and vCPUs but never runs: a vCPU comes out again and again as if it had been kicked.
#include <sys/mman.h>
#include <unistd.h>

#include "km/kvm/vcpu.h"
#include "km/kvm/vm.h"

namespace km {

namespace {
constexpr size_t kRunSize = 4096, kXsaveSize = 4096;
}  // namespace

absl::StatusOr<std::unique_ptr<Vm>> Vm::Create() {
  auto vm = std::unique_ptr<Vm>(new Vm);
  vm->run_size_ = kRunSize;
  vm->xsave_size_ = kXsaveSize;
  vm->max_vcpus_ = 16;
  vm->max_slots_ = 32764;
  vm->xcr0_ = 3;
  return vm;
}
Vm::~Vm() = default;
absl::Status Vm::AwaitCpuid() { return absl::OkStatus(); }
CpuidRegisters Vm::Cpuid(uint32_t, uint32_t) const { return {}; }
absl::Status Vm::SetSlot(uint32_t, uint64_t, uint64_t, const void*, bool) {
  return absl::OkStatus();
}
absl::StatusOr<OwnedFd> Vm::CreateVcpu(int) { return OwnedFd(); }

absl::StatusOr<std::unique_ptr<Vcpu>> Vcpu::Create(Vm& vm, const VcpuPages& pages) {
  OwnedMapping run(
      mmap(nullptr, kRunSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
      kRunSize);
  return std::unique_ptr<Vcpu>(new Vcpu(OwnedFd(), std::move(run), pages, vm.xsave_size()));
}
VcpuExit Vcpu::Run(Registers&) {
  usleep(1000);
  return {.kind = VcpuExit::Kind::kInterrupted};
}
absl::Status Vcpu::ReadBases(Registers&) { return absl::OkStatus(); }
absl::Status Vcpu::WriteBases(const Registers&) { return absl::OkStatus(); }
absl::Status Vcpu::WriteBase(Base, uint64_t) { return absl::OkStatus(); }
absl::StatusOr<std::vector<uint8_t>> Vcpu::ReadXsave() { return std::vector<uint8_t>(kXsaveSize); }
absl::Status Vcpu::WriteXsave(absl::Span<const uint8_t> area) {
  return area.size() <= kXsaveSize ? absl::OkStatus() : absl::InvalidArgumentError("too long");
}

}  // namespace km
