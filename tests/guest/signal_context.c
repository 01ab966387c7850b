// The signal frame: every register in ucontext, changes to it take effect, RCX and R11 included;
// mask, flags, stack, extended state with its magic; frames laid out as the kernel does.
#include <ucontext.h>

#include "tests/guest/guest.h"

enum { kRegisters = 15 };
// In the order of ucontext's gregs: r8..r15, rdi, rsi, rbp, rbx, rdx, rax, rcx.
// Not static: the assembly below uses them, and the compiler must not guess their values.
uint64_t loaded[kRegisters], stored[kRegisters], saved_rsp, flags_after;
static uint64_t replacement[kRegisters];
static volatile int mode, calls;
static volatile uint64_t wrong_index = 99, seen_value;

// Loads all registers, raises the signal by `ud2`, stores them all.
__asm__(
    ".text\n"
    "registers_test: push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
    "  mov %rsp, saved_rsp(%rip)\n"
    "  lea loaded(%rip), %rax\n"
    "  mov (%rax), %r8\n mov 8(%rax), %r9\n mov 16(%rax), %r10\n mov 24(%rax), %r11\n"
    "  mov 32(%rax), %r12\n mov 40(%rax), %r13\n mov 48(%rax), %r14\n mov 56(%rax), %r15\n"
    "  mov 64(%rax), %rdi\n mov 72(%rax), %rsi\n mov 80(%rax), %rbp\n mov 88(%rax), %rbx\n"
    "  mov 96(%rax), %rdx\n mov 112(%rax), %rcx\n mov 104(%rax), %rax\n"
    "registers_at: ud2\n"
    "registers_end: mov %rax, stored+104(%rip)\n"
    "  pushfq\n pop %rax\n mov %rax, flags_after(%rip)\n"
    "  lea stored(%rip), %rax\n"
    "  mov %r8, (%rax)\n mov %r9, 8(%rax)\n mov %r10, 16(%rax)\n mov %r11, 24(%rax)\n"
    "  mov %r12, 32(%rax)\n mov %r13, 40(%rax)\n mov %r14, 48(%rax)\n mov %r15, 56(%rax)\n"
    "  mov %rdi, 64(%rax)\n mov %rsi, 72(%rax)\n mov %rbp, 80(%rax)\n mov %rbx, 88(%rax)\n"
    "  mov %rdx, 96(%rax)\n mov %rcx, 112(%rax)\n"
    "  cld\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");
extern void registers_test(void);
extern char registers_at[], registers_end[];

struct SoftwareReserved {  // struct _fpx_sw_bytes, at the end of the 512-byte FXSAVE area
  uint32_t magic1, extended_size;
  uint64_t features;
  uint32_t state_size;
};

static void CheckExtendedState(ucontext_t* context) {
  CHECK(context->uc_mcontext.fpregs != NULL);
  uint8_t* state = (uint8_t*)context->uc_mcontext.fpregs;
  CHECK_EQ((uintptr_t)state % 64, 0);
  struct SoftwareReserved reserved;
  memcpy(&reserved, state + 464, sizeof reserved);
  if (!(context->uc_flags & 1)) return;  // UC_FP_XSTATE: no XSAVE on this machine
  CHECK_EQ(reserved.magic1, 0x46505853);
  CHECK(reserved.state_size >= 576);
  CHECK_EQ(reserved.extended_size, reserved.state_size + 4);
  uint32_t magic2;
  memcpy(&magic2, state + reserved.state_size, 4);
  CHECK_EQ(magic2, 0x46505845);
  CHECK_EQ(reserved.features & 3, 3);
}

static void Handler(int number, siginfo_t* info, void* context_pointer) {
  ucontext_t* context = context_pointer;
  greg_t* registers = context->uc_mcontext.gregs;
  calls++;
  CHECK_EQ(number, SIGILL);
  CHECK_EQ((uintptr_t)info->si_addr, (uintptr_t)registers_at);
  CHECK_EQ(registers[REG_RIP], (uintptr_t)registers_at);
  CHECK_EQ(registers[REG_RSP], saved_rsp);
  for (int i = 0; i < kRegisters; i++) {
    if ((uint64_t)registers[i] != loaded[i] && wrong_index == 99) {
      wrong_index = (uint64_t)i;
      seen_value = (uint64_t)registers[i];
    }
  }
  CHECK_EQ(registers[REG_CSGSFS] & 0xffff, 0x33);
  CheckExtendedState(context);
  // The frame: return address (the restorer), ucontext, siginfo; the stack is aligned as at a call,
  // and the interrupted function's red zone lies between.
  uintptr_t frame = (uintptr_t)context - 8;
  CHECK_EQ((frame + 8) % 16, 0);
  CHECK_EQ((uintptr_t)info - (uintptr_t)context, 304);  // sizeof the kernel's struct ucontext
  CHECK(saved_rsp - (uintptr_t)context->uc_mcontext.fpregs >= 128 + 512);
  CHECK((uintptr_t)context->uc_mcontext.fpregs > (uintptr_t)info);
  if (mode == 1) {
    for (int i = 0; i < kRegisters; i++) registers[i] = (greg_t)replacement[i];
    registers[REG_EFL] |= 0x401 | 0x3000;  // DF, CF; IOPL must be ignored
  }
  registers[REG_RIP] = (greg_t)(uintptr_t)registers_end;
}

static void Compare(const uint64_t* expected, const char* when) {
  if (wrong_index != 99) {
    FAIL("%s: register %d in ucontext is 0x%llx, expected 0x%llx", when, (int)wrong_index,
         (long long)seen_value, (long long)loaded[wrong_index]);
  }
  for (int i = 0; i < kRegisters; i++) {
    if (stored[i] != expected[i]) {
      FAIL("%s: register %d is 0x%llx after the handler, expected 0x%llx", when, i,
           (long long)stored[i], (long long)expected[i]);
    }
  }
}

// A handler that masks signals through the frame, and one that moves to another function.
static volatile int moved;
static void Moved(void) {
  moved = 1;
  pthread_exit(NULL);
}
static void ChangeMask(int number, siginfo_t* info, void* context_pointer) {
  (void)info;
  ucontext_t* context = context_pointer;
  CHECK_EQ(sigismember(&context->uc_sigmask, SIGHUP), 1);
  CHECK_EQ(sigismember(&context->uc_sigmask, number), 0);
  sigaddset(&context->uc_sigmask, SIGTERM);
  sigaddset(&context->uc_sigmask, SIGRTMAX);
}
static void Move(int number, siginfo_t* info, void* context_pointer) {
  (void)number;
  (void)info;
  greg_t* registers = ((ucontext_t*)context_pointer)->uc_mcontext.gregs;
  registers[REG_RIP] = (greg_t)(uintptr_t)Moved;
  registers[REG_RSP] = (registers[REG_RSP] & -16) - 1024 - 8;
}
static void* MoveThread(void* unused) {
  (void)unused;
  raise(SIGUSR2);
  FAIL("the handler's new rip was not taken");
}

// RFLAGS.DF is clear in a handler and set again afterwards.
static volatile unsigned long handler_flags;
static void NoteFlags(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  ((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP] += 2;  // over the ud2
  handler_flags = __builtin_ia32_readeflags_u64();
}

int main(void) {
  OnSignal(SIGILL, Handler, 0);
  for (int i = 0; i < kRegisters; i++) {
    loaded[i] = 0x1111111111111111ull * (unsigned)(i + 1) ^ 0x8000000000000000ull;
    replacement[i] = ~loaded[i] + 5;
  }
  for (int round = 0; round < 2; round++) {
    mode = 0;
    registers_test();
    Compare(loaded, "unchanged");
    mode = 1;
    registers_test();
    Compare(replacement, "replaced");
    CHECK_EQ(flags_after & 0x401, 0x401);
    CHECK_EQ(flags_after & 0x3000, 0);
    if (round == 0) GuestSnapshot();
  }
  CHECK_EQ(calls, 4);
  Say("registers");

  BlockSignals(SIGHUP, 0);
  OnSignal(SIGUSR1, ChangeMask, 0);
  raise(SIGUSR1);
  sigset_t now;
  CHECK_OK(sigprocmask(SIG_BLOCK, NULL, &now));
  CHECK_EQ(sigismember(&now, SIGTERM), 1);
  CHECK_EQ(sigismember(&now, SIGRTMAX), 1);
  CHECK_EQ(sigismember(&now, SIGHUP), 1);
  UnblockSignals(SIGTERM, SIGRTMAX);
  OnSignal(SIGUSR2, Move, 0);
  JoinThread(StartThread(MoveThread, NULL));
  CHECK_EQ(moved, 1);
  Say("mask and rip");

  OnSignal(SIGILL, NoteFlags, 0);
  unsigned long after;
  __asm__ volatile("sub $128, %%rsp\n std\n stc\n ud2\n pushfq\n cld\n pop %0\n add $128, %%rsp"
                   : "=&r"(after)::"cc", "memory");
  CHECK_EQ(handler_flags & 0x400, 0);
  CHECK_EQ(after & 0x401, 0x401);
  Say("flags");
  return 0;
}
