// The siginfo of signals that the monitor itself makes.
#ifndef KM_SIGNALS_SIGINFO_H_
#define KM_SIGNALS_SIGINFO_H_

#include <signal.h>
#include <sys/signalfd.h>

#include <cstdint>

#include "absl/types/span.h"
#include "km/kvm/registers.h"

namespace km {

// Processor exceptions (Intel SDM vol. 3, 6.3.1).
inline constexpr int kVectorDivide = 0, kVectorDebug = 1, kVectorBreakpoint = 3,
                     kVectorOverflow = 4, kVectorBound = 5, kVectorInvalidOpcode = 6,
                     kVectorNoDevice = 7, kVectorCoprocessor = 9, kVectorNotPresent = 11,
                     kVectorStack = 12, kVectorProtection = 13, kVectorPageFault = 14,
                     kVectorX87 = 16, kVectorAlignment = 17, kVectorSimd = 19, kVectorControl = 21;

// A signal caused at `address`: SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE.
siginfo_t FaultSiginfo(int sig, int code, uint64_t address);
// What kill (SI_USER) and tgkill (SI_TKILL) send.
siginfo_t SenderSiginfo(int sig, int code, int32_t pid, uint32_t uid);
// The kernel's own, without more to say: SI_KERNEL.
siginfo_t KernelSiginfo(int sig);

// The part of a siginfo_t that the kernel keeps; the rest is zero in every handler.
inline constexpr size_t kKernelSiginfoSize = 48;
// Whether the kernel knows what a signal with this code carries: of others it refuses what it would
// lose (known_siginfo_layout in kernel/signal.c).
bool KnownSiginfoLayout(int sig, int code);
// The form in which a signalfd gives it: what a siginfo holds depends on its code and signal
// (siginfo_layout in the kernel).
signalfd_siginfo ReadForm(const siginfo_t& info);

// What Linux makes of an exception in user mode (arch/x86/kernel/traps.c). `xsave` is read for the
// x87 and SIMD exceptions only and may be empty otherwise. Page faults are not for this function:
// what they mean is known to the address space alone (they yield SIGSEGV, SI_KERNEL here).
siginfo_t ExceptionSiginfo(int vector, const Registers& registers, absl::Span<const uint8_t> xsave);

}  // namespace km

#endif  // KM_SIGNALS_SIGINFO_H_
