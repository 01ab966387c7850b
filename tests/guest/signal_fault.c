// Synchronous faults: signal, si_code, si_addr, rip, trap number of each, caught and stepped over.
#include <ucontext.h>

#include "tests/guest/guest.h"

struct Seen {
  int calls, number, code;
  uintptr_t address, rip;
  long trap, error;
};
static volatile struct Seen seen;
static volatile uintptr_t resume_at;

static void Handler(int number, siginfo_t* info, void* context) {
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  seen.calls++;
  seen.number = number;
  seen.code = info->si_code;
  seen.address = (uintptr_t)info->si_addr;
  seen.rip = (uintptr_t)registers[REG_RIP];
  seen.trap = registers[REG_TRAPNO];
  seen.error = registers[REG_ERR];
  registers[REG_RIP] = (greg_t)resume_at;
}

// Defines NAME(argument): the argument is in rdi, NAME_at is the faulting instruction, and the
// handler goes on at NAME_end.
#define FAULTING(name, before, instruction, after)                                             \
  __asm__(".text\n" #name ": " before "\n" #name "_at: " instruction "\n" #name "_end: " after \
          "\n ret\n");                                                                         \
  extern void name(volatile const void*);                                                      \
  extern char name##_at[], name##_end[]

FAULTING(Divide, "xor %edx, %edx\n mov $1, %eax\n mov %edx, %ecx", "div %ecx", "");
FAULTING(DivideSse, "ldmxcsr (%rdi)\n cvtsi2ss %edi, %xmm1\n xorps %xmm0, %xmm0",
         "divss %xmm0, %xmm1", "ldmxcsr 4(%rdi)");
FAULTING(InvalidSse, "ldmxcsr (%rdi)\n xorps %xmm0, %xmm0\n xorps %xmm1, %xmm1",
         "divss %xmm0, %xmm1", "ldmxcsr 4(%rdi)");
// x87 reports at the next waiting instruction.
FAULTING(DivideX87, "fninit\n fldcw (%rdi)\n fld1\n fldz\n fdivrp %st, %st(1)", "fwait", "fninit");
FAULTING(Undefined, "", "ud2", "");
FAULTING(Halt, "", "hlt", "");
FAULTING(ControlRegister, "", "mov %cr3, %rax", "");
FAULTING(DisableInterrupts, "", "cli", "");
FAULTING(Interrupt42, "", "int $0x42", "");
FAULTING(Output, "", "out %al, $0x80", "");
FAULTING(Input, "mov $0x60, %edx", "in (%dx), %al", "");
FAULTING(ModelSpecific, "mov $0x10, %ecx", "rdmsr", "");
FAULTING(Breakpoint, "", "int3", "");
FAULTING(Read, "", "movb (%rdi), %al", "");
FAULTING(ReadEight, "", "movq (%rdi), %rax", "");
FAULTING(Write, "", "movb $1, (%rdi)", "");
FAULTING(ReadAligned, "", "movaps (%rdi), %xmm0", "");
FAULTING(ReadStack, "mov %rsp, %rax\n mov %rdi, %rsp", "pop %rcx", "mov %rax, %rsp");
FAULTING(Call, "", "call *%rdi", "add $8, %rsp");

static void Expect(const char* what, int number, int code, uintptr_t address, uintptr_t rip,
                   int trap) {
  if (seen.calls != 1 || seen.number != number || seen.code != code || seen.address != address ||
      seen.rip != rip || seen.trap != trap) {
    FAIL(
        "%s: %d signals, the last %d code %d address 0x%lx rip 0x%lx trap %ld, expected 1, %d code "
        "%d "
        "address 0x%lx rip 0x%lx trap %d",
        what, seen.calls, seen.number, seen.code, seen.address, seen.rip, seen.trap, number, code,
        address, rip, trap);
  }
}

#define RUN(name, argument, number, code, address, rip, trap)                  \
  do {                                                                         \
    seen.calls = 0;                                                            \
    resume_at = (uintptr_t)name##_end;                                         \
    name((volatile const void*)(uintptr_t)(argument));                         \
    Expect(#name, number, code, (uintptr_t)(address), (uintptr_t)(rip), trap); \
  } while (0)

static void Arithmetic(void) {
  unsigned mxcsr[2] = {0x1f80 & ~0x280u,
                       0x1f80};         // divide by zero and invalid unmasked; the default
  unsigned short control = 0x37f & ~4;  // x87 divide by zero unmasked
  RUN(Divide, 0, SIGFPE, FPE_INTDIV, Divide_at, Divide_at, 0);
  if (!GuestEmulated()) RUN(DivideSse, mxcsr, SIGFPE, FPE_FLTDIV, DivideSse_at, DivideSse_at, 19);
  if (!GuestEmulated())
    RUN(InvalidSse, mxcsr, SIGFPE, FPE_FLTINV, InvalidSse_at, InvalidSse_at, 19);
  RUN(DivideX87, &control, SIGFPE, FPE_FLTDIV, seen.address, DivideX87_at, 16);
  Say("arithmetic");
}

static void Instructions(void) {
  RUN(Undefined, 0, SIGILL, ILL_ILLOPN, Undefined_at, Undefined_at, 6);
  RUN(Halt, 0, SIGSEGV, SI_KERNEL, 0, Halt_at, 13);
  RUN(ControlRegister, 0, SIGSEGV, SI_KERNEL, 0, ControlRegister_at, 13);
  RUN(DisableInterrupts, 0, SIGSEGV, SI_KERNEL, 0, DisableInterrupts_at, 13);
  RUN(Interrupt42, 0, SIGSEGV, SI_KERNEL, 0, Interrupt42_at, 13);
  RUN(Output, 0, SIGSEGV, SI_KERNEL, 0, Output_at, 13);
  RUN(Input, 0, SIGSEGV, SI_KERNEL, 0, Input_at, 13);
  RUN(ModelSpecific, 0, SIGSEGV, SI_KERNEL, 0, ModelSpecific_at, 13);
  RUN(Breakpoint, 0, SIGTRAP, SI_KERNEL, 0, Breakpoint_at + 1, 3);
  Say("instructions");
}

static void Addresses(void) {
  uint8_t* none = MapAnonymous(kPage, PROT_NONE);
  uint8_t* readable = MapAnonymous(kPage, PROT_READ);
  uint8_t* edge = MapAnonymous(2 * kPage, PROT_READ) + kPage;
  CHECK_OK(munmap(edge, kPage));
  RUN(Read, none + 5, SIGSEGV, SEGV_ACCERR, none + 5, Read_at, 14);
  CHECK_EQ(seen.error & 0x16, 4);  // user, a read
  RUN(Write, readable + 6, SIGSEGV, SEGV_ACCERR, readable + 6, Write_at, 14);
  CHECK_EQ(seen.error & 0x16, 6);  // user, a write
  // The address is the first byte that is missing.
  RUN(ReadEight, edge - 3, SIGSEGV, SEGV_MAPERR, edge, ReadEight_at, 14);
  RUN(Read, 0x1234567812345678, SIGSEGV, SI_KERNEL, 0, Read_at, 13);  // not canonical
  RUN(Read, 0xffff800000001000, SIGSEGV, SEGV_MAPERR, 0xffff800000001000, Read_at, 14);
  RUN(Read, 0x600000000000, SIGSEGV, SEGV_MAPERR, 0x600000000000, Read_at, 14);
  RUN(ReadAligned, readable + 1, SIGSEGV, SI_KERNEL, 0, ReadAligned_at, 13);
  RUN(Call, none, SIGSEGV, SEGV_ACCERR, none, none, 14);
  CHECK_EQ(seen.error & 0x16, 0x14);  // user, a fetch
  RUN(Call, edge, SIGSEGV, SEGV_MAPERR, edge, edge, 14);
  RUN(Call, readable, SIGSEGV, SEGV_ACCERR, readable, readable, 14);
  Say("addresses");
}

// With the stack pointer itself bad, the handler needs a stack of its own.
static void BadStack(void) {
  stack_t stack = {.ss_sp = MapAnonymous(16 * kPage, PROT_READ | PROT_WRITE),
                   .ss_size = 16 * kPage};
  CHECK_OK(sigaltstack(&stack, NULL));
  OnSignal(SIGSEGV, Handler, SA_ONSTACK);
  OnSignal(SIGBUS, Handler, SA_ONSTACK);
  RUN(ReadStack, 0x40, SIGSEGV, SEGV_MAPERR, 0x40, ReadStack_at, 14);
  // Through RSP a non-canonical address is a stack fault (#SS), and that is SIGBUS.
  if (!GuestEmulated()) RUN(ReadStack, 0x1234567812345678, SIGBUS, SI_KERNEL, 0, ReadStack_at, 12);
  Say("stack");
}

int main(void) {
  int numbers[] = {SIGFPE, SIGILL, SIGSEGV, SIGTRAP, SIGBUS};
  for (int i = 0; i < 5; i++) OnSignal(numbers[i], Handler, 0);
  Arithmetic();
  Instructions();
  GuestSnapshot();
  Instructions();
  Addresses();
  BadStack();
  return 0;
}
