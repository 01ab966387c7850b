// The frame that the kernel puts on the stack before a signal handler, and the way back.
// Source: sigreturn(2), <asm/sigcontext.h>, arch/x86/kernel/signal_64.c and fpu/signal.c.
//
// These functions compute; the caller moves the bytes:
//
//   deliver:   BuildSignalFrame, CopyOut(frame.address, frame.bytes), and only then the registers,
//              the alternate stack and the mask of the thread change, and xsave becomes
//              InitialXsave().
//   sigreturn: CopyIn(&context, rsp); RestoreContext; when context.fpstate is 0 the XSAVE area
//   becomes
//              InitialXsave, else CopyIn(512 bytes of context.fpstate), CopyIn of
//              ExtendedFpstateSize more bytes behind them, RestoreFpstate. Every byte is read once.
//
// Whatever fails on either way means SIGSEGV for the program.
#ifndef KM_SIGNALS_FRAME_H_
#define KM_SIGNALS_FRAME_H_

#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "km/kvm/cpu_features.h"
#include "km/kvm/registers.h"
#include "km/signals/actions.h"
#include "km/signals/alt_stack.h"
#include "km/signals/signal_set.h"

namespace km {

// How extended state lies in a signal frame: XSAVE's standard format (Intel SDM vol. 1, 13.4).
struct XsaveFormat {
  uint64_t features = 0;    // bits of XCR0
  size_t size = 0;          // bytes, at least 576
  uint32_t mxcsr_mask = 0;  // the bits of MXCSR that may be set
};

// The format for the components in `features` on a processor with this CPUID.
XsaveFormat XsaveFormatOf(uint64_t features, CpuidSource cpuid);

// The state of a new program, and of each handler when it starts; format.size bytes.
std::vector<uint8_t> InitialXsave(const XsaveFormat& format);

// The most that a frame takes of a stack: AT_MINSIGSTKSZ of getauxval(3).
uint64_t MaxSignalFrameSize(const XsaveFormat& format);

// The last exception of a thread, as the kernel keeps it; every later frame shows it.
struct FaultInfo {
  uint64_t vector = 0;
  uint64_t error_code = 0;
  uint64_t address = 0;  // CR2
};

// The kernel's struct ucontext (libc's is larger). `registers` is in the order of REG_* with
// cs, gs, fs and ss packed in REG_CSGSFS.
struct SignalContext {
  uint64_t flags;
  uint64_t link;
  stack_t stack;
  uint64_t registers[23];
  uint64_t fpstate;
  uint64_t reserved[8];
  SignalSet mask;
};
static_assert(sizeof(SignalContext) == 304);

// What happens to whom.
struct SignalDelivery {
  SignalAction action;
  siginfo_t info = {};  // si_signo is the signal
  SignalSet mask = 0;   // what sigreturn will restore
  FaultInfo fault;
};

struct SignalFrame {
  uint64_t address = 0;
  std::vector<uint8_t> bytes;
  Registers registers;  // at the handler's first instruction
  AltStack alt_stack;   // SS_AUTODISARM has taken effect
};

// Makes the frame for a thread with `registers`, `alt_stack` and `xsave` (whose tail may be
// missing). 0, or -EFAULT: no SA_RESTORER, alternate stack too small, address space exhausted.
// `frame` may be used again and again.
int BuildSignalFrame(const SignalDelivery& delivery, const Registers& registers,
                     const AltStack& alt_stack, absl::Span<const uint8_t> xsave,
                     const XsaveFormat& format, SignalFrame* frame);

// rt_sigreturn's general part. Changes all of registers (fs_base, gs_base and the data selectors
// apart), the alternate stack and the mask. 0, or -EFAULT with nothing changed.
int RestoreContext(const SignalContext& context, Registers& registers, AltStack& alt_stack,
                   SignalSet& mask);

inline constexpr size_t kLegacyFpstateSize = 512;

// How many bytes belong to the frame's XSAVE area behind its first 512, `legacy`: 0 if these claim
// no extended state. At most format.size - 508.
size_t ExtendedFpstateSize(absl::Span<const uint8_t> legacy, const XsaveFormat& format);

// Turns the bytes at guest address `address`, as copied in, to an XSAVE area of format.size bytes
// that can be loaded. 0, or -EFAULT where the processor would refuse it.
int RestoreFpstate(uint64_t address, const XsaveFormat& format, std::vector<uint8_t>& bytes);

}  // namespace km

#endif  // KM_SIGNALS_FRAME_H_
