// variants: dynamic static musl
// mprotect: every combination of rights, checked by accesses; exact si_code and si_addr.
#include "tests/guest/fault.h"

// PROT_EXEC alone: the kernel keeps such memory from being read where the processor has protection
// keys (mprotect(2), pkeys(7)), and cannot where it has none. Which it is, the first page tells.
static int execute_only_is_readable = -1;

static void CheckRights(uint8_t* page, int rights, int value) {
  long call = TryCall(page), read = TryRead(page);
  // PROT_WRITE allows reading too, on every x86.
  bool readable = rights != PROT_NONE;
  if (rights == PROT_EXEC) {
    if (execute_only_is_readable < 0) execute_only_is_readable = read == 0xb8;
    readable = execute_only_is_readable;
  }
  if ((call == value) != ((rights & PROT_EXEC) != 0)) {
    FAIL("rights %d: executing gave %ld, expected %s", rights, call,
         rights & PROT_EXEC ? "the code's result" : "a fault");
  }
  if ((read == 0xb8) != readable) FAIL("rights %d: reading gave %ld", rights, read);
  long write = TryWrite(page + 100, 0x5a);
  if ((write == 0) != ((rights & PROT_WRITE) != 0))
    FAIL("rights %d: write gave %ld", rights, write);
  if (!(rights & PROT_EXEC)) CHECK_FAULT(TryCall(page), SIGSEGV, SEGV_ACCERR, page);
  // What the key forbids, the processor says first.
  int code = rights == PROT_EXEC && !readable ? SEGV_PKUERR : SEGV_ACCERR;
  if (!readable) CHECK_FAULT(TryRead(page + 17), SIGSEGV, code, page + 17);
  if (!(rights & PROT_WRITE)) {
    CHECK_FAULT(TryWrite(page + 4095, 0), SIGSEGV, code, page + 4095);
  }
}

// Every change from one set of rights to another.
static void Table(uint8_t* page, bool write_exec, const char* what) {
  for (int from = 0; from < 8; from++) {
    for (int to = 0; to < 8; to++) {
      if (!write_exec && ((from & 6) == 6 || (to & 6) == 6)) continue;
      CHECK_OK(mprotect(page, kPage, PROT_READ | PROT_WRITE));
      PutCode(page, from * 8 + to);
      CHECK_OK(mprotect(page, kPage, from));
      CheckRights(page, from, from * 8 + to);
      CHECK_OK(mprotect(page, kPage, to));
      CheckRights(page, to, from * 8 + to);
    }
  }
  Say("%s", what);
}

int main(void) {
  CatchFaults();
  uint8_t* area = MapAnonymous(7 * kPage, PROT_READ | PROT_WRITE);
  Table(area + kPage, true, "anonymous");
  int fd = PatternFile("file", kPage);
  uint8_t* private_map = mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  CHECK_OK(private_map);
  Table(private_map, true, "private file");
  uint8_t* shared_map = mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK_OK(shared_map);
  Table(shared_map, true, "shared file");

  // A range over several mappings, splitting and joining them.
  CHECK_OK(mprotect(area, 7 * kPage, PROT_READ | PROT_WRITE));
  for (int i = 0; i < 7; i++) PutCode(area + i * kPage, i);
  CHECK_OK(mprotect(area + 2 * kPage, 2 * kPage, PROT_READ));
  CHECK_OK(mprotect(area + 3 * kPage, 2 * kPage, PROT_NONE));
  CHECK_OK(mprotect(area + 5 * kPage, 1, PROT_READ | PROT_EXEC));  // rounded up
  for (int round = 0; round < 2; round++) {
    CheckRights(area + kPage, PROT_READ | PROT_WRITE, 1);
    CheckRights(area + 2 * kPage, PROT_READ, 2);
    CheckRights(area + 3 * kPage, PROT_NONE, 3);
    CheckRights(area + 4 * kPage, PROT_NONE, 4);
    CheckRights(area + 5 * kPage, PROT_READ | PROT_EXEC, 5);
    CheckRights(area + 6 * kPage, PROT_READ | PROT_WRITE, 6);
    if (round == 0) GuestSnapshot();
  }
  Say("split");

  CHECK_ERRNO(syscall(SYS_mprotect, area + 1, kPage, PROT_READ), EINVAL);  // musl rounds
  CHECK_ZERO(mprotect(area, 0, PROT_NONE));
  CHECK_OK(munmap(area + 4 * kPage, kPage));
  // What stands before a hole is changed all the same.
  CHECK_ERRNO(mprotect(area + 2 * kPage, 4 * kPage, PROT_READ | PROT_WRITE), ENOMEM);
  CHECK_EQ(TryWrite(area + 3 * kPage + 200, 1), 0);
  CHECK_FAULT(TryRead(area + 4 * kPage), SIGSEGV, SEGV_MAPERR, area + 4 * kPage);
  CHECK_FAULT(TryCall(area + 4 * kPage), SIGSEGV, SEGV_MAPERR, area + 4 * kPage);
  CHECK_FAULT(TryRead(NULL), SIGSEGV, SEGV_MAPERR, 0);
  CHECK_FAULT(TryRead((void*)0x10), SIGSEGV, SEGV_MAPERR, 0x10);
  CHECK_FAULT(TryCall((void*)0x30), SIGSEGV, SEGV_MAPERR, 0x30);
  // Program text is not writable, constants are neither writable nor executable.
  static const uint8_t kConstant[64] = {0xc3};
  uint8_t* text = (uint8_t*)(uintptr_t)main;
  CHECK_FAULT(TryWrite(text, 0), SIGSEGV, SEGV_ACCERR, text);
  CHECK_FAULT(TryWrite((uint8_t*)kConstant, 0), SIGSEGV, SEGV_ACCERR, kConstant);
  CHECK_FAULT(TryCall(kConstant), SIGSEGV, SEGV_ACCERR, kConstant);
  uint8_t stack[64] = {0xc3};
  CHECK_FAULT(TryCall(stack), SIGSEGV, SEGV_ACCERR, stack);
  Say("faults");
  return 0;
}
