#include "km/signals/siginfo.h"

#include <cstring>

#include "km/signals/signal_set.h"

namespace km {
namespace {

// SEGV_CPERR, which older C libraries do not name.
constexpr int kSegvControlProtection = 10;

// Offsets in the XSAVE area (Intel SDM vol. 1, table 10-2).
constexpr size_t kFcwOffset = 0, kFswOffset = 2, kMxcsrOffset = 24;

uint32_t Mxcsr(absl::Span<const uint8_t> xsave) {
  uint32_t value = 0;
  if (xsave.size() >= kMxcsrOffset + sizeof(value)) {
    memcpy(&value, xsave.data() + kMxcsrOffset, sizeof(value));
  }
  return value;
}

uint32_t UnmaskedX87(absl::Span<const uint8_t> xsave) {
  uint16_t control = 0, status = 0;
  if (xsave.size() < kMxcsrOffset) return 0;
  memcpy(&control, xsave.data() + kFcwOffset, sizeof(control));
  memcpy(&status, xsave.data() + kFswOffset, sizeof(status));
  return status & static_cast<uint32_t>(~control);
}

// `raised`: the bits IE DE ZE OE UE PE that are both raised and unmasked. Invalid operation first,
// then in the order in which Linux looks.
int FloatingPointCode(uint32_t raised) {
  if ((raised & 0x01) != 0) return FPE_FLTINV;
  if ((raised & 0x04) != 0) return FPE_FLTDIV;
  if ((raised & 0x08) != 0) return FPE_FLTOVF;
  if ((raised & 0x12) != 0) return FPE_FLTUND;
  if ((raised & 0x20) != 0) return FPE_FLTRES;
  // Linux retries the instruction then. Here the state comes from the same exit, so it would only
  // repeat.
  return FPE_FLTUNK;
}

}  // namespace

siginfo_t FaultSiginfo(int sig, int code, uint64_t address) {
  siginfo_t info = {};
  info.si_signo = sig;
  info.si_code = code;
  info.si_addr = reinterpret_cast<void*>(address);
  return info;
}

siginfo_t SenderSiginfo(int sig, int code, int32_t pid, uint32_t uid) {
  siginfo_t info = {};
  info.si_signo = sig;
  info.si_code = code;
  info.si_pid = pid;
  info.si_uid = uid;
  return info;
}

siginfo_t KernelSiginfo(int sig) { return SenderSiginfo(sig, SI_KERNEL, 0, 0); }

signalfd_siginfo ReadForm(const siginfo_t& info) {
  signalfd_siginfo to = {};
  to.ssi_signo = static_cast<uint32_t>(info.si_signo);
  to.ssi_errno = info.si_errno;
  to.ssi_code = info.si_code;
  bool caused = info.si_code > SI_USER && info.si_code < SI_KERNEL;
  if (caused && (SignalBit(info.si_signo) & kSynchronous) != 0 && info.si_signo != SIGSYS) {
    to.ssi_addr = reinterpret_cast<uint64_t>(info.si_addr);
    return to;
  }
  if (caused && info.si_signo == SIGSYS) {
    to.ssi_call_addr = reinterpret_cast<uint64_t>(info.si_call_addr);
    to.ssi_syscall = info.si_syscall;
    to.ssi_arch = info.si_arch;
    return to;
  }
  if (info.si_code == SI_TIMER) {
    to.ssi_tid = static_cast<uint32_t>(info.si_timerid);
    to.ssi_overrun = static_cast<uint32_t>(info.si_overrun);
    to.ssi_ptr = reinterpret_cast<uint64_t>(info.si_ptr);
    to.ssi_int = info.si_int;
    return to;
  }
  bool child = caused && info.si_signo == SIGCHLD;
  if (info.si_code == SI_SIGIO || (caused && !child && info.si_code <= POLL_HUP)) {
    to.ssi_band = static_cast<uint32_t>(info.si_band);
    to.ssi_fd = info.si_fd;
    return to;
  }
  to.ssi_pid = static_cast<uint32_t>(info.si_pid);
  to.ssi_uid = info.si_uid;
  if (child) {
    to.ssi_status = info.si_status;
    to.ssi_utime = static_cast<uint64_t>(info.si_utime);
    to.ssi_stime = static_cast<uint64_t>(info.si_stime);
  } else if (info.si_code < 0) {
    to.ssi_ptr = reinterpret_cast<uint64_t>(info.si_ptr);
    to.ssi_int = info.si_int;
  }
  return to;
}

siginfo_t ExceptionSiginfo(int vector, const Registers& registers,
                           absl::Span<const uint8_t> xsave) {
  switch (vector) {
    case kVectorDivide:
      return FaultSiginfo(SIGFPE, FPE_INTDIV, registers.rip);
    case kVectorDebug:
      return FaultSiginfo(SIGTRAP, TRAP_TRACE, registers.rip);
    case kVectorBreakpoint:
      return KernelSiginfo(SIGTRAP);
    case kVectorInvalidOpcode:
      return FaultSiginfo(SIGILL, ILL_ILLOPN, registers.rip);
    case kVectorNoDevice:
      // Only for state that XFD withholds (AMX), which Linux refuses like this.
      return FaultSiginfo(SIGILL, ILL_ILLOPC, registers.rip);
    case kVectorCoprocessor:
      return KernelSiginfo(SIGFPE);
    case kVectorNotPresent:
    case kVectorStack:
      return KernelSiginfo(SIGBUS);
    case kVectorX87:
      return FaultSiginfo(SIGFPE, FloatingPointCode(UnmaskedX87(xsave)), registers.rip);
    case kVectorSimd: {
      uint32_t mxcsr = Mxcsr(xsave);
      return FaultSiginfo(SIGFPE, FloatingPointCode(mxcsr & ~(mxcsr >> 7)), registers.rip);
    }
    case kVectorAlignment:
      return FaultSiginfo(SIGBUS, BUS_ADRALN, 0);
    case kVectorControl:
      return FaultSiginfo(SIGSEGV, kSegvControlProtection, 0);
    default:
      return KernelSiginfo(SIGSEGV);
  }
}

bool KnownSiginfoLayout(int sig, int code) {
  // Codes of a signal's own go from 1 up to here (include/uapi/asm-generic/siginfo.h).
  constexpr struct {
    int sig, last;
  } kOwnCodes[] = {{SIGILL, 11}, {SIGFPE, 15}, {SIGSEGV, 10}, {SIGBUS, 5},
                   {SIGTRAP, 6}, {SIGCHLD, 6}, {SIGPOLL, 6},  {SIGSYS, 2}};
  constexpr int kLastOfPoll = 6, kDethread = -7, kAsyncNameLookup = -60;
  if (code == SI_KERNEL) return true;
  if (code <= SI_USER) return code >= kDethread || code == kAsyncNameLookup;
  for (const auto& own : kOwnCodes) {
    if (sig == own.sig) return code <= own.last;
  }
  return code <= kLastOfPoll;
}

}  // namespace km
