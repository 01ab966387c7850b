#include "km/signals/siginfo.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "tests/unit/signals/native.h"

namespace km {
namespace {

// `text` runs with a pointer to the value to load in rcx, and goes on at 1.
#define KM_TEST_TRIGGER(text, value)                                          \
  [](uint64_t* resume_at) {                                                   \
    static const uint64_t input = (value);                                    \
    asm volatile("lea 1f(%%rip), %%rax\n\tmov %%rax, (%0)\n\t" text "\n1:\n"  \
                 :                                                            \
                 : "r"(resume_at), "c"(&input)                                \
                 : "rax", "rdx", "r8", "r9", "xmm0", "xmm1", "memory", "cc"); \
  }

void ExpectAsNatively(const NativeException& native, int vector) {
  ASSERT_EQ(native.vector, vector);
  siginfo_t ours = ExceptionSiginfo(vector, native.registers, native.xsave);
  EXPECT_EQ(ours.si_signo, native.info.si_signo);
  EXPECT_EQ(ours.si_code, native.info.si_code);
  EXPECT_EQ(ours.si_addr, native.info.si_addr);
  EXPECT_EQ(memcmp(&ours, &native.info, sizeof(ours)), 0);
}

TEST(ExceptionSiginfo, DivideAsNatively) {
  ExpectAsNatively(CatchException(SIGFPE, KM_TEST_TRIGGER("xor %%edx, %%edx\n\txor %%r8d, %%r8d\n\t"
                                                          "mov $1, %%eax\n\tdiv %%r8d",
                                                          0)),
                   kVectorDivide);
}

TEST(ExceptionSiginfo, BreakpointAsNatively) {
  ExpectAsNatively(CatchException(SIGTRAP, KM_TEST_TRIGGER("int3", 0)), kVectorBreakpoint);
}

TEST(ExceptionSiginfo, SingleStepAsNatively) {
  ExpectAsNatively(CatchException(SIGTRAP, KM_TEST_TRIGGER("lea -128(%%rsp), %%rsp\n\tpushfq\n\t"
                                                           "orl $0x100, (%%rsp)\n\tpopfq\n\tnop\n"
                                                           "1:\tlea 128(%%rsp), %%rsp",
                                                           0)),
                   kVectorDebug);
}

TEST(ExceptionSiginfo, InvalidOpcodeAsNatively) {
  ExpectAsNatively(CatchException(SIGILL, KM_TEST_TRIGGER("ud2", 0)), kVectorInvalidOpcode);
}

TEST(ExceptionSiginfo, ProtectionAsNatively) {
  ExpectAsNatively(CatchException(SIGSEGV, KM_TEST_TRIGGER("hlt", 0)), kVectorProtection);
  ExpectAsNatively(CatchException(SIGSEGV, KM_TEST_TRIGGER("mov (%%rcx), %%r8\n\tmov (%%r8), %%r9",
                                                           uint64_t{1} << 63)),
                   kVectorProtection);
}

TEST(ExceptionSiginfo, StackAsNatively) {
  if (getenv("GUEST_EMULATED") != nullptr) GTEST_SKIP() << "QEMU 10 raises #GP in its place";
  ExpectAsNatively(
      CatchException(SIGBUS, KM_TEST_TRIGGER("mov %%rbp, %%r8\n\tmov (%%rcx), %%rbp\n\t"
                                             "mov (%%rbp), %%r9\n1:\tmov %%r8, %%rbp",
                                             uint64_t{1} << 63)),
      kVectorStack);
}

TEST(ExceptionSiginfo, X87AsNatively) {
  // The low half is the control word: divide by zero unmasked, then invalid operation.
  ExpectAsNatively(CatchException(SIGFPE, KM_TEST_TRIGGER("fldcw (%%rcx)\n\tfld1\n\tfldz\n\t"
                                                          "fdivrp\n\tfwait",
                                                          0x37b)),
                   kVectorX87);
  ExpectAsNatively(CatchException(SIGFPE, KM_TEST_TRIGGER("fldcw (%%rcx)\n\tfldz\n\tfldz\n\t"
                                                          "fdivrp\n\tfwait",
                                                          0x37e)),
                   kVectorX87);
  asm volatile("fninit");
}

TEST(ExceptionSiginfo, SimdAsNatively) {
  if (getenv("GUEST_EMULATED") != nullptr) GTEST_SKIP() << "QEMU raises no SIMD exception";
    // 1 / x with the exceptions of `mxcsr` unmasked, in the low half; x in the high half.
#define KM_TEST_SIMD(mxcsr, x)                                                  \
  KM_TEST_TRIGGER(                                                              \
      "ldmxcsr (%%rcx)\n\tmovss 4(%%rcx), %%xmm1\n\tmov $0x3f800000, %%eax\n\t" \
      "movd %%eax, %%xmm0\n\tdivss %%xmm1, %%xmm0",                             \
      (uint64_t{x} << 32) | (mxcsr))
  ExpectAsNatively(CatchException(SIGFPE, KM_TEST_SIMD(0x1d80, 0u)), kVectorSimd);
  EXPECT_EQ(CatchException(SIGFPE, KM_TEST_SIMD(0x1d80, 0u)).info.si_code, FPE_FLTDIV);
  ExpectAsNatively(CatchException(SIGFPE, KM_TEST_SIMD(0x0f80, 0x40400000u)), kVectorSimd);
  EXPECT_EQ(CatchException(SIGFPE, KM_TEST_SIMD(0x0f80, 0x40400000u)).info.si_code, FPE_FLTRES);
  ExpectAsNatively(CatchException(SIGFPE, KM_TEST_SIMD(0x1f00, 0x7fa00000u)), kVectorSimd);
  ExpectAsNatively(CatchException(SIGFPE, KM_TEST_SIMD(0x1e80, 0x00000001u)), kVectorSimd);
}

TEST(ExceptionSiginfo, AlignmentAsNatively) {
  NativeException native = CatchException(
      SIGBUS, KM_TEST_TRIGGER("lea -128(%%rsp), %%rsp\n\tpushfq\n\t"
                              "orl $0x40000, (%%rsp)\n\tpopfq\n\tmov 1(%%rcx), %%r8d\n"
                              "1:\tlea 128(%%rsp), %%rsp\n\tpushfq\n\t"
                              "andl $~0x40000, (%%rsp)\n\tpopfq",
                              0));
  if (native.vector < 0) GTEST_SKIP() << "this machine does not check alignment";
  ExpectAsNatively(native, kVectorAlignment);
}

TEST(ExceptionSiginfo, TheOthers) {
  Registers registers;
  registers.rip = 0x1234;
  for (int vector : {kVectorOverflow, kVectorBound, kVectorProtection, 8, 10, 31, 255}) {
    siginfo_t info = ExceptionSiginfo(vector, registers, {});
    EXPECT_EQ(info.si_signo, SIGSEGV) << vector;
    EXPECT_EQ(info.si_code, SI_KERNEL) << vector;
    EXPECT_EQ(info.si_addr, nullptr) << vector;
  }
  EXPECT_EQ(ExceptionSiginfo(kVectorNotPresent, registers, {}).si_signo, SIGBUS);
  EXPECT_EQ(ExceptionSiginfo(kVectorNoDevice, registers, {}).si_code, ILL_ILLOPC);
  EXPECT_EQ(ExceptionSiginfo(kVectorControl, registers, {}).si_code, 10);
  EXPECT_EQ(ExceptionSiginfo(kVectorAlignment, registers, {}).si_code, BUS_ADRALN);
}

TEST(ExceptionSiginfo, FloatingPointWithoutStateIsStillASignal) {
  for (int vector : {kVectorX87, kVectorSimd}) {
    siginfo_t info = ExceptionSiginfo(vector, Registers{}, {});
    EXPECT_EQ(info.si_signo, SIGFPE);
    EXPECT_EQ(info.si_code, FPE_FLTUNK);
  }
}

}  // namespace
}  // namespace km
