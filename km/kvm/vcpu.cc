#include "km/kvm/vcpu.h"

#include <km/layout.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "km/base/status.h"

namespace km {
namespace {

constexpr uint64_t kPageSize = 4096;
constexpr uint8_t kPageFaultVector = 14;
constexpr uint32_t kMsrFsBase = 0xc0000100, kMsrGsBase = 0xc0000101;

// The flags a program may set itself, as far as they outlive an `iretq` (Intel SDM vol. 1, 3.4.3):
// CF PF AF ZF SF TF DF OF NT RF AC ID.
constexpr uint64_t kUserFlags = 0x254dd5;
constexpr uint64_t kTrapFlag = 0x100;
constexpr uint64_t kFixedFlags = 0x202;  // IF, and bit 1 that is always set

// What `iretq` takes.
struct InterruptFrame {
  uint64_t rip, cs, rflags, rsp, ss;
};

struct Tss {
  uint32_t reserved0;
  uint64_t rsp[3];
  uint64_t reserved1;
  uint64_t ist[7];
  uint64_t reserved2;
  uint16_t reserved3;
  uint16_t io_map_base;
} __attribute__((packed));
static_assert(sizeof(Tss) == 104);

constexpr size_t kIoMapBytes = KM_EXIT_PORT / 8 + 1;
constexpr uint16_t kTssLimit = sizeof(Tss) + kIoMapBytes;  // and the byte of ones behind the map

// Vectors that push an error code (Intel SDM vol. 3, table 6-1).
bool HasErrorCode(uint8_t vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

bool Canonical(uint64_t address) {
  return static_cast<uint64_t>(static_cast<int64_t>(address << 16) >> 16) == address;
}

kvm_segment Segment(uint16_t selector, bool code, uint8_t dpl) {
  kvm_segment segment = {};
  segment.limit = 0xffffffff;
  segment.selector = selector;
  segment.type = code ? 0xb : 0x3;  // accessed; readable code or writable data
  segment.present = 1;
  segment.dpl = dpl;
  segment.db = code ? 0 : 1;
  segment.s = 1;
  segment.l = code ? 1 : 0;
  segment.g = 1;
  return segment;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Vcpu>> Vcpu::Create(Vm& vm, const VcpuPages& pages) {
  KM_ASSIGN_OR_RETURN(OwnedFd fd, vm.CreateVcpu(pages.index));
  OwnedMapping run(mmap(nullptr, vm.run_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0),
                   vm.run_size());
  if (!run.valid()) return ErrnoStatus(errno, "cannot map a vCPU's kvm_run");
  auto vcpu =
      std::unique_ptr<Vcpu>(new Vcpu(std::move(fd), std::move(run), pages, vm.xsave_size()));
  KM_RETURN_IF_ERROR(vcpu->Initialize(vm));
  return vcpu;
}

absl::Status Vcpu::Initialize(Vm& vm) {
  if (ioctl(fd_.get(), KVM_SET_CPUID2, vm.cpuid()) < 0) return ErrnoStatus(errno, "KVM_SET_CPUID2");
  WriteKernelPage();
  KM_RETURN_IF_ERROR(SetSystemRegisters());
  KM_RETURN_IF_ERROR(SetModelRegisters());
  kvm_xcrs xcrs = {};
  xcrs.nr_xcrs = 1;
  xcrs.xcrs[0].value = vm.xcr0();
  if (ioctl(fd_.get(), KVM_SET_XCRS, &xcrs) < 0) return ErrnoStatus(errno, "KVM_SET_XCRS");
  // RDTSC shall be the host's, which the host's vDSO data is made for. A backend that shows the
  // host's anyway does not know the attribute.
  uint64_t offset = 0;
  kvm_device_attr attribute = {};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  attribute.addr = reinterpret_cast<uint64_t>(&offset);
  hides_processor_ = ioctl(fd_.get(), KVM_SET_DEVICE_ATTR, &attribute) == 0;
  if (!hides_processor_ && errno != ENXIO && errno != ENOTTY) {
    return ErrnoStatus(errno, "KVM_VCPU_TSC_OFFSET");
  }
  run()->kvm_valid_regs = KVM_SYNC_X86_REGS;
  return absl::OkStatus();
}

void Vcpu::WriteKernelPage() {
  uint64_t page = KM_VCPU_PAGES_BASE + kPageSize * static_cast<uint64_t>(pages_.index);
  Tss tss = {};
  tss.rsp[0] = page + kPageSize;
  tss.ist[0] = page + kPageSize;
  tss.io_map_base = sizeof(Tss);
  memcpy(pages_.kernel_page, &tss, sizeof(tss));
  // A set bit denies its port; only the exit port's is clear. One byte of ones ends the map.
  memset(pages_.kernel_page + sizeof(Tss), 0xff, kIoMapBytes + 1);
  pages_.kernel_page[sizeof(Tss) + KM_EXIT_PORT / 8] &=
      static_cast<std::byte>(~(1u << (KM_EXIT_PORT % 8)));
}

absl::Status Vcpu::SetSystemRegisters() {
  kvm_sregs sregs;
  if (ioctl(fd_.get(), KVM_GET_SREGS, &sregs) < 0) return ErrnoStatus(errno, "KVM_GET_SREGS");
  sregs.cs = Segment(kUserCs, true, 3);
  sregs.ss = sregs.ds = sregs.es = sregs.fs = sregs.gs = Segment(kUserSs, false, 3);
  sregs.tr = {};
  sregs.tr.base = KM_VCPU_PAGES_BASE + kPageSize * static_cast<uint64_t>(pages_.index);
  sregs.tr.limit = kTssLimit;
  sregs.tr.selector = 0x40;
  sregs.tr.type = 0xb;  // busy 64-bit TSS
  sregs.tr.present = 1;
  sregs.ldt = {};
  sregs.ldt.unusable = 1;
  sregs.gdt.base = KM_GDT_ADDRESS;
  sregs.gdt.limit = 0x4f;
  sregs.idt.base = KM_IDT_ADDRESS;
  sregs.idt.limit = KM_GATE_COUNT * 16 - 1;
  sregs.cr0 = 0x80050033;  // PG AM WP NE ET MP PE: what Linux sets
  sregs.cr3 = pages_.cr3;
  // PAE PGE OSFXSR OSXMMEXCPT FSGSBASE OSXSAVE. Without SMEP and SMAP, so that ring 0 may run the
  // stub and read the frame, which are the user's pages.
  sregs.cr4 = 0x506a0;
  sregs.efer = 0xd01;  // SCE LME LMA NXE
  if (ioctl(fd_.get(), KVM_SET_SREGS, &sregs) < 0) return ErrnoStatus(errno, "KVM_SET_SREGS");
  return absl::OkStatus();
}

absl::Status Vcpu::SetModelRegisters() {
  struct {
    kvm_msrs header;
    kvm_msr_entry entries[3];
  } msrs = {};
  msrs.header.nmsrs = 3;
  msrs.entries[0] = {0xc0000081, 0, (uint64_t{0x23} << 48) | (uint64_t{0x10} << 32)};  // STAR
  msrs.entries[1] = {0xc0000082, 0, KM_STUB_ADDRESS};                                  // LSTAR
  msrs.entries[2] = {0xc0000084, 0, 0x54700};  // SFMASK: TF IF DF NT RF AC
  if (ioctl(fd_.get(), KVM_SET_MSRS, &msrs) != 3) return ErrnoStatus(errno, "KVM_SET_MSRS");
  return absl::OkStatus();
}

uint64_t Vcpu::frame_address() const {
  return KM_FRAME_BASE + kPageSize * static_cast<uint64_t>(pages_.index);
}

// The same `iretq` serves a stub that runs in ring 3 (PVM) and one in ring 0 (VMX, SVM). It is not
// needed where the last exit was in ring 3 already.
void Vcpu::Enter(const Registers& registers) {
  kvm_regs& regs = run()->s.regs.regs;
#define KM_STORE(member, kvm_member, index) regs.kvm_member = registers.member;
  KM_GENERAL_REGISTERS(KM_STORE)
#undef KM_STORE
  const uint64_t flags = (registers.eflags & kUserFlags) | kFixedFlags;
  if (std::exchange(in_ring_3_, false) && (flags & kTrapFlag) == 0) {
    regs.rip = registers.rip;
    regs.rsp = registers.rsp;
    regs.rflags = flags;
  } else {
    InterruptFrame frame = {registers.rip, kUserCs, flags, registers.rsp, kUserSs};
    memcpy(pages_.frame_page, &frame, sizeof(frame));
    regs.rip = KM_STUB_IRET;
    regs.rsp = frame_address();
    regs.rflags = kFixedFlags;
  }
  run()->kvm_dirty_regs = KVM_SYNC_X86_REGS;
}

VcpuExit Vcpu::Run(Registers& registers) {
  if (!Canonical(registers.rip)) {
    // `iretq` itself would fault, at an address that is not the program's.
    VcpuExit exit;
    exit.kind = VcpuExit::Kind::kException;
    exit.vector = 13;
    return exit;
  }
  Enter(registers);
  int error;
  do {
    error = ioctl(fd_.get(), KVM_RUN, 0) < 0 ? errno : 0;
  } while (error == EINTR && FinishException());
  exits_.store(exits() + 1, std::memory_order_relaxed);
  refusals_ = error == EAGAIN ? refusals_ + 1 : 0;
  return Classify(error, registers);
}

// On hardware an exception that has happened need not have reached its gate: the host may first
// have had to find the page of the gate or of its stack, and a kick came then. KVM still has it,
// and would raise it wherever RIP is made to point meanwhile. So it is let through; whoever kicked
// finds the thread at its next exit, which is that. Whether there was one.
bool Vcpu::FinishException() {
  kvm_vcpu_events events = {};
  if (ioctl(fd_.get(), KVM_GET_VCPU_EVENTS, &events) < 0) return false;
  if (events.exception.injected == 0 && events.exception.pending == 0) return false;
  ClearExitRequest();
  return true;
}

void Vcpu::LoadGeneral(Registers& registers) {
  const kvm_regs& regs = run()->s.regs.regs;
#define KM_LOAD(member, kvm_member, index) registers.member = regs.kvm_member;
  KM_GENERAL_REGISTERS(KM_LOAD)
#undef KM_LOAD
  registers.orig_rax = ~uint64_t{0};
}

VcpuExit Vcpu::Classify(int error, Registers& registers) {
  if (error == 0 && run()->exit_reason == KVM_EXIT_IO && run()->io.port == KM_EXIT_PORT) {
    return PortExit(registers);
  }
  // So it says when no thread can be made, which the first KVM_RUN of a machine does since 6.12.
  constexpr int kMostRefusals = 1000;
  const bool again = error == EAGAIN && refusals_ < kMostRefusals;
  if (error == EINTR || again || (error == 0 && run()->exit_reason == KVM_EXIT_INTR)) {
    return Interrupted(registers);
  }
  VcpuExit exit;
  if (error == EFAULT) {
    exit = Interrupted(registers);
    // Caught at the stub it is still the system call; the fault comes again when it matters.
    if (exit.kind == VcpuExit::Kind::kInterrupted) exit.kind = VcpuExit::Kind::kHostFault;
    return exit;
  }
  LoadGeneral(registers);
  exit.kind = VcpuExit::Kind::kFailed;
  exit.reason = error != 0 ? 0 : run()->exit_reason;
  exit.detail = error != 0                                      ? static_cast<uint64_t>(error)
                : run()->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run()->internal.suberror
                                                                : run()->hw.hardware_exit_reason;
  return exit;
}

// RIP stands behind the `out` or, until the next KVM_RUN, on it: kernels differ.
VcpuExit Vcpu::PortExit(Registers& registers) {
  uint64_t rip = run()->s.regs.regs.rip;
  VcpuExit exit;
  if (rip == KM_STUB_ADDRESS || rip == KM_STUB_IRET) {
    LoadGeneral(registers);
    registers.orig_rax = registers.rax;
    registers.rip = registers.rcx;
    registers.eflags = registers.r11;
    exit.kind = VcpuExit::Kind::kSystemCall;
    return exit;
  }
  if (rip >= KM_GATES_ADDRESS && rip < KM_GATES_ADDRESS + KM_GATE_SIZE * KM_GATE_COUNT) {
    return ExceptionAt(rip, registers);
  }
  if (run()->io.direction == KVM_EXIT_IO_OUT) {
    LoadGeneral(registers);
    in_ring_3_ = true;
    exit.kind = VcpuExit::Kind::kUserOut;
    return exit;
  }
  // An `in` is completed by the next KVM_RUN, which would overwrite a RIP set now: let it.
  bool kicked = run()->immediate_exit != 0;
  RequestExit();
  ioctl(fd_.get(), KVM_RUN, 0);
  if (!kicked) ClearExitRequest();
  LoadGeneral(registers);
  exit.kind = VcpuExit::Kind::kStrayPort;
  return exit;
}

VcpuExit Vcpu::ExceptionAt(uint64_t gate, Registers& registers) {
  VcpuExit exit;
  exit.kind = VcpuExit::Kind::kException;
  exit.vector = static_cast<uint8_t>((gate - KM_GATES_ADDRESS) / KM_GATE_SIZE);
  LoadGeneral(registers);
  size_t frame_offset = kPageSize - sizeof(InterruptFrame);
  if (HasErrorCode(exit.vector)) {
    memcpy(&exit.error_code, pages_.kernel_page + frame_offset - sizeof(uint64_t),
           sizeof(uint64_t));
  }
  InterruptFrame frame;
  memcpy(&frame, pages_.kernel_page + frame_offset, sizeof(frame));
  registers.rip = frame.rip;
  registers.eflags = frame.rflags;
  registers.rsp = frame.rsp;
  if (exit.vector == kPageFaultVector) exit.fault_address = FaultAddress();
  return exit;
}

uint64_t Vcpu::FaultAddress() {
  kvm_sregs sregs;
  if (ioctl(fd_.get(), KVM_GET_SREGS, &sregs) < 0) return 0;
  return sregs.cr2;
}

// Where a kick may find the vCPU: before its `iretq` (nothing ran), at the stub's or a gate's first
// instruction (the system call or exception has happened), or in the program.
VcpuExit Vcpu::Interrupted(Registers& registers) {
  const kvm_regs& regs = run()->s.regs.regs;
  VcpuExit exit;
  exit.kind = VcpuExit::Kind::kInterrupted;
  if (regs.rip == KM_STUB_IRET && regs.rsp == frame_address()) return exit;
  if (regs.rip == KM_STUB_ADDRESS) return PortExit(registers);
  if (regs.rip >= KM_GATES_ADDRESS && regs.rip < KM_GATES_ADDRESS + KM_GATE_SIZE * KM_GATE_COUNT) {
    return ExceptionAt(regs.rip, registers);
  }
  LoadGeneral(registers);
  return exit;
}

absl::Status Vcpu::ReadBases(Registers& registers) {
  kvm_sregs sregs;
  if (ioctl(fd_.get(), KVM_GET_SREGS, &sregs) < 0) return ErrnoStatus(errno, "KVM_GET_SREGS");
  registers.fs_base = sregs.fs.base;
  registers.gs_base = sregs.gs.base;
  return absl::OkStatus();
}

absl::Status Vcpu::WriteBases(const Registers& registers) {
  KM_RETURN_IF_ERROR(WriteBase(Base::kFs, registers.fs_base));
  return WriteBase(Base::kGs, registers.gs_base);
}

absl::Status Vcpu::WriteBase(Base base, uint64_t value) {
  struct {
    kvm_msrs header;
    kvm_msr_entry entry;
  } msrs = {};
  msrs.header.nmsrs = 1;
  msrs.entry = {base == Base::kFs ? kMsrFsBase : kMsrGsBase, 0, value};
  if (ioctl(fd_.get(), KVM_SET_MSRS, &msrs) != 1) {
    return ErrnoStatus(EINVAL, "cannot set FS or GS base (KVM_SET_MSRS)");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint8_t>> Vcpu::ReadXsave() {
  std::vector<uint8_t> area(xsave_size_);
  unsigned long request = xsave_size_ > sizeof(kvm_xsave) ? KVM_GET_XSAVE2 : KVM_GET_XSAVE;
  if (ioctl(fd_.get(), request, area.data()) < 0) return ErrnoStatus(errno, "KVM_GET_XSAVE");
  return area;
}

absl::Status Vcpu::WriteXsave(absl::Span<const uint8_t> area) {
  std::vector<uint8_t> whole;
  const uint8_t* bytes = area.data();
  // KVM reads as much as the host's format has.
  if (area.size() < xsave_size_) {
    whole.assign(area.begin(), area.end());
    whole.resize(xsave_size_);
    bytes = whole.data();
  }
  if (ioctl(fd_.get(), KVM_SET_XSAVE, bytes) < 0) {
    return ErrnoStatus(errno, "cannot set the vector registers (KVM_SET_XSAVE)");
  }
  return absl::OkStatus();
}

}  // namespace km
