// One KVM virtual machine: ioctls and nothing else.
// Source: the kernel's Documentation/virt/kvm/api.rst.
#ifndef KM_KVM_VM_H_
#define KM_KVM_VM_H_

#include <pthread.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/base/owned.h"
#include "km/kvm/cpu_features.h"
#include "km/kvm/kvm_api.h"

namespace km {

class Vm {
 public:
  // Opens /dev/kvm and makes a machine without irqchip. Errors say what is missing and what to do.
  static absl::StatusOr<std::unique_ptr<Vm>> Create();
  ~Vm();

  // Waits for KVM's table of CPUID leaves, which a thread reads while other things are made: 0.4 ms
  // where each leaf is an exit. Once, before any of cpuid(), Cpuid(), xcr0() and a vCPU.
  absl::Status AwaitCpuid();

  // Puts [host, host + size) at guest-physical `gpa`. All page aligned, `size` > 0. A size of 0
  // deletes the slot. Thread-safe.
  absl::Status SetSlot(uint32_t slot, uint64_t gpa, uint64_t size, const void* host,
                       bool read_only);

  // Makes vCPU `index` and gives its descriptor.
  absl::StatusOr<OwnedFd> CreateVcpu(int index);

  // Bytes of a vCPU's shared kvm_run area; of its XSAVE area.
  size_t run_size() const { return run_size_; }
  size_t xsave_size() const { return xsave_size_; }
  int max_vcpus() const { return max_vcpus_; }
  uint32_t max_slots() const { return max_slots_; }
  // The CPUID leaves a vCPU gets, in the form of KVM_SET_CPUID2.
  const kvm_cpuid2* cpuid() const { return reinterpret_cast<const kvm_cpuid2*>(cpuid_.data()); }
  // What a vCPU's CPUID answers.
  CpuidRegisters Cpuid(uint32_t leaf, uint32_t subleaf) const;
  // What XCR0 may hold here.
  uint64_t xcr0() const { return xcr0_; }

 private:
  Vm() = default;
  void ReadCpuid();
  int Extension(int capability) const;

  OwnedFd kvm_;
  OwnedFd vm_;
  size_t run_size_ = 0;
  size_t xsave_size_ = 0;
  int max_vcpus_ = 0;
  uint32_t max_slots_ = 0;
  uint64_t xcr0_ = 0;
  std::vector<uint64_t> cpuid_;
  int cpuid_error_ = 0;                    // the reader's errno
  std::optional<pthread_t> cpuid_reader_;  // until it is joined; cpuid_ and cpuid_error_ are its
};

}  // namespace km

#endif  // KM_KVM_VM_H_
