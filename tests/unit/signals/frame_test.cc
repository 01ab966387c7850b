#include "km/signals/frame.h"

#include <gtest/gtest.h>
#include <ucontext.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "km/signals/siginfo.h"

namespace km {
namespace {

static_assert(offsetof(SignalContext, flags) == offsetof(ucontext_t, uc_flags));
static_assert(offsetof(SignalContext, link) == offsetof(ucontext_t, uc_link));
static_assert(offsetof(SignalContext, stack) == offsetof(ucontext_t, uc_stack));
static_assert(offsetof(SignalContext, registers) == offsetof(ucontext_t, uc_mcontext.gregs));
static_assert(offsetof(SignalContext, fpstate) == offsetof(ucontext_t, uc_mcontext.fpregs));
static_assert(offsetof(SignalContext, mask) == offsetof(ucontext_t, uc_sigmask));
static_assert(sizeof(SignalContext::registers) == sizeof(gregset_t));

// AVX in front, as on every processor.
constexpr XsaveFormat kFormat = {.features = 7, .size = 832, .mxcsr_mask = 0xffff};
constexpr uint64_t kSp = 0x7ffe0000;
constexpr uint64_t kAltBase = 0x10000, kAltSize = 16384;
constexpr size_t kSoftware = 464, kHeader = 512;
constexpr size_t kContextAt = 8, kInfoAt = 312;

Registers Pattern() {
  Registers registers;
  uint64_t value = 0x1111;
#define KM_TEST_SET(member, kvm_member, index) registers.member = value += 0x1111000000001111;
  KM_GENERAL_REGISTERS(KM_TEST_SET)
#undef KM_TEST_SET
  registers.rsp = kSp;
  registers.rip = 0x401000;
  registers.eflags = 0x202 | 0x400 | 0x100 | 0x10000 | 1;
  registers.orig_rax = 35;
  return registers;
}

std::vector<uint8_t> XsavePattern() {
  std::vector<uint8_t> xsave(4096);
  for (size_t i = 0; i < xsave.size(); ++i) xsave[i] = static_cast<uint8_t>(i * 7 + 1);
  uint32_t mxcsr = 0x1fa0;
  memcpy(&xsave[24], &mxcsr, 4);
  memset(&xsave[kHeader], 0, 64);
  xsave[kHeader] = 7;
  return xsave;
}

SignalDelivery Delivery(uint64_t flags = SA_SIGINFO | kSaRestorer) {
  SignalDelivery delivery;
  delivery.action = {.handler = 0x402000, .flags = flags, .restorer = 0x403000, .mask = 0};
  delivery.info = SenderSiginfo(SIGUSR1, SI_QUEUE, 77, 88);
  delivery.mask = SignalBit(SIGUSR2) | SignalBit(64);
  delivery.fault = {.vector = 14, .error_code = 6, .address = 0xdeadb000};
  return delivery;
}

AltStack Alt(uint32_t flags = 0) { return {.sp = kAltBase, .size = kAltSize, .flags = flags}; }

SignalFrame Built(const SignalDelivery& delivery = Delivery(), const AltStack& stack = {},
                  const Registers& registers = Pattern()) {
  SignalFrame frame;
  EXPECT_EQ(BuildSignalFrame(delivery, registers, stack, XsavePattern(), kFormat, &frame), 0);
  return frame;
}

SignalContext ContextOf(const SignalFrame& frame) {
  SignalContext context;
  memcpy(&context, frame.bytes.data() + kContextAt, sizeof(context));
  return context;
}

std::vector<uint8_t> FpstateOf(const SignalFrame& frame) {
  size_t offset = ContextOf(frame).fpstate - frame.address;
  return {frame.bytes.begin() + static_cast<ptrdiff_t>(offset), frame.bytes.end()};
}

template <typename T>
void Put(std::vector<uint8_t>& bytes, size_t offset, T value) {
  memcpy(&bytes[offset], &value, sizeof(value));
}

TEST(SignalFrame, PlaceAndRegisters) {
  SignalFrame frame = Built();
  EXPECT_EQ(frame.address % 16, 8u);
  uint64_t end = frame.address + frame.bytes.size();
  EXPECT_LE(end, kSp - 128);
  EXPECT_GT(end, kSp - 128 - 64);
  const Registers& next = frame.registers;
  EXPECT_EQ(next.rsp, frame.address);
  EXPECT_EQ(next.rip, 0x402000u);
  EXPECT_EQ(next.rdi, static_cast<uint64_t>(SIGUSR1));
  EXPECT_EQ(next.rsi, frame.address + kInfoAt);
  EXPECT_EQ(next.rdx, frame.address + kContextAt);
  EXPECT_EQ(next.rax, 0u);
  EXPECT_EQ(next.eflags, 0x203u);
  EXPECT_EQ(next.orig_rax, ~uint64_t{0});
  EXPECT_EQ(next.r12, Pattern().r12);
  EXPECT_EQ(ContextOf(frame).fpstate % 64, 0u);
}

TEST(SignalFrame, FaultAndMaskAreInTheContext) {
  SignalContext context = ContextOf(Built());
  EXPECT_EQ(context.registers[REG_TRAPNO], 14u);
  EXPECT_EQ(context.registers[REG_ERR], 6u);
  EXPECT_EQ(context.registers[REG_CR2], 0xdeadb000u);
  EXPECT_EQ(context.registers[REG_OLDMASK], Delivery().mask);
  EXPECT_EQ(context.mask, Delivery().mask);
  EXPECT_EQ(context.flags, 7u);
}

TEST(SignalFrame, InfoOnlyForSiginfoHandlers) {
  siginfo_t info;
  memcpy(&info, Built().bytes.data() + kInfoAt, sizeof(info));
  EXPECT_EQ(info.si_pid, 77);
  memcpy(&info, Built(Delivery(kSaRestorer)).bytes.data() + kInfoAt, sizeof(info));
  EXPECT_EQ(info.si_signo, 0);
}

TEST(SignalFrame, WithoutRestorerRefused) {
  SignalFrame frame;
  EXPECT_EQ(BuildSignalFrame(Delivery(SA_SIGINFO), Pattern(), {}, XsavePattern(), kFormat, &frame),
            -EFAULT);
}

TEST(SignalFrame, AlternateStack) {
  SignalDelivery delivery = Delivery(SA_SIGINFO | SA_ONSTACK | kSaRestorer);
  SignalFrame frame = Built(delivery, Alt());
  uint64_t end = frame.address + frame.bytes.size();
  EXPECT_LE(end, kAltBase + kAltSize);
  EXPECT_GT(end, kAltBase + kAltSize - 64);
  EXPECT_EQ(ContextOf(frame).stack.ss_size, kAltSize);
  EXPECT_EQ(frame.alt_stack.size, kAltSize);
  // Not asked for, or none there: the ordinary stack.
  EXPECT_GT(Built(Delivery(), Alt()).address, kAltBase + kAltSize);
  EXPECT_GT(Built(delivery, {}).address, kAltBase + kAltSize);
}

TEST(SignalFrame, NestedOnTheAlternateStack) {
  Registers registers = Pattern();
  registers.rsp = kAltBase + 8192;
  SignalFrame frame = Built(Delivery(SA_ONSTACK | kSaRestorer), Alt(), registers);
  EXPECT_LE(frame.address + frame.bytes.size(), registers.rsp - 128);
  EXPECT_GT(frame.address, kAltBase);
}

TEST(SignalFrame, AlternateStackOverflow) {
  SignalFrame frame;
  AltStack small = {.sp = kAltBase, .size = 1300, .flags = 0};
  EXPECT_EQ(BuildSignalFrame(Delivery(SA_ONSTACK | kSaRestorer), Pattern(), small, XsavePattern(),
                             kFormat, &frame),
            -EFAULT);
  Registers low = Pattern();
  low.rsp = kAltBase + 1000;
  for (uint64_t flags : {kSaRestorer, kSaRestorer | SA_ONSTACK}) {
    EXPECT_EQ(BuildSignalFrame(Delivery(flags), low, Alt(), XsavePattern(), kFormat, &frame),
              -EFAULT);
  }
}

TEST(SignalFrame, AutodisarmDisarmsAndSigreturnArmsAgain) {
  SignalFrame frame = Built(Delivery(SA_ONSTACK | kSaRestorer), Alt(kSsAutodisarm));
  EXPECT_EQ(frame.alt_stack.size, 0u);
  Registers registers = frame.registers;
  AltStack stack = frame.alt_stack;
  SignalSet mask = 0;
  ASSERT_EQ(RestoreContext(ContextOf(frame), registers, stack, mask), 0);
  EXPECT_EQ(stack.sp, kAltBase);
  EXPECT_EQ(stack.size, kAltSize);
  EXPECT_EQ(stack.flags, kSsAutodisarm);
}

TEST(SignalFrame, StackPointersWithoutRoomWrapInsteadOfCrashing) {
  for (uint64_t sp : {uint64_t{0}, uint64_t{8}, uint64_t{200}, uint64_t{1500}, ~uint64_t{0}}) {
    Registers registers = Pattern();
    registers.rsp = sp;
    SignalFrame frame = Built(Delivery(), {}, registers);
    EXPECT_LE(frame.bytes.size(), MaxSignalFrameSize(kFormat));
  }
}

TEST(SignalFrame, RoundTrip) {
  SignalFrame frame = Built();
  Registers registers = frame.registers;
  AltStack stack = frame.alt_stack;
  SignalSet mask = 0;
  ASSERT_EQ(RestoreContext(ContextOf(frame), registers, stack, mask), 0);
  EXPECT_EQ(mask, Delivery().mask);
  Registers expected = Pattern();
  expected.orig_rax = ~uint64_t{0};
  EXPECT_EQ(memcmp(&registers, &expected, sizeof(registers)), 0);

  std::vector<uint8_t> bytes = FpstateOf(frame);
  ASSERT_EQ(ExtendedFpstateSize(bytes, kFormat), bytes.size() - kLegacyFpstateSize);
  ASSERT_EQ(RestoreFpstate(ContextOf(frame).fpstate, kFormat, bytes), 0);
  std::vector<uint8_t> xsave = XsavePattern();
  ASSERT_EQ(bytes.size(), kFormat.size);
  EXPECT_EQ(memcmp(bytes.data(), xsave.data(), 416), 0);
  EXPECT_EQ(memcmp(&bytes[kHeader], &xsave[kHeader], kFormat.size - kHeader), 0);
}

TEST(SignalFrame, ShortXsaveIsFilledUp) {
  SignalFrame frame;
  for (size_t size : {0, 100, 512, 575}) {
    std::vector<uint8_t> xsave(size);
    ASSERT_EQ(BuildSignalFrame(Delivery(), Pattern(), {}, xsave, kFormat, &frame), 0);
    std::vector<uint8_t> bytes = FpstateOf(frame);
    EXPECT_EQ(bytes.size(), kFormat.size + 4);
    EXPECT_EQ(bytes[kHeader], 3);
  }
}

TEST(RestoreContext, OnlyUserFlags) {
  SignalContext context = ContextOf(Built());
  context.registers[REG_EFL] = ~uint64_t{0};
  Registers registers;
  AltStack stack;
  SignalSet mask;
  ASSERT_EQ(RestoreContext(context, registers, stack, mask), 0);
  EXPECT_EQ(registers.eflags, 0x202u | 0x50dd5);
}

TEST(RestoreContext, Selectors) {
  SignalContext context = ContextOf(Built());
  AltStack stack;
  SignalSet mask = 5;
  for (uint64_t selectors : {uint64_t{0x23} | uint64_t{0x2b} << 48, uint64_t{0x33}, uint64_t{0}}) {
    Registers registers;
    context.registers[REG_CSGSFS] = selectors;
    EXPECT_EQ(RestoreContext(context, registers, stack, mask), -EFAULT);
    EXPECT_EQ(registers.rip, 0u);
    EXPECT_EQ(mask, 5u);
  }
  Registers registers;
  context.flags = 3;  // an old frame, without a stack selector
  context.registers[REG_CSGSFS] = 0x33;
  EXPECT_EQ(RestoreContext(context, registers, stack, mask), 0);
  EXPECT_EQ(registers.ss, kUserSs);
}

TEST(RestoreContext, MaskNeverBlocksKillAndStop) {
  SignalContext context = ContextOf(Built());
  context.mask = ~uint64_t{0};
  Registers registers;
  AltStack stack;
  SignalSet mask = 0;
  ASSERT_EQ(RestoreContext(context, registers, stack, mask), 0);
  EXPECT_EQ(mask, ~kUnblockable);
}

class RestoreFpstateTest : public testing::Test {
 protected:
  int Restore() { return RestoreFpstate(address_, kFormat, bytes_); }
  uint64_t present() const { return bytes_[kHeader]; }

  std::vector<uint8_t> bytes_ = FpstateOf(Built());
  uint64_t address_ = 0x1000;
};

TEST_F(RestoreFpstateTest, LegacyOnlyWithoutMagic) {
  Put(bytes_, kSoftware, uint32_t{0});
  EXPECT_EQ(ExtendedFpstateSize(bytes_, kFormat), 0u);
  bytes_.resize(kLegacyFpstateSize);
  ASSERT_EQ(Restore(), 0);
  EXPECT_EQ(bytes_.size(), kFormat.size);
  EXPECT_EQ(bytes_[0], XsavePattern()[0]);
  EXPECT_EQ(bytes_[160], XsavePattern()[160]);
  EXPECT_EQ(present(), 3u);
  EXPECT_EQ(bytes_[600], 0);
}

TEST_F(RestoreFpstateTest, LegacyOnlyWithoutSecondMagic) {
  bytes_[kFormat.size] ^= 1;
  ASSERT_EQ(Restore(), 0);
  EXPECT_EQ(present(), 3u);
}

TEST_F(RestoreFpstateTest, SizesThatCannotBe) {
  for (uint32_t size : {0u, 575u, 833u, 0xffffffffu}) {
    Put(bytes_, kSoftware + 16, size);
    EXPECT_EQ(ExtendedFpstateSize(bytes_, kFormat), 0u);
    std::vector<uint8_t> copy = bytes_;
    EXPECT_EQ(RestoreFpstate(address_, kFormat, copy), 0);
    EXPECT_EQ(copy.size(), kFormat.size);
  }
}

TEST_F(RestoreFpstateTest, CutShort) {
  for (size_t size : {0, 1, 511}) {
    std::vector<uint8_t> copy(bytes_.begin(), bytes_.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_EQ(ExtendedFpstateSize(copy, kFormat), 0u);
    EXPECT_EQ(RestoreFpstate(address_, kFormat, copy), -EFAULT);
  }
  bytes_.resize(600);
  EXPECT_EQ(Restore(), 0);
}

TEST_F(RestoreFpstateTest, FrameOfASmallerMachine) {
  Put(bytes_, kSoftware + 16, uint32_t{576});
  Put(bytes_, 576, uint32_t{FP_XSTATE_MAGIC2});
  ASSERT_EQ(Restore(), 0);
  EXPECT_EQ(bytes_.size(), kFormat.size);
  EXPECT_EQ(bytes_[600], 0);
}

TEST_F(RestoreFpstateTest, WhatXrstorRefuses) {
  const std::vector<uint8_t> good = bytes_;
  Put(bytes_, kHeader, uint64_t{0xf});  // a component that is not there
  EXPECT_EQ(Restore(), -EFAULT);
  bytes_ = good;
  Put(bytes_, kHeader + 8, uint64_t{1} << 63);  // compacted
  EXPECT_EQ(Restore(), -EFAULT);
  bytes_ = good;
  bytes_[kHeader + 16] = 1;
  EXPECT_EQ(Restore(), -EFAULT);
  bytes_ = good;
  Put(bytes_, 24, uint32_t{0x10000});  // MXCSR
  EXPECT_EQ(Restore(), -EFAULT);
  bytes_ = good;
  address_ = 0x1010;
  EXPECT_EQ(Restore(), -EFAULT);
}

TEST_F(RestoreFpstateTest, ComponentsNotWantedAreInitial) {
  Put(bytes_, kSoftware + 8, uint64_t{4});  // AVX alone
  ASSERT_EQ(Restore(), 0);
  EXPECT_EQ(present(), 7u);
  EXPECT_EQ(bytes_[0], 0x7f);
  EXPECT_EQ(bytes_[1], 0x03);
  EXPECT_EQ(bytes_[160], 0);
  EXPECT_EQ(bytes_[24], 0xa0);  // MXCSR comes with AVX too
  EXPECT_EQ(bytes_[600], XsavePattern()[600]);
}

TEST_F(RestoreFpstateTest, AllInitial) {
  Put(bytes_, kSoftware + 8, uint64_t{0});
  ASSERT_EQ(Restore(), 0);
  std::vector<uint8_t> expected = InitialXsave(kFormat);
  Put(bytes_, 28, uint32_t{0});  // the processor's MXCSR_MASK, which nothing loads
  bytes_.resize(576);
  expected.resize(576);
  EXPECT_EQ(bytes_, expected);
}

}  // namespace
}  // namespace km
