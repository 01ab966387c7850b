// variants: dynamic static musl
// One `syscall` instruction executed very often, by several threads at once: registers as Linux
// leaves them every time. The monitor may replace the instruction meanwhile; a snapshot holds the
// original.
#include <ucontext.h>

#include "tests/guest/guest.h"

// getppid by a `syscall` of its own, at a known place; what it left in rcx and r11.
extern const unsigned char hot_call[];
asm(".text\n"
    ".p2align 6\n"
    "hot:\n"
    "  mov $110, %eax\n"
    "hot_call:\n"
    "  syscall\n"
    "  mov %rcx, (%rdi)\n"
    "  mov %r11, (%rsi)\n"
    "  ret\n"
    // The same with the instruction in two cache lines.
    ".p2align 6\n"
    "  .fill 58, 1, 0x90\n"
    "split:\n"
    "  mov $110, %eax\n"
    "  syscall\n"
    "  mov %rcx, (%rdi)\n"
    "  mov %r11, (%rsi)\n"
    "  ret\n"
    "own_out:\n"
    "  out %al, $0x7e\n"
    "  ret\n");
long hot(unsigned long* rcx, unsigned long* r11);
long split(unsigned long* rcx, unsigned long* r11);
void own_out(void);

static void Call(int count, long parent) {
  for (int i = 0; i < count; i++) {
    unsigned long rcx = 0, r11 = 0;
    long result = hot(&rcx, &r11);
    if (!GuestInjected()) CHECK_EQ(result, parent);  // whoever resumes it
    CHECK_EQ(rcx, (unsigned long)hot_call + 2);
    CHECK_EQ(r11 & 0x202, 0x202);
    result = split(&rcx, &r11);
    if (!GuestInjected()) CHECK_EQ(result, parent);
    CHECK_EQ(r11 & 0x202, 0x202);
  }
}

// Code whose page changes its rights, and moves, while another thread executes it.
static volatile bool stop;
static long (*volatile moving)(void);

static void* Caller(void* parent) {
  while (!stop) {
    long result = moving();
    if (!GuestInjected()) CHECK_EQ(result, (long)parent);
  }
  return NULL;
}

static void Change(long parent) {
  static const unsigned char code[] = {0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3};  // getppid
  unsigned char* page = MapAnonymous(kPage, PROT_READ | PROT_WRITE);
  memcpy(page, code, sizeof code);
  CHECK_OK(mprotect(page, kPage, PROT_READ | PROT_EXEC));
  moving = (long (*)(void))(uintptr_t)page;
  pthread_t thread = StartThread(Caller, (void*)parent);
  for (int round = 0; round < 10; round++) {
    for (int i = 0; i < 40; i++) moving();
    CHECK_OK(mprotect(page, kPage, PROT_READ | PROT_WRITE | PROT_EXEC));
    CHECK_ZERO(memcmp(page, code, sizeof code));
    moving();
    CHECK_OK(mprotect(page, kPage, PROT_READ | PROT_EXEC));
  }
  for (int i = 0; i < 40; i++) moving();
  CHECK_OK(mprotect(page, kPage, PROT_READ | PROT_WRITE | PROT_EXEC));
  stop = true;
  JoinThread(thread);
  GuestSnapshot();
  if (GuestSnapshotWanted()) parent = syscall(SYS_getppid);
  for (int i = 0; i < 40; i++) {
    long result = moving();
    if (!GuestInjected()) CHECK_EQ(result, parent);
  }
  CHECK_OK(mprotect(page, kPage, PROT_READ | PROT_EXEC));
  for (int i = 0; i < 40; i++) moving();
  unsigned char* there =
      mremap(page, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, MapAnonymous(2 * kPage, PROT_READ));
  CHECK_OK(there);
  CHECK_ZERO(memcmp(there, code, sizeof code));
  moving = (long (*)(void))(uintptr_t)there;
  for (int i = 0; i < 40; i++) moving();
}

static void* Body(void* parent) {
  Call(200, (long)parent);
  return NULL;
}

static void OnFault(int sig, siginfo_t* info, void* context) {
  ucontext_t* where = context;
  Say("signal %d, code %d", sig, info->si_code);
  CHECK_EQ(where->uc_mcontext.gregs[REG_RIP], (long)own_out);
  where->uc_mcontext.gregs[REG_RIP] += 2;
}

int main(void) {
  long parent = syscall(SYS_getppid);
  for (int round = 0; round < 3; round++) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) threads[i] = StartThread(Body, (void*)parent);
    Call(50, parent);
    for (int i = 0; i < 4; i++) JoinThread(threads[i]);
    GuestSnapshot();
    if (GuestSnapshotWanted()) {
      CHECK_EQ(hot_call[0], 0x0f);
      CHECK_EQ(hot_call[1], 0x05);
      parent = syscall(SYS_getppid);
    }
  }
  struct sigaction action = {.sa_sigaction = OnFault, .sa_flags = SA_SIGINFO};
  CHECK_OK(sigaction(SIGSEGV, &action, NULL));
  own_out();
  Change(parent);
  Say("done");
  return 0;
}
