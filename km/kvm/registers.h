// The registers of one thread, and the one table that every user of them is generated from.
#ifndef KM_KVM_REGISTERS_H_
#define KM_KVM_REGISTERS_H_

#include <cstdint>

namespace km {

// General registers. The order and width are those of user_regs_struct (<sys/user.h>), which is
// what NT_PRSTATUS holds. `orig_rax` is the number of the system call the thread is in, -1 outside
// one.
struct Registers {
  uint64_t r15 = 0, r14 = 0, r13 = 0, r12 = 0, rbp = 0, rbx = 0, r11 = 0, r10 = 0;
  uint64_t r9 = 0, r8 = 0, rax = 0, rcx = 0, rdx = 0, rsi = 0, rdi = 0;
  uint64_t orig_rax = ~uint64_t{0};
  uint64_t rip = 0, cs = 0x33, eflags = 0x202, rsp = 0, ss = 0x2b;
  uint64_t fs_base = 0, gs_base = 0, ds = 0, es = 0, fs = 0, gs = 0;
};
static_assert(sizeof(Registers) == 27 * 8);

// X(member of Registers, member of kvm_regs, index in a signal frame's gregs (REG_*,
// <sys/ucontext.h>)): the registers that move between a vCPU, a signal frame and a note under the
// same value.
#define KM_GENERAL_REGISTERS(X) \
  X(r8, r8, 0)                  \
  X(r9, r9, 1)                  \
  X(r10, r10, 2)                \
  X(r11, r11, 3)                \
  X(r12, r12, 4)                \
  X(r13, r13, 5)                \
  X(r14, r14, 6)                \
  X(r15, r15, 7)                \
  X(rdi, rdi, 8)                \
  X(rsi, rsi, 9)                \
  X(rbp, rbp, 10)               \
  X(rbx, rbx, 11)               \
  X(rdx, rdx, 12)               \
  X(rax, rax, 13)               \
  X(rcx, rcx, 14)               \
  X(rsp, rsp, 15)               \
  X(rip, rip, 16)               \
  X(eflags, rflags, 17)

// Selectors of a 64-bit Linux program.
inline constexpr uint64_t kUserCs = 0x33;
inline constexpr uint64_t kUserSs = 0x2b;

}  // namespace km

#endif  // KM_KVM_REGISTERS_H_
