// What the processor told of a fault is in its handler's frame, also where the snapshot was asked
// for between the fault and the handler.
#include <ucontext.h>

#include "tests/guest/guest.h"

enum { kPageFault = 14, kUserRead = 4, kUserWrite = 6, kInvalidOpcode = 6 };

static uint8_t* nowhere;
static atomic_int faults;
static atomic_bool stop;

// The instruction is skipped; each is two bytes long.
static void OnFault(int number, siginfo_t* info, void* context) {
  greg_t* registers = ((ucontext_t*)context)->uc_mcontext.gregs;
  if (number == SIGILL) {
    CHECK_EQ(registers[REG_TRAPNO], kInvalidOpcode);
  } else {
    uint64_t address = (uint64_t)registers[REG_RDI];
    CHECK_EQ(registers[REG_TRAPNO], kPageFault);
    CHECK_EQ(registers[REG_ERR], address % 2 == 0 ? kUserRead : kUserWrite);
    CHECK_EQ(registers[REG_CR2], address);
    CHECK_EQ(info->si_addr, address);
  }
  registers[REG_RIP] += 2;
  faults++;
}

static void* Faulter(void* unused) {
  for (uint64_t i = 0; !atomic_load(&stop); i = (i + 2) % kPage) {
    __asm__ volatile("mov (%0), %%al" : : "D"(nowhere + i) : "rax");
    __asm__ volatile("mov %%al, (%0)" : : "D"(nowhere + i + 1));
    __asm__ volatile("ud2");
  }
  return unused;
}

int main(void) {
  nowhere = MapAnonymous(kPage, PROT_NONE);
  OnSignal(SIGSEGV, OnFault, 0);
  OnSignal(SIGILL, OnFault, 0);
  pthread_t threads[3];
  for (int i = 0; i < 3; i++) threads[i] = StartThread(Faulter, NULL);
  for (int i = 0; i < 8; i++) {
    int before = atomic_load(&faults);
    AwaitAtLeast(&faults, before + 50);
    GuestSnapshot();
  }
  atomic_store(&stop, true);
  for (int i = 0; i < 3; i++) JoinThread(threads[i]);
  Say("told of each");
  return 0;
}
