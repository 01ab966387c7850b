// Accesses that may fault: TryRead, TryWrite and TryCall do one access and report what became of
// it, with the signal's details in last_fault. Call CatchFaults() once first.
#ifndef TESTS_GUEST_FAULT_H_
#define TESTS_GUEST_FAULT_H_

#include <ucontext.h>

#include "tests/guest/guest.h"

struct FaultDetails {
  int signal, code;
  uintptr_t address;
};

static _Thread_local volatile struct FaultDetails last_fault;
static _Thread_local volatile uintptr_t call_target;

// Leaf functions: at the faulting instruction the return address is at RSP, so that the handler can
// return in their place with -1. No sigsetjmp: the access has to be cheap.
__asm__(
    ".text\n"
    "guest_try_read: movzbl (%rdi), %eax\n"
    "  ret\n"
    "guest_try_write: movb %sil, (%rdi)\n"
    "  xorl %eax, %eax\n"
    "  ret\n"
    "guest_try_call: jmp *%rdi\n");
extern long guest_try_read(const volatile void*);
extern long guest_try_write(volatile void*, uint8_t);
extern long guest_try_call(const volatile void*);

static void OnFault(int number, siginfo_t* info, void* context) {
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  uintptr_t rip = (uintptr_t)registers[REG_RIP];
  bool probing = rip == (uintptr_t)guest_try_read || rip == (uintptr_t)guest_try_write ||
                 (call_target != 0 && rip - call_target < 16);
  if (!probing) {
    FAIL("unexpected signal %d, si_code %d, si_addr %p, at rip 0x%lx", number, info->si_code,
         info->si_addr, (unsigned long)rip);
  }
  last_fault.signal = number;
  last_fault.code = info->si_code;
  last_fault.address = (uintptr_t)info->si_addr;
  registers[REG_RAX] = -1;
  registers[REG_RIP] = *(greg_t*)registers[REG_RSP];
  registers[REG_RSP] += 8;
}

__attribute__((unused)) static void CatchFaults(void) {
  OnSignal(SIGSEGV, OnFault, 0);
  OnSignal(SIGBUS, OnFault, 0);
}

// The byte there, or -1 after a fault.
__attribute__((unused)) static long TryRead(const volatile void* address) {
  return guest_try_read(address);
}

// 0, or -1 after a fault.
__attribute__((unused)) static long TryWrite(volatile void* address, uint8_t value) {
  return guest_try_write(address, value);
}

// What the code there (at most 16 bytes, no stack use) returns, or -1 after a fault.
__attribute__((unused)) static long TryCall(const volatile void* code) {
  call_target = (uintptr_t)code;
  long result = guest_try_call(code);
  call_target = 0;
  return result;
}

// Writes `mov $value, %eax; ret`.
__attribute__((unused)) static void PutCode(volatile uint8_t* address, int value) {
  address[0] = 0xb8;
  memcpy((void*)(address + 1), &value, sizeof value);
  address[5] = 0xc3;
}

// The access (a -1 from a Try* call) faulted with exactly this signal, code and address.
#define CHECK_FAULT(access, expected_signal, expected_code, expected_address)                  \
  do {                                                                                         \
    last_fault.signal = 0;                                                                     \
    long got_ = (access);                                                                      \
    if (got_ != -1) FAIL("%s gave %ld, expected a fault", #access, got_);                      \
    if (last_fault.signal != (expected_signal) || last_fault.code != (expected_code) ||        \
        last_fault.address != (uintptr_t)(expected_address))                                   \
      FAIL("%s: signal %d code %d address 0x%lx, expected %d (%s) code %d (%s) address 0x%lx", \
           #access, last_fault.signal, last_fault.code, (unsigned long)last_fault.address,     \
           expected_signal, #expected_signal, expected_code, #expected_code,                   \
           (unsigned long)(uintptr_t)(expected_address));                                      \
  } while (0)

#endif  // TESTS_GUEST_FAULT_H_
