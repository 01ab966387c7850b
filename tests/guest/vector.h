// All floating-point and vector registers at once: loaded with a pattern, held over a system call
// (or a spin), stored and compared. SSE, AVX or AVX-512, whatever the CPU has.
#ifndef TESTS_GUEST_VECTOR_H_
#define TESTS_GUEST_VECTOR_H_

#include "tests/guest/guest.h"

struct Vectors {
  _Alignas(64) uint8_t zmm[32][64];  // 16 of 16 bytes with SSE, 16 of 32 with AVX
  uint64_t mask[8];                  // k0..k7
  uint8_t x87[8][16];                // ten bytes each, st(7) first
  uint32_t mxcsr;
  uint16_t control;  // x87
};

// What happens while the registers are loaded: the system call `number` (its result replaces it),
// or with kSpin a loop until *(uint8_t*)arguments[0] is not zero.
struct VectorCall {
  long number;
  uint64_t arguments[6];
};
enum { kSpin = -1 };

// vector_run_LEVEL(in, out, call). Offsets: mask 2048, x87 2112, mxcsr 2240, control 2244.
#define VECTOR_RUN(name, load, store)                                               \
  __asm__(".text\n" name                                                            \
          ": push %rbx\n push %r12\n push %r13\n mov %rsi, %rbx\n mov %rdx, %r12\n" \
          " fninit\n .irp n, 0,1,2,3,4,5,6,7\n fldt 2112+16*\\n(%rdi)\n .endr\n"    \
          " fldcw 2244(%rdi)\n ldmxcsr 2240(%rdi)\n" load                           \
          " mov (%r12), %rax\n mov 8(%r12), %rdi\n cmp $-1, %rax\n jne 2f\n"        \
          "1: pause\n cmpb $0, (%rdi)\n je 1b\n jmp 3f\n"                           \
          "2: mov 16(%r12), %rsi\n mov 24(%r12), %rdx\n mov 32(%r12), %r10\n"       \
          " mov 40(%r12), %r8\n mov 48(%r12), %r9\n syscall\n mov %rax, (%r12)\n"   \
          "3:" store                                                                \
          " stmxcsr 2240(%rbx)\n fnstcw 2244(%rbx)\n fninit\n pushq $0x1f80\n"      \
          " ldmxcsr (%rsp)\n pop %rax\n pop %r13\n pop %r12\n pop %rbx\n ret\n")

#define X87_STORE " .irp n, 7,6,5,4,3,2,1,0\n fstpt 2112+16*\\n(%rbx)\n .endr\n"
#define LOW "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n"
#define ALL \
  "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
VECTOR_RUN("vector_run_sse", " .irp n," LOW " movdqu 64*\\n(%rdi), %xmm\\n\n .endr\n",
           " .irp n," LOW " movdqu %xmm\\n, 64*\\n(%rbx)\n .endr\n" X87_STORE);
VECTOR_RUN("vector_run_avx", " .irp n," LOW " vmovdqu 64*\\n(%rdi), %ymm\\n\n .endr\n",
           " .irp n," LOW " vmovdqu %ymm\\n, 64*\\n(%rbx)\n .endr\n vzeroupper\n" X87_STORE);
VECTOR_RUN(
    "vector_run_avx512",
    " .irp n," ALL
    " vmovdqu64 64*\\n(%rdi), %zmm\\n\n .endr\n"
    " .irp n, 0,1,2,3,4,5,6,7\n kmovq 2048+8*\\n(%rdi), %k\\n\n .endr\n",
    " .irp n," ALL
    " vmovdqu64 %zmm\\n, 64*\\n(%rbx)\n .endr\n"
    " .irp n, 0,1,2,3,4,5,6,7\n kmovq %k\\n, 2048+8*\\n(%rbx)\n .endr\n vzeroupper\n" X87_STORE);
extern void vector_run_sse(const struct Vectors* in, struct Vectors* out, struct VectorCall* call);
extern void vector_run_avx(const struct Vectors* in, struct Vectors* out, struct VectorCall* call);
extern void vector_run_avx512(const struct Vectors* in, struct Vectors* out,
                              struct VectorCall* call);

// 16, 32 or 64: bytes of a vector register that this CPU and system have.
__attribute__((unused)) static int VectorWidth(void) {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) return 64;
  return __builtin_cpu_supports("avx") ? 32 : 16;
}

__attribute__((unused)) static void FillVectors(struct Vectors* vectors, unsigned seed) {
  int width = VectorWidth();
  memset(vectors, 0, sizeof *vectors);
  for (int i = 0; i < (width == 64 ? 32 : 16); i++) {
    for (int j = 0; j < width; j++) vectors->zmm[i][j] = (uint8_t)(seed * 31 + i * 67 + j * 3 + 1);
  }
  for (int i = 0; i < 8; i++) {
    if (width == 64) vectors->mask[i] = 0x0101010101010101ull * (seed + i + 1);
    // An extended double: any fraction with the integer bit, an ordinary exponent.
    for (int j = 0; j < 8; j++) vectors->x87[i][j] = (uint8_t)(seed + i * 8 + j + 1);
    vectors->x87[i][7] |= 0x80;
    vectors->x87[i][8] = (uint8_t)(seed + i);
    vectors->x87[i][9] = 0x40;
  }
  vectors->mxcsr = 0x1f80 | (seed % 4) << 13;  // a rounding mode of its own
  vectors->control = (uint16_t)(0x37f | (seed % 4) << 10);
}

__attribute__((unused)) static void CompareVectors(const struct Vectors* got,
                                                   const struct Vectors* expected,
                                                   const char* when) {
  for (int i = 0; i < 32; i++) {
    for (int j = 0; j < 64; j++) {
      if (got->zmm[i][j] == expected->zmm[i][j]) continue;
      FAIL("%s: vector register %d, byte %d is 0x%02x, expected 0x%02x", when, i, j, got->zmm[i][j],
           expected->zmm[i][j]);
    }
  }
  for (int i = 0; i < 8; i++) {
    if (got->mask[i] != expected->mask[i]) {
      FAIL("%s: k%d is 0x%llx, expected 0x%llx", when, i, (long long)got->mask[i],
           (long long)expected->mask[i]);
    }
    if (memcmp(got->x87[i], expected->x87[i], 10) != 0) FAIL("%s: x87 st(%d) changed", when, 7 - i);
  }
  if (got->mxcsr != expected->mxcsr) {
    FAIL("%s: MXCSR is 0x%x, expected 0x%x", when, got->mxcsr, expected->mxcsr);
  }
  if (got->control != expected->control) {
    FAIL("%s: x87 control word is 0x%x, expected 0x%x", when, got->control, expected->control);
  }
}

// Loads the pattern `seed`, makes the call, and checks that every register came through.
__attribute__((unused)) static long RunVectors(unsigned seed, struct VectorCall call,
                                               const char* when) {
  struct Vectors in, out;
  FillVectors(&in, seed);
  FillVectors(&out, seed + 1);
  int width = VectorWidth();
  (width == 64   ? vector_run_avx512
   : width == 32 ? vector_run_avx
                 : vector_run_sse)(&in, &out, &call);
  CompareVectors(&out, &in, when);
  return call.number;
}

#endif  // TESTS_GUEST_VECTOR_H_
