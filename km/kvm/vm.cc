#include "km/kvm/vm.h"

#include <cpuid.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#include "km/base/status.h"

namespace km {
namespace {

constexpr uint32_t kCpuidEntries = 256;
constexpr uint32_t kAmdFirstCaches = 0x80000005, kAmdCaches = 0x8000001d;  // leaves
constexpr uint32_t kMostCaches = 8;

absl::Status OpenError(int error) {
  switch (error) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      return ErrnoStatus(
          error,
          "cannot open /dev/kvm: this machine offers no KVM (load kvm_intel, kvm_amd "
          "or kvm_pvm, or run where virtualisation is enabled)");
    case EACCES:
    case EPERM:
      return ErrnoStatus(error,
                         "cannot open /dev/kvm: no right to it (join the group that owns it, "
                         "usually kvm, or run as root)");
    default:
      return ErrnoStatus(error, "cannot open /dev/kvm");
  }
}

// Components of XCR0 that the host's kernel enabled.
uint64_t HostXcr0() {
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

// Null: there is none.
const kvm_cpuid_entry2* FindEntry(const kvm_cpuid2& cpuid, uint32_t leaf, uint32_t subleaf) {
  const kvm_cpuid_entry2* end = cpuid.entries + cpuid.nent;
  const kvm_cpuid_entry2* found =
      std::find_if(cpuid.entries, end, [&](const kvm_cpuid_entry2& entry) {
        const bool indexed = entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        return entry.function == leaf && (!indexed || entry.index == subleaf);
      });
  return found != end ? found : nullptr;
}

// What the processor says, where KVM says nothing. False: it says nothing either.
bool AddFromHost(kvm_cpuid2* cpuid, uint32_t leaf, uint32_t subleaf) {
  const auto says = [](const kvm_cpuid_entry2& entry) {
    return (entry.eax | entry.ebx | entry.ecx | entry.edx) != 0;
  };
  const kvm_cpuid_entry2* known = FindEntry(*cpuid, leaf, subleaf);
  if (known != nullptr && says(*known)) return true;
  if (known == nullptr && cpuid->nent == kCpuidEntries) return false;
  kvm_cpuid_entry2 host = {};
  host.function = leaf;
  host.index = subleaf;
  host.flags = leaf == kAmdCaches ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
  if (!__get_cpuid_count(leaf, subleaf, &host.eax, &host.ebx, &host.ecx, &host.edx)) return false;
  cpuid->entries[known != nullptr ? known - cpuid->entries : cpuid->nent++] = host;
  return says(host);
}

// Of AMD's processors KVM does not tell the first caches (before Linux 6.6), nor all of them by
// type. Programs that find none look elsewhere, D's 2^32 times, or divide by the size of their
// lines.
void AddCaches(kvm_cpuid2* cpuid) {
  constexpr uint32_t kAmd = 0x68747541, kHygon = 0x6f677948;  // EBX of leaf 0
  const kvm_cpuid_entry2* vendor = FindEntry(*cpuid, 0, 0);
  if (vendor == nullptr || (vendor->ebx != kAmd && vendor->ebx != kHygon)) return;
  (void)AddFromHost(cpuid, kAmdFirstCaches, 0);
  for (uint32_t i = 0; i < kMostCaches && AddFromHost(cpuid, kAmdCaches, i); ++i) continue;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Vm>> Vm::Create() {
  auto vm = std::unique_ptr<Vm>(new Vm);
  vm->kvm_ = OwnedFd(open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!vm->kvm_.valid()) return OpenError(errno);
  int kvm = vm->kvm_.get();
  if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
    return absl::FailedPreconditionError("/dev/kvm does not speak KVM API version 12");
  }
  size_t bytes = sizeof(kvm_cpuid2) + kCpuidEntries * sizeof(kvm_cpuid_entry2);
  vm->cpuid_.resize((bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t));
  auto read_cpuid = [](void* self) -> void* {
    static_cast<Vm*>(self)->ReadCpuid();
    return nullptr;
  };
  pthread_t reader;
  if (int error = pthread_create(&reader, nullptr, read_cpuid, vm.get()); error != 0) {
    return ErrnoStatus(error, "cannot make a host thread");
  }
  vm->cpuid_reader_ = reader;
  int run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_size < 0) return ErrnoStatus(errno, "KVM_GET_VCPU_MMAP_SIZE");
  vm->run_size_ = static_cast<size_t>(run_size);
  int fd;
  do {
    fd = ioctl(kvm, KVM_CREATE_VM, 0);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return ErrnoStatus(errno, "cannot make a virtual machine (KVM_CREATE_VM)");
  vm->vm_ = OwnedFd(fd);
  if (vm->Extension(KVM_CAP_SYNC_REGS) < 1 || vm->Extension(KVM_CAP_IMMEDIATE_EXIT) < 1) {
    return absl::FailedPreconditionError(
        "this kernel's KVM is too old: KVM_CAP_SYNC_REGS and KVM_CAP_IMMEDIATE_EXIT are needed");
  }
  vm->xsave_size_ =
      static_cast<size_t>(std::max(vm->Extension(KVM_CAP_XSAVE2), int{sizeof(kvm_xsave)}));
  vm->max_vcpus_ = std::max(vm->Extension(KVM_CAP_MAX_VCPUS), 1);
  vm->max_slots_ = static_cast<uint32_t>(std::max(vm->Extension(KVM_CAP_NR_MEMSLOTS), 32));
  return vm;
}

int Vm::Extension(int capability) const {
  return ioctl(vm_.get(), KVM_CHECK_EXTENSION, capability);
}

Vm::~Vm() {
  if (cpuid_reader_.has_value()) pthread_join(*cpuid_reader_, nullptr);
}

void Vm::ReadCpuid() {
  auto* cpuid = reinterpret_cast<kvm_cpuid2*>(cpuid_.data());
  cpuid->nent = kCpuidEntries;
  if (ioctl(kvm_.get(), KVM_GET_SUPPORTED_CPUID, cpuid) < 0) {
    cpuid_error_ = errno;
    return;
  }
  AddCaches(cpuid);
}

absl::Status Vm::AwaitCpuid() {
  pthread_join(*cpuid_reader_, nullptr);
  cpuid_reader_.reset();
  if (cpuid_error_ != 0) return ErrnoStatus(cpuid_error_, "KVM_GET_SUPPORTED_CPUID");
  CpuidRegisters state = Cpuid(0xd, 0);
  xcr0_ = ((uint64_t{state.edx} << 32) | state.eax) & HostXcr0();
  return absl::OkStatus();
}

CpuidRegisters Vm::Cpuid(uint32_t leaf, uint32_t subleaf) const {
  const kvm_cpuid_entry2* entry = FindEntry(*cpuid(), leaf, subleaf);
  if (entry == nullptr) return {};
  return {entry->eax, entry->ebx, entry->ecx, entry->edx};
}

absl::Status Vm::SetSlot(uint32_t slot, uint64_t gpa, uint64_t size, const void* host,
                         bool read_only) {
  kvm_userspace_memory_region region = {};
  region.slot = slot;
  region.flags = read_only ? KVM_MEM_READONLY : 0;
  region.guest_phys_addr = gpa;
  region.memory_size = size;
  region.userspace_addr = reinterpret_cast<uint64_t>(host);
  if (ioctl(vm_.get(), KVM_SET_USER_MEMORY_REGION, &region) < 0) {
    return ErrnoStatus(errno, "cannot give the guest memory (KVM_SET_USER_MEMORY_REGION)");
  }
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Vm::CreateVcpu(int index) {
  int fd = ioctl(vm_.get(), KVM_CREATE_VCPU, index);
  if (fd < 0) return ErrnoStatus(errno, "cannot make a vCPU (KVM_CREATE_VCPU)");
  return OwnedFd(fd);
}

}  // namespace km
