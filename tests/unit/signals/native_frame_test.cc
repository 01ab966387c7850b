// Our frames against those of the kernel that the tests run on.
#include <cpuid.h>
#include <gtest/gtest.h>
#include <sys/auxv.h>
#include <ucontext.h>

#include <cstring>

#include "km/signals/frame.h"
#include "km/signals/siginfo.h"
#include "tests/unit/signals/native.h"

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

namespace km {
namespace {

class NativeFrameTest : public testing::Test {
 protected:
  NativeFrameTest() : memory_(65536) {
    stack_.ss_sp = memory_.data();
    stack_.ss_size = memory_.size();
  }

  static Registers Pattern() {
    Registers registers;
    uint64_t value = 0;
#define KM_TEST_SET(member, kvm_member, index) registers.member = value += 0x0123456789abcdef;
    KM_GENERAL_REGISTERS(KM_TEST_SET)
#undef KM_TEST_SET
    registers.eflags = 0x202 | 0x400 | 0x41;  // DF ZF CF
    return registers;
  }

  // The frame that we make for the state in which the kernel made `native`.
  SignalFrame Ours(const NativeFrame& native, uint64_t flags) {
    SignalDelivery delivery;
    delivery.action = {
        .handler = 0x1000, .flags = flags | kSaRestorer, .restorer = native.restorer, .mask = 0};
    Registers registers = RegistersOf(native.context);
    delivery.info = ExceptionSiginfo(kVectorInvalidOpcode, registers, {});
    delivery.mask = SignalBit(SIGUSR1);
    delivery.fault = {.vector = kVectorInvalidOpcode,
                      .error_code = 0,
                      .address = native.context.registers[REG_CR2]};
    AltStack stack;
    EXPECT_EQ(SetAltStack(stack, registers.rsp, stack_), 0);
    auto* fpstate = reinterpret_cast<const uint8_t*>(native.bytes.data()) +
                    (native.context.fpstate - native.address);
    SignalFrame frame;
    EXPECT_EQ(BuildSignalFrame(delivery, registers, stack, {fpstate, native.format.size},
                               native.format, &frame),
              0);
    return frame;
  }

  std::vector<uint8_t> memory_;
  stack_t stack_ = {};
};

TEST_F(NativeFrameTest, EveryByteIsTheKernels) {
  NativeFrame native = RaiseWithRegisters(Pattern(), stack_, 0);
  SignalFrame ours = Ours(native, SA_SIGINFO | SA_ONSTACK);
  EXPECT_EQ(ours.address, native.address);
  ASSERT_EQ(ours.bytes.size(), native.bytes.size());
  for (size_t i = 0; i < ours.bytes.size(); ++i) {
    ASSERT_EQ(ours.bytes[i], native.bytes[i]) << "at offset " << i;
  }
  EXPECT_EQ(ours.registers.rdi, native.rdi);
  EXPECT_EQ(ours.registers.rsi, native.rsi);
  EXPECT_EQ(ours.registers.rdx, native.rdx);
  EXPECT_EQ(ours.registers.rax, native.rax);
  EXPECT_EQ(ours.registers.eflags, native.eflags);
}

TEST_F(NativeFrameTest, AutodisarmFrame) {
  stack_.ss_flags = static_cast<int>(kSsAutodisarm);
  NativeFrame native = RaiseWithRegisters(Pattern(), stack_, 0);
  SignalFrame ours = Ours(native, SA_SIGINFO | SA_ONSTACK);
  EXPECT_EQ(ours.bytes, native.bytes);
}

TEST_F(NativeFrameTest, KernelFrameIsUnderstood) {
  NativeFrame native = RaiseWithRegisters(Pattern(), stack_, 0);
  Registers registers;
  registers.rsp = native.address + 8;
  AltStack stack;
  SignalSet mask = 0;
  ASSERT_EQ(RestoreContext(native.context, registers, stack, mask), 0);
  EXPECT_EQ(mask, SignalBit(SIGUSR1));
  EXPECT_EQ(stack.size, memory_.size());
  Registers expected = Pattern();
  expected.rsp = registers.rsp;
  expected.rip = registers.rip;
  // RF: an interrupted `ud2` is a fault.
  EXPECT_EQ(registers.eflags & ~uint64_t{0x10000}, expected.eflags);
  expected.eflags = registers.eflags;
  EXPECT_EQ(memcmp(&registers, &expected, sizeof(registers)), 0);
  std::vector<uint8_t> bytes(
      native.bytes.begin() + static_cast<ptrdiff_t>(native.context.fpstate - native.address),
      native.bytes.end());
  EXPECT_EQ(ExtendedFpstateSize(bytes, native.format), bytes.size() - kLegacyFpstateSize);
  EXPECT_EQ(RestoreFpstate(native.context.fpstate, native.format, bytes), 0);
}

// Fills what programs see of each component: x87 and SSE registers, and every byte of AVX and
// AVX-512 state.
std::vector<uint8_t> FilledXsave(const XsaveFormat& format) {
  std::vector<uint8_t> xsave = InitialXsave(format);
  for (size_t i = 160; i < 416; ++i) xsave[i] = static_cast<uint8_t>(i * 3);
  uint32_t mxcsr = 0x1fa1;
  memcpy(&xsave[24], &mxcsr, sizeof(mxcsr));
  uint16_t fcw = 0x27f;
  memcpy(&xsave[0], &fcw, sizeof(fcw));
  uint64_t present = 3;
  for (unsigned component : {2, 5, 6, 7}) {
    uint32_t size = 0, offset = 0, ecx = 0, edx = 0;
    if ((format.features >> component & 1) == 0) continue;
    if (!__get_cpuid_count(0xd, component, &size, &offset, &ecx, &edx)) continue;
    present |= uint64_t{1} << component;
    for (size_t i = 0; i < size; ++i) xsave[offset + i] = static_cast<uint8_t>(i * 5 + component);
  }
  memcpy(&xsave[512], &present, sizeof(present));
  return xsave;
}

TEST_F(NativeFrameTest, TheKernelReturnsFromOurs) {
  XsaveFormat format = RaiseWithRegisters(Pattern(), stack_, 0).format;
  Registers registers = Pattern();
  registers.rip = NativeLanding();
  std::vector<uint8_t> target(32768);
  registers.rsp = (reinterpret_cast<uint64_t>(target.data()) + target.size() - 64) & ~uint64_t{15};
  SignalDelivery delivery;
  delivery.action = {.handler = 0x1000, .flags = kSaRestorer, .restorer = 0x1000, .mask = 0};
  delivery.info = KernelSiginfo(SIGUSR1);
  std::vector<uint8_t> xsave = FilledXsave(format);
  SignalFrame frame;
  ASSERT_EQ(BuildSignalFrame(delivery, registers, {}, xsave, format, &frame), 0);
  ASSERT_GT(frame.address, reinterpret_cast<uint64_t>(target.data()));
  memcpy(reinterpret_cast<void*>(frame.address), frame.bytes.data(), frame.bytes.size());

  NativeState state = NativeSigreturn(frame.address, format);
  registers.orig_rax = ~uint64_t{0};
  EXPECT_EQ(memcmp(&state.registers, &registers, sizeof(registers)), 0);
  EXPECT_EQ(memcmp(&state.xsave[0], &xsave[0], 2), 0);    // control word
  EXPECT_EQ(memcmp(&state.xsave[24], &xsave[24], 4), 0);  // MXCSR
  EXPECT_EQ(memcmp(&state.xsave[160], &xsave[160], 256), 0);
  EXPECT_EQ(memcmp(&state.xsave[576], &xsave[576], format.size - 576), 0);
}

TEST_F(NativeFrameTest, MaxSizeIsWithinTheKernels) {
  uint64_t expected = getauxval(AT_MINSIGSTKSZ);
  if (expected == 0) GTEST_SKIP() << "this kernel has no AT_MINSIGSTKSZ";
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  // The kernel's figure has room for 32-bit frames too.
  EXPECT_LE(MaxSignalFrameSize(XsaveFormatOf((uint64_t{high} << 32) | low, HostCpuid)), expected);
}

}  // namespace
}  // namespace km
