// What this kernel itself does with signals, as the measure for ours.
#ifndef TESTS_UNIT_SIGNALS_NATIVE_H_
#define TESTS_UNIT_SIGNALS_NATIVE_H_

#include <cstdint>
#include <vector>

#include "km/kvm/registers.h"
#include "km/signals/frame.h"

namespace km {

// The processor's own CPUID.
CpuidRegisters HostCpuid(uint32_t leaf, uint32_t subleaf);

// A frame as the kernel wrote it, and the registers at the handler's first instruction.
struct NativeFrame {
  uint64_t address = 0;
  std::vector<uint8_t> bytes;  // up to the end of the XSAVE area and its second magic number
  SignalContext context;
  siginfo_t info;
  XsaveFormat format;  // from the frame's sw_reserved
  uint64_t restorer = 0;
  uint64_t rdi = 0, rsi = 0, rdx = 0, rax = 0, eflags = 0;
};

// Runs `ud2` with `registers` (but rsp, rip, cs, ss and the bases) on a thread whose alternate
// stack is `stack`, with SIGUSR1 blocked, SIGILL handled with SA_SIGINFO | SA_ONSTACK | `flags`.
NativeFrame RaiseWithRegisters(const Registers& registers, const stack_t& stack, uint64_t flags);

// The registers of RaiseWithRegisters where the kernel knows better: rsp and rip.
Registers RegistersOf(const SignalContext& context);

// Has the kernel return from the frame at `frame_address`. Its rip must be NativeLanding(); what
// the thread then has is the result.
struct NativeState {
  Registers registers;
  std::vector<uint8_t> xsave;
};
NativeState NativeSigreturn(uint64_t frame_address, const XsaveFormat& format);
uint64_t NativeLanding();

// Runs `trigger`, which raises an exception, with a handler for `sig` that records it and goes on
// behind it: `trigger` stores the address where to go on at its argument before that.
struct NativeException {
  int vector = -1;
  siginfo_t info = {};
  Registers registers;
  std::vector<uint8_t> xsave;
};
NativeException CatchException(int sig, void (*trigger)(uint64_t* resume_at));

}  // namespace km

#endif  // TESTS_UNIT_SIGNALS_NATIVE_H_
