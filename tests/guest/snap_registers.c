// Every register is live over the hypercall: general ones, flags, x87, SSE, AVX, AVX-512, in the
// thread that asks and in others that are caught anywhere.
#include "tests/guest/vector.h"

// Loads all registers but those a system call takes (RAX, RCX, R11 and its arguments), makes call
// `rdi` with `rsi`'s seven words as number and arguments, and stores the registers to `rdx`.
__asm__(
    ".text\n"
    "registers_over_call: push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "  push %rsi\n mov %rdi, %rax\n"
    "  mov (%rax), %rdi\n mov 16(%rax), %rdx\n mov 24(%rax), %r10\n mov 32(%rax), %r8\n"
    "  mov 40(%rax), %r9\n mov 8(%rax), %rsi\n mov 48(%rax), %rax\n"
    "  mov $0x1001, %ebx\n mov $0x1002, %ebp\n mov $0x100c, %r12d\n mov $0x100d, %r13d\n"
    "  mov $0x100e, %r14d\n mov $0x100f, %r15d\n"
    "  stc\n std\n"
    "  syscall\n"
    "  pushfq\n cld\n xchg %rax, 8(%rsp)\n"  // the result stays where the pointer was
    "  mov %rbx, (%rax)\n mov %rbp, 8(%rax)\n mov %r12, 16(%rax)\n mov %r13, 24(%rax)\n"
    "  mov %r14, 32(%rax)\n mov %r15, 40(%rax)\n mov %rdi, 48(%rax)\n mov %rsi, 56(%rax)\n"
    "  mov %rdx, 64(%rax)\n mov %r10, 72(%rax)\n mov %r8, 80(%rax)\n mov %r9, 88(%rax)\n"
    "  pop %rcx\n mov %rcx, 96(%rax)\n pop %rax\n"
    "  pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");
extern long registers_over_call(const uint64_t call[7], uint64_t out[13]);

static uint8_t flag;
static atomic_int ready;
static atomic_long loops;

static void* Spinner(void* seed) {
  atomic_fetch_add(&ready, 1);
  RunVectors((unsigned)(long)seed, (struct VectorCall){kSpin, {(uintptr_t)&flag}},
             "spinning thread");
  return NULL;
}

// Keeps values in all callee-saved registers and counts; a wrong one ends in a wrong sum.
static void* Sums(void* unused) {
  (void)unused;
  atomic_fetch_add(&ready, 1);
  while (!__atomic_load_n(&flag, __ATOMIC_RELAXED)) {
    uint64_t a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8;
    for (int i = 0; i < 5000; i++) {
      __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f), "+r"(g), "+r"(h));
      a += b, b += c, c += d, d += e, e += f, f += g, g += h, h += 1;
    }
    static uint64_t expected;
    uint64_t sum = a ^ b ^ c ^ d ^ e ^ f ^ g ^ h, none = 0;
    __atomic_compare_exchange_n(&expected, &none, sum, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    CHECK_EQ(sum, expected);
    atomic_fetch_add(&loops, 1);
  }
  return NULL;
}

static void CheckRegisters(void) {
  // Natively a call that fails as the hypercall does.
  uint64_t call[7] = {0, 0, 0, 0, 0, 0, GuestSnapshotWanted() ? HC_snapshot : 0x4b4dff};
  uint64_t out[13] = {0};
  long result = registers_over_call(call, out);
  if (result != 1 && result != -ENOSYS) FAIL("the call returned %ld", result);
  static const uint64_t kExpected[6] = {0x1001, 0x1002, 0x100c, 0x100d, 0x100e, 0x100f};
  static const char* const kNames[] = {"rbx", "rbp", "r12", "r13", "r14", "r15",
                                       "rdi", "rsi", "rdx", "r10", "r8",  "r9"};
  for (int i = 0; i < 12; i++) {
    uint64_t expected = i < 6 ? kExpected[i] : 0;
    if (out[i] != expected) {
      FAIL("%s is 0x%llx after the call, expected 0x%llx", kNames[i], (long long)out[i],
           (long long)expected);
    }
  }
  CHECK_EQ(out[12] & 0x401, 0x401);  // carry and direction
  Say("general registers");
}

int main(void) {
  pthread_t threads[4];
  for (long i = 0; i < 4; i++)
    threads[i] = StartThread(i % 2 ? Spinner : Sums, (void*)(i * 13 + 1));
  AwaitAtLeast(&ready, 4);
  CheckRegisters();
  for (unsigned round = 0; round < 3; round++) {
    struct VectorCall call = {.number = GuestSnapshotWanted() ? HC_snapshot : 0x4b4dff};
    long result = RunVectors(round * 17 + 3, call, "over the snapshot");
    if (result != 1 && result != -ENOSYS) FAIL("the call returned %ld", result);
    long before = atomic_load(&loops);
    while (atomic_load(&loops) < before + 2) SleepMs(1);
  }
  Say("vector registers");
  __atomic_store_n(&flag, 1, __ATOMIC_SEQ_CST);
  for (int i = 0; i < 4; i++) JoinThread(threads[i]);
  Say("other threads");
  return 0;
}
