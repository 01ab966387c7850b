#include "tests/unit/signals/native.h"

#include <cpuid.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstring>

// The order of `registers` in SignalContext, but the last two are left out when loading.
extern "C" {
uint64_t km_test_in[18];
uint64_t km_test_out[18];
uint64_t km_test_entry[5];  // rdi, rsi, rdx, rax, eflags
uint64_t km_test_saved_rsp;
uint64_t km_test_xsave_mask;
alignas(64) uint8_t km_test_xsave[32768];

void km_test_raise();
void km_test_sigreturn(uint64_t rsp);
void km_test_handler();
void km_test_landing();
void km_test_on_signal(uint8_t* frame);
}

// clang-format off
asm(R"(
.text
.macro save_callee
  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15
  mov %rsp, km_test_saved_rsp(%rip)
.endm

km_test_raise:
  save_callee
  pushq km_test_in+136(%rip)
  popfq
  mov km_test_in+0(%rip), %r8;    mov km_test_in+8(%rip), %r9
  mov km_test_in+16(%rip), %r10;  mov km_test_in+24(%rip), %r11
  mov km_test_in+32(%rip), %r12;  mov km_test_in+40(%rip), %r13
  mov km_test_in+48(%rip), %r14;  mov km_test_in+56(%rip), %r15
  mov km_test_in+64(%rip), %rdi;  mov km_test_in+72(%rip), %rsi
  mov km_test_in+80(%rip), %rbp;  mov km_test_in+88(%rip), %rbx
  mov km_test_in+96(%rip), %rdx;  mov km_test_in+104(%rip), %rax
  mov km_test_in+112(%rip), %rcx
  ud2

km_test_landing:
  mov %r8, km_test_out+0(%rip);    mov %r9, km_test_out+8(%rip)
  mov %r10, km_test_out+16(%rip);  mov %r11, km_test_out+24(%rip)
  mov %r12, km_test_out+32(%rip);  mov %r13, km_test_out+40(%rip)
  mov %r14, km_test_out+48(%rip);  mov %r15, km_test_out+56(%rip)
  mov %rdi, km_test_out+64(%rip);  mov %rsi, km_test_out+72(%rip)
  mov %rbp, km_test_out+80(%rip);  mov %rbx, km_test_out+88(%rip)
  mov %rdx, km_test_out+96(%rip);  mov %rax, km_test_out+104(%rip)
  mov %rcx, km_test_out+112(%rip); mov %rsp, km_test_out+120(%rip)
  mov km_test_saved_rsp(%rip), %rsp
  pushfq
  popq km_test_out+136(%rip)
  mov km_test_xsave_mask(%rip), %eax
  mov km_test_xsave_mask+4(%rip), %edx
  xsave64 km_test_xsave(%rip)
  cld
  fninit
  pushq $0x1f80
  ldmxcsr (%rsp)
  pop %rax
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx
  ret

km_test_sigreturn:
  save_callee
  mov %rdi, %rsp
  mov $15, %eax
  syscall
  hlt

km_test_handler:
  mov %rdi, km_test_entry+0(%rip);  mov %rsi, km_test_entry+8(%rip)
  mov %rdx, km_test_entry+16(%rip); mov %rax, km_test_entry+24(%rip)
  pushfq
  popq km_test_entry+32(%rip)
  mov %rsp, %rdi
  jmp km_test_on_signal
)");
// clang-format on

namespace km {

CpuidRegisters HostCpuid(uint32_t leaf, uint32_t subleaf) {
  CpuidRegisters answer;
  __get_cpuid_count(leaf, subleaf, &answer.eax, &answer.ebx, &answer.ecx, &answer.edx);
  return answer;
}

namespace {

NativeFrame* g_frame = nullptr;
NativeException* g_exception = nullptr;
uint64_t g_resume_at = 0;

template <typename T>
T At(const uint8_t* bytes) {
  T value;
  memcpy(&value, bytes, sizeof(value));
  return value;
}

XsaveFormat FormatAt(const uint8_t* fpstate) {
  auto software = At<_fpx_sw_bytes>(fpstate + 464);
  EXPECT_EQ(software.magic1, FP_XSTATE_MAGIC1);
  EXPECT_EQ(software.extended_size, software.xstate_size + 4);
  XsaveFormat format = XsaveFormatOf(software.xstate_bv, HostCpuid);
  EXPECT_EQ(format.size, software.xstate_size);
  return format;
}

void RecordException(siginfo_t* info, void* uc) {
  auto* context = static_cast<ucontext_t*>(uc);
  SignalContext ours;
  memcpy(&ours, uc, sizeof(ours));
  g_exception->vector = static_cast<int>(ours.registers[REG_TRAPNO]);
  g_exception->info = *info;
  g_exception->registers = RegistersOf(ours);
  auto* fpstate = reinterpret_cast<uint8_t*>(ours.fpstate);
  g_exception->xsave.assign(fpstate, fpstate + 576);
  // Go on without TF and AC, and with no floating-point exception pending.
  context->uc_mcontext.gregs[REG_EFL] &= ~0x40100;
  context->uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(g_resume_at);
  context->uc_mcontext.fpregs->cwd = 0x37f;
  context->uc_mcontext.fpregs->swd = 0;
  context->uc_mcontext.fpregs->mxcsr = 0x1f80;
}

// The kernel leaves AC set, which compiled code, a sanitizer's above all, does not survive for
// long.
__attribute__((no_sanitize("address", "undefined"))) void OnException(int, siginfo_t* info,
                                                                      void* uc) {
  asm volatile("pushfq\n\tandl $~0x40000, (%%rsp)\n\tpopfq" ::: "memory", "cc");
  void (*volatile record)(siginfo_t*, void*) = RecordException;
  record(info, uc);
}

}  // namespace

Registers RegistersOf(const SignalContext& context) {
  Registers registers;
#define KM_TEST_LOAD(member, kvm_member, index) registers.member = context.registers[index];
  KM_GENERAL_REGISTERS(KM_TEST_LOAD)
#undef KM_TEST_LOAD
  registers.cs = context.registers[REG_CSGSFS] & 0xffff;
  registers.ss = context.registers[REG_CSGSFS] >> 48;
  return registers;
}

}  // namespace km

void km_test_on_signal(uint8_t* frame) {
  using km::At;
  km::NativeFrame& native = *km::g_frame;
  native.address = reinterpret_cast<uint64_t>(frame);
  native.restorer = At<uint64_t>(frame);
  memcpy(&native.context, frame + 8, sizeof(native.context));
  memcpy(&native.info, frame + 8 + sizeof(native.context), sizeof(native.info));
  auto* fpstate = reinterpret_cast<uint8_t*>(native.context.fpstate);
  native.format = km::FormatAt(fpstate);
  native.bytes.assign(frame, fpstate + native.format.size + 4);
  native.rdi = km_test_entry[0];
  native.rsi = km_test_entry[1];
  native.rdx = km_test_entry[2];
  native.rax = km_test_entry[3];
  native.eflags = km_test_entry[4];
  auto* context = reinterpret_cast<ucontext_t*>(frame + 8);
  context->uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(&km_test_landing);
}

namespace km {

NativeFrame RaiseWithRegisters(const Registers& registers, const stack_t& stack, uint64_t flags) {
  NativeFrame frame;
  g_frame = &frame;
  km_test_xsave_mask = 3;
#define KM_TEST_STORE(member, kvm_member, index) km_test_in[index] = registers.member;
  KM_GENERAL_REGISTERS(KM_TEST_STORE)
#undef KM_TEST_STORE
  stack_t old_stack = {};
  EXPECT_EQ(sigaltstack(&stack, &old_stack), 0);
  sigset_t blocked, old_mask;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  EXPECT_EQ(pthread_sigmask(SIG_SETMASK, &blocked, &old_mask), 0);
  struct sigaction action = {}, old_action = {};
  action.sa_sigaction = reinterpret_cast<void (*)(int, siginfo_t*, void*)>(&km_test_handler);
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | static_cast<int>(flags);
  EXPECT_EQ(sigaction(SIGILL, &action, &old_action), 0);
  km_test_raise();
  EXPECT_EQ(sigaction(SIGILL, &old_action, nullptr), 0);
  EXPECT_EQ(pthread_sigmask(SIG_SETMASK, &old_mask, nullptr), 0);
  EXPECT_EQ(sigaltstack(&old_stack, nullptr), 0);
  return frame;
}

uint64_t NativeLanding() { return reinterpret_cast<uint64_t>(&km_test_landing); }

NativeState NativeSigreturn(uint64_t frame_address, const XsaveFormat& format) {
  EXPECT_LE(format.size, sizeof(km_test_xsave));
  memset(km_test_xsave, 0, sizeof(km_test_xsave));
  km_test_xsave_mask = format.features;
  km_test_sigreturn(frame_address + 8);
  NativeState state;
#define KM_TEST_LOAD(member, kvm_member, index) state.registers.member = km_test_out[index];
  KM_GENERAL_REGISTERS(KM_TEST_LOAD)
#undef KM_TEST_LOAD
  state.registers.rip = NativeLanding();
  state.xsave.assign(km_test_xsave, km_test_xsave + format.size);
  return state;
}

NativeException CatchException(int sig, void (*trigger)(uint64_t* resume_at)) {
  NativeException exception;
  g_exception = &exception;
  struct sigaction action = {}, old = {};
  action.sa_sigaction = OnException;
  action.sa_flags = SA_SIGINFO;
  EXPECT_EQ(sigaction(sig, &action, &old), 0);
  trigger(&g_resume_at);
  EXPECT_EQ(sigaction(sig, &old, nullptr), 0);
  return exception;
}

}  // namespace km
