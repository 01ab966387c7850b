#include "km/signals/frame.h"

#include <ucontext.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace km {
namespace {

// UC_FP_XSTATE, UC_SIGCONTEXT_SS and UC_STRICT_RESTORE_SS of <asm/ucontext.h>, which cannot be
// included besides libc's.
constexpr uint64_t kUcFpXstate = 1, kUcSigcontextSs = 2, kUcStrictRestoreSs = 4;

// The flags that sigreturn takes from the frame: AC RF OF DF TF SF ZF AF PF CF.
constexpr uint64_t kRestoredFlags = 0x50dd5;
constexpr uint64_t kTf = 0x100, kDf = 0x400, kRf = 0x10000;

constexpr uint64_t kRedZone = 128;

// XSAVE area (Intel SDM vol. 1, 13.4 and table 10-2).
constexpr size_t kHeaderOffset = 512, kHeaderSize = 64;
constexpr size_t kMinimumXsave = kHeaderOffset + kHeaderSize;
constexpr size_t kMxcsrOffset = 24, kMxcsrMaskOffset = 28;
constexpr size_t kX87Offset = 32, kXmmOffset = 160, kXmmEnd = 416;
constexpr uint64_t kX87 = 1, kSse = 2, kAvx = 4;
constexpr uint16_t kInitialFcw = 0x37f;
constexpr uint32_t kInitialMxcsr = 0x1f80;

// Where the kernel keeps struct _fpx_sw_bytes in the part that FXSAVE leaves to software.
constexpr size_t kSoftwareOffset = 464;
static_assert(kSoftwareOffset + sizeof(_fpx_sw_bytes) == kLegacyFpstateSize);
constexpr size_t kMagic2Size = 4;

// struct rt_sigframe.
struct FrameHead {
  uint64_t restorer;
  SignalContext context;
  siginfo_t info;
};
static_assert(sizeof(FrameHead) == 440);

template <typename T>
T Load(absl::Span<const uint8_t> bytes, size_t offset) {
  T value;
  memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

template <typename T>
void Store(absl::Span<uint8_t> bytes, size_t offset, const T& value) {
  memcpy(bytes.data() + offset, &value, sizeof(value));
}

uint64_t AlignDown(uint64_t value, uint64_t alignment) { return value & ~(alignment - 1); }

SignalContext MakeContext(const SignalDelivery& delivery, const Registers& registers,
                          const AltStack& alt_stack, uint64_t fpstate) {
  SignalContext context = {};
  context.flags = kUcFpXstate | kUcSigcontextSs | kUcStrictRestoreSs;
  context.stack.ss_sp = reinterpret_cast<void*>(alt_stack.sp);
  context.stack.ss_flags = static_cast<int>(alt_stack.flags);
  context.stack.ss_size = alt_stack.size;
#define KM_TO_CONTEXT(member, kvm_member, index) context.registers[index] = registers.member;
  KM_GENERAL_REGISTERS(KM_TO_CONTEXT)
#undef KM_TO_CONTEXT
  context.registers[REG_CSGSFS] = (registers.cs & 0xffff) | (registers.ss & 0xffff) << 48;
  context.registers[REG_ERR] = delivery.fault.error_code;
  context.registers[REG_TRAPNO] = delivery.fault.vector;
  context.registers[REG_OLDMASK] = delivery.mask;
  context.registers[REG_CR2] = delivery.fault.address;
  context.fpstate = fpstate;
  context.mask = delivery.mask;
  return context;
}

// `area` has format.size + kMagic2Size bytes.
void WriteFpstate(absl::Span<const uint8_t> xsave, const XsaveFormat& format,
                  absl::Span<uint8_t> area) {
  size_t size = std::min(xsave.size(), format.size);
  std::copy_n(xsave.begin(), size, area.begin());
  _fpx_sw_bytes software = {};
  software.magic1 = FP_XSTATE_MAGIC1;
  software.extended_size = static_cast<uint32_t>(format.size + kMagic2Size);
  software.xstate_bv = format.features;
  software.xstate_size = static_cast<uint32_t>(format.size);
  Store(area, kSoftwareOffset, software);
  // Handlers that know FXSAVE only change x87 and SSE state without marking it.
  uint64_t present = size < kMinimumXsave ? 0 : Load<uint64_t>(area, kHeaderOffset);
  std::fill_n(area.begin() + kHeaderOffset, kHeaderSize, 0);
  Store(area, kHeaderOffset, (present & format.features) | kX87 | kSse);
  Store(area, format.size, uint32_t{FP_XSTATE_MAGIC2});
}

// Puts what `kept` lacks of x87 and SSE into its initial state.
void InitialiseLegacy(absl::Span<uint8_t> area, uint64_t kept) {
  if ((kept & kX87) == 0) {
    std::fill(area.begin(), area.begin() + kMxcsrOffset, 0);
    std::fill(area.begin() + kX87Offset, area.begin() + kXmmOffset, 0);
    Store(area, 0, kInitialFcw);
  }
  if ((kept & kSse) == 0) std::fill(area.begin() + kXmmOffset, area.begin() + kXmmEnd, 0);
}

}  // namespace

XsaveFormat XsaveFormatOf(uint64_t features, CpuidSource cpuid) {
  XsaveFormat format;
  format.features = features | kX87 | kSse;
  format.size = kMinimumXsave;
  for (uint32_t component = 2; component < 63; ++component) {
    if (((features >> component) & 1) == 0) continue;
    CpuidRegisters place = cpuid(0xd, component);  // size in EAX, offset in EBX
    format.size = std::max(format.size, size_t{place.ebx} + place.eax);
  }
  alignas(16) uint8_t legacy[kLegacyFpstateSize] = {};
  asm volatile("fxsave64 %0" : "=m"(legacy));
  format.mxcsr_mask = Load<uint32_t>(legacy, kMxcsrMaskOffset);
  if (format.mxcsr_mask == 0) format.mxcsr_mask = 0xffbf;  // Intel SDM vol. 1, 11.6.6
  return format;
}

std::vector<uint8_t> InitialXsave(const XsaveFormat& format) {
  std::vector<uint8_t> area(format.size);
  InitialiseLegacy(absl::MakeSpan(area), 0);
  Store(absl::MakeSpan(area), kMxcsrOffset, kInitialMxcsr);
  // Marked as present: a loader may skip MXCSR of an area without SSE state.
  Store(absl::MakeSpan(area), kHeaderOffset, kX87 | kSse);
  return area;
}

uint64_t MaxSignalFrameSize(const XsaveFormat& format) {
  // Both parts may be moved down for their alignment.
  return AlignDown(sizeof(FrameHead) + 15 + format.size + kMagic2Size + 63 + 15, 16);
}

int BuildSignalFrame(const SignalDelivery& delivery, const Registers& registers,
                     const AltStack& alt_stack, absl::Span<const uint8_t> xsave,
                     const XsaveFormat& format, SignalFrame* frame) {
  const SignalAction& action = delivery.action;
  if ((action.flags & kSaRestorer) == 0) return -EFAULT;
  // Addresses may wrap around; the copy to the guest refuses them then.
  uint64_t sp = registers.rsp - kRedZone;
  bool on_alt_stack = alt_stack.InUse(registers.rsp);
  if ((action.flags & SA_ONSTACK) != 0 && alt_stack.size != 0 && !alt_stack.InUse(sp)) {
    sp = alt_stack.sp + alt_stack.size;
    on_alt_stack = true;
  }
  uint64_t fpstate = AlignDown(sp - (format.size + kMagic2Size), 64);
  uint64_t address = AlignDown(fpstate - sizeof(FrameHead), 16) - 8;
  if (on_alt_stack && !alt_stack.Holds(address)) return -EFAULT;

  FrameHead head = {};
  head.restorer = action.restorer;
  head.context = MakeContext(delivery, registers, alt_stack, fpstate);
  if ((action.flags & SA_SIGINFO) != 0) head.info = delivery.info;
  frame->address = address;
  frame->bytes.assign(fpstate - address + format.size + kMagic2Size, 0);
  Store(absl::MakeSpan(frame->bytes), 0, head);
  WriteFpstate(xsave, format, absl::MakeSpan(frame->bytes).subspan(fpstate - address));

  Registers& next = frame->registers;
  next = registers;
  next.rdi = static_cast<uint64_t>(delivery.info.si_signo);
  next.rsi = address + offsetof(FrameHead, info);
  next.rdx = address + offsetof(FrameHead, context);
  next.rax = 0;
  next.rip = action.handler;
  next.rsp = address;
  next.eflags &= ~(kTf | kDf | kRf);
  next.cs = kUserCs;
  next.ss = kUserSs;
  next.orig_rax = ~uint64_t{0};
  frame->alt_stack = (alt_stack.flags & kSsAutodisarm) != 0 ? AltStack{} : alt_stack;
  return 0;
}

int RestoreContext(const SignalContext& context, Registers& registers, AltStack& alt_stack,
                   SignalSet& mask) {
  // Only 64-bit code runs here. A stack selector that is not the program's is forgiven to frames
  // that do not claim to have one (old dosemu, CRIU); `iretq` would refuse it to the others.
  uint64_t selectors = context.registers[REG_CSGSFS];
  if (((selectors & 0xffff) | 3) != kUserCs) return -EFAULT;
  bool strict = (context.flags & kUcStrictRestoreSs) != 0;
  if (strict && ((selectors >> 48) | 3) != kUserSs) return -EFAULT;

  // Errors are not the program's concern: the frame of a handler on its alternate stack always
  // fails.
  (void)SetAltStack(alt_stack, registers.rsp, context.stack);
  uint64_t kept_flags = registers.eflags & ~kRestoredFlags;
#define KM_FROM_CONTEXT(member, kvm_member, index) registers.member = context.registers[index];
  KM_GENERAL_REGISTERS(KM_FROM_CONTEXT)
#undef KM_FROM_CONTEXT
  registers.eflags = kept_flags | (context.registers[REG_EFL] & kRestoredFlags);
  registers.cs = kUserCs;
  registers.ss = kUserSs;
  registers.orig_rax = ~uint64_t{0};
  mask = context.mask & ~kUnblockable;
  return 0;
}

size_t ExtendedFpstateSize(absl::Span<const uint8_t> legacy, const XsaveFormat& format) {
  if (legacy.size() < kLegacyFpstateSize) return 0;
  auto software = Load<_fpx_sw_bytes>(legacy, kSoftwareOffset);
  // A frame made before a snapshot may be smaller than the frames of this machine.
  if (software.magic1 != FP_XSTATE_MAGIC1 || software.xstate_size < kMinimumXsave ||
      software.xstate_size > format.size) {
    return 0;
  }
  return software.xstate_size + kMagic2Size - kLegacyFpstateSize;
}

int RestoreFpstate(uint64_t address, const XsaveFormat& format, std::vector<uint8_t>& bytes) {
  if (bytes.size() < kLegacyFpstateSize) return -EFAULT;
  uint64_t wanted = kX87 | kSse;
  uint64_t kept = wanted;
  size_t extended = ExtendedFpstateSize(bytes, format);
  size_t size = kLegacyFpstateSize + extended;
  // Without the second magic number somebody copied the legacy part alone.
  bool whole = extended != 0 && bytes.size() >= size &&
               Load<uint32_t>(bytes, size - kMagic2Size) == FP_XSTATE_MAGIC2;
  if (address % (whole ? 64 : 16) != 0) return -EFAULT;
  if (whole) {
    // What XRSTOR raises #GP for (Intel SDM vol. 1, 13.8.1).
    wanted = Load<_fpx_sw_bytes>(bytes, kSoftwareOffset).xstate_bv & format.features;
    kept = Load<uint64_t>(bytes, kHeaderOffset);
    if ((kept & ~format.features) != 0 || Load<uint64_t>(bytes, kHeaderOffset + 8) != 0 ||
        Load<uint64_t>(bytes, kHeaderOffset + 16) != 0) {
      return -EFAULT;
    }
    kept &= wanted;
  }
  uint32_t mxcsr = kInitialMxcsr;
  if ((wanted & (kSse | kAvx)) != 0) mxcsr = Load<uint32_t>(bytes, kMxcsrOffset);
  if ((mxcsr & ~format.mxcsr_mask) != 0) return -EFAULT;

  bytes.resize(whole ? size - kMagic2Size : kLegacyFpstateSize);
  bytes.resize(format.size);
  absl::Span<uint8_t> area = absl::MakeSpan(bytes);
  InitialiseLegacy(area, kept);
  Store(area, kMxcsrOffset, mxcsr);
  std::fill(area.begin() + kXmmEnd, area.begin() + kMinimumXsave, 0);
  Store(area, kHeaderOffset, kept | kX87 | kSse);
  return 0;
}

}  // namespace km
