#include "km/kvm/vm.h"

#include "km/base/status.h"
#include "tests/unit/memory/machine.h"

namespace km {
namespace {

using VmTest = MachineTest;

TEST_F(VmTest, FiguresMakeSense) {
  EXPECT_GE(vm_->run_size(), sizeof(kvm_run));
  EXPECT_GE(vm_->xsave_size(), sizeof(kvm_xsave));
  EXPECT_GE(vm_->max_vcpus(), 1);
  EXPECT_GE(vm_->max_slots(), 32u);
  EXPECT_EQ(vm_->xcr0() & 3, 3u);
  EXPECT_GT(vm_->cpuid()->nent, 0u);
}

TEST_F(VmTest, SlotErrorsCarryTheErrno) {
  absl::Status status = vm_->SetSlot(100, 1, kPageSize, memory_->window(), false);
  EXPECT_EQ(ErrnoOf(status), EINVAL);
  EXPECT_NE(status.message().find("KVM_SET_USER_MEMORY_REGION"), absl::string_view::npos);
}

TEST_F(VmTest, OneVcpuPerIndex) {
  EXPECT_EQ(ErrnoOf(vm_->CreateVcpu(0).status()), EEXIST);
  EXPECT_TRUE(vm_->CreateVcpu(1).ok());
}

}  // namespace
}  // namespace km
