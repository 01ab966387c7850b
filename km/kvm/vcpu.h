// One vCPU: enters the program in ring 3 and says why it came out. Ioctls and nothing else.
#ifndef KM_KVM_VCPU_H_
#define KM_KVM_VCPU_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "km/base/owned.h"
#include "km/kvm/registers.h"
#include "km/kvm/vm.h"

namespace km {

// Why a vCPU came out.
struct VcpuExit {
  enum class Kind {
    kSystemCall,   // the `syscall` instruction; orig_rax holds the number, rip is behind it
    kException,    // vector, error_code, fault_address
    kInterrupted,  // a kick; the registers are the program's, or it never entered
    kHostFault,    // the host refused a page that the guest's tables grant: no address is known
    // An `out` of the program's own to the exit port; rip is behind it. The vCPU is in ring 3 and
    // can go on from there without `iretq`.
    kUserOut,
    kStrayPort,  // an `in` of the program's from the exit port: a general protection fault
    kFailed,     // KVM gave up: `reason` is the exit reason, `detail` its sub-code
  };
  Kind kind = Kind::kFailed;
  uint8_t vector = 0;
  uint64_t error_code = 0;
  uint64_t fault_address = 0;
  uint32_t reason = 0;
  uint64_t detail = 0;
};

// The guest memory that belongs to one vCPU.
struct VcpuPages {
  int index = 0;
  std::byte* kernel_page = nullptr;  // host address of KM_VCPU_PAGES_BASE + index * 4096
  std::byte* frame_page = nullptr;   // host address of KM_FRAME_BASE + index * 4096
  uint64_t cr3 = 0;
};

// Used by one thread at a time, except for RequestExit, which that thread's signal handler calls,
// and exits().
class Vcpu {
 public:
  static absl::StatusOr<std::unique_ptr<Vcpu>> Create(Vm& vm, const VcpuPages& pages);

  // Runs the program from `registers` until something needs the monitor. `registers` then holds the
  // program's registers (fs_base and gs_base are not touched, see ReadBases).
  VcpuExit Run(Registers& registers);

  // Makes the next or current Run return kInterrupted. Async-signal-safe.
  void RequestExit() { run()->immediate_exit = 1; }
  // Forgets a request; call before looking at what was asked.
  void ClearExitRequest() { run()->immediate_exit = 0; }

  // How often Run has entered the machine and come out. Any thread may ask.
  uint64_t exits() const { return exits_.load(std::memory_order_relaxed); }

  // FS and GS base: the program changes them itself with wrfsbase, so they are read when needed.
  absl::Status ReadBases(Registers& registers);
  absl::Status WriteBases(const Registers& registers);
  enum class Base { kFs, kGs };
  absl::Status WriteBase(Base base, uint64_t value);

  // Whether RDPID and RDTSCP tell a number of the vCPU's own, not that of the host's processor.
  bool hides_processor() const { return hides_processor_; }

  // The XSAVE area in standard format; size is Vm::xsave_size().
  absl::StatusOr<std::vector<uint8_t>> ReadXsave();
  // Accepts what ReadXsave gave, or the same with unknown components cut off: `area` may be
  // shorter.
  absl::Status WriteXsave(absl::Span<const uint8_t> area);

 private:
  Vcpu(OwnedFd fd, OwnedMapping run, const VcpuPages& pages, size_t xsave_size)
      : fd_(std::move(fd)), run_(std::move(run)), pages_(pages), xsave_size_(xsave_size) {}

  kvm_run* run() { return reinterpret_cast<kvm_run*>(run_.data()); }
  absl::Status Initialize(Vm& vm);
  absl::Status SetSystemRegisters();
  absl::Status SetModelRegisters();
  void WriteKernelPage();
  void Enter(const Registers& registers);
  VcpuExit Classify(int error, Registers& registers);
  VcpuExit PortExit(Registers& registers);
  VcpuExit Interrupted(Registers& registers);
  bool FinishException();
  VcpuExit ExceptionAt(uint64_t gate, Registers& registers);
  void LoadGeneral(Registers& registers);
  uint64_t FaultAddress();
  uint64_t frame_address() const;

  OwnedFd fd_;
  OwnedMapping run_;
  VcpuPages pages_;
  size_t xsave_size_;
  bool hides_processor_ = false;
  int refusals_ = 0;        // of KVM_RUN, by EAGAIN, one after another
  bool in_ring_3_ = false;  // where the last exit left it, as far as is known
  // Written by the running thread alone, so that counting needs no locked instruction.
  std::atomic<uint64_t> exits_ = 0;
};

}  // namespace km

#endif  // KM_KVM_VCPU_H_
