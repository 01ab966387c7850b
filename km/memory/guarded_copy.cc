#include "km/memory/guarded_copy.h"

// Each body runs between km_guarded_begin and km_guarded_end; a fault there goes on at
// km_guarded_fault. They are leaf functions without a stack frame, so that `ret` is right anywhere.
asm(R"(
    .text
    .p2align 4
km_guarded_begin:
km_guarded_copy:
    mov %rdx, %rcx
    rep movsb
    mov $1, %eax
    ret
km_guarded_load32:
    mov (%rdi), %ecx
    mov %ecx, (%rsi)
    mov $1, %eax
    ret
km_guarded_store16:
    mov %si, (%rdi)
    mov $1, %eax
    ret
km_guarded_cmpxchg32:
    mov (%rsi), %eax
    lock cmpxchg %edx, (%rdi)
    mov %eax, (%rsi)
    mov $1, %eax
    ret
km_guarded_end:
km_guarded_fault:
    xor %eax, %eax
    ret
)");

extern "C" {
extern const char km_guarded_begin[], km_guarded_end[], km_guarded_fault[];
int km_guarded_copy(void* to, const void* from, size_t size);
int km_guarded_load32(const void* from, uint32_t* value);
int km_guarded_store16(void* at, uint16_t value);
int km_guarded_cmpxchg32(void* at, uint32_t* expected, uint32_t desired);
}

namespace km {

bool GuardedCopy(void* to, const void* from, size_t size) {
  return km_guarded_copy(to, from, size) != 0;
}

bool GuardedLoad32(const void* from, uint32_t* value) {
  return km_guarded_load32(from, value) != 0;
}

bool GuardedStore16(void* at, uint16_t value) { return km_guarded_store16(at, value) != 0; }

bool GuardedCompareExchange32(void* at, uint32_t* expected, uint32_t desired) {
  return km_guarded_cmpxchg32(at, expected, desired) != 0;
}

bool FixGuardedFault(ucontext_t* context) {
  greg_t& rip = context->uc_mcontext.gregs[REG_RIP];
  if (rip < reinterpret_cast<greg_t>(km_guarded_begin) ||
      rip >= reinterpret_cast<greg_t>(km_guarded_end)) {
    return false;
  }
  rip = reinterpret_cast<greg_t>(km_guarded_fault);
  return true;
}

}  // namespace km
