// The 128 bytes below RSP belong to the program: no signal, system call or fault touches them.
#include "tests/guest/fault.h"

static volatile int calls;
static pthread_t target;
static atomic_bool stop;

static void Handler(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  calls++;
}

// Fills the red zone, makes `what` happen (0 nothing, 1 system calls, 2 page faults at `pages`),
// verifies it, `rounds` times. Returns 0, or the offset below RSP of the first changed word.
__asm__(
    ".text\n"
    "red_zone_loop: push %rbx\n mov %rdx, %rbx\n"
    "1: mov $16, %ecx\n mov $0x0123456789abcdef, %r8\n"
    "2: lea (%r8,%rcx), %rax\n neg %rcx\n mov %rax, (%rsp,%rcx,8)\n neg %rcx\n dec %ecx\n jnz 2b\n"
    "  cmp $1, %rsi\n jne 3f\n"
    "  mov $110, %eax\n syscall\n"
    "3: cmp $2, %rsi\n jne 4f\n"
    "  incb (%rbx)\n add $4096, %rbx\n"
    "4: .rept 32\n nop\n .endr\n"
    "  mov $16, %ecx\n mov $0x0123456789abcdef, %r8\n"
    "5: lea (%r8,%rcx), %rax\n neg %rcx\n cmp %rax, (%rsp,%rcx,8)\n jne 9f\n neg %rcx\n dec %ecx\n "
    "jnz 5b\n"
    "  dec %rdi\n jnz 1b\n"
    "  xor %eax, %eax\n pop %rbx\n ret\n"
    "9: lea (,%rcx,8), %rax\n pop %rbx\n ret\n");
extern long red_zone_loop(uint64_t rounds, uint64_t what, uint8_t* pages);

static void* Sender(void* unused) {
  (void)unused;
  while (!atomic_load(&stop)) {
    int before = calls;
    pthread_kill(target, SIGUSR1);
    // One after the other: a target that is slower than the sender would do nothing but handle.
    while (calls == before && !atomic_load(&stop)) __builtin_ia32_pause();
    for (int i = 0; i < 300; i++) __builtin_ia32_pause();
  }
  return NULL;
}

int main(void) {
  enum { kPages = 200 };
  static const char* const kNames[3] = {"user code", "system calls", "page faults"};
  static const uint64_t kRounds[3] = {5000, 300, kPages};
  target = pthread_self();
  OnSignal(SIGUSR1, Handler, 0);
  uint8_t* pages = MapAnonymous(kPages * kPage, PROT_READ | PROT_WRITE);
  for (uint64_t what = 0; what < 3; what++) {
    calls = 0;
    atomic_store(&stop, false);
    pthread_t sender = StartThread(Sender, NULL);
    int64_t end = NowNs(CLOCK_MONOTONIC) + 1000000000;
    for (int round = 0; (calls < 2000 && NowNs(CLOCK_MONOTONIC) < end) || round < 10; round++) {
      CHECK_OK(madvise(pages, kPages * kPage, MADV_DONTNEED));
      long offset = red_zone_loop(kRounds[what], what, pages);
      if (offset != 0)
        FAIL("%s: the red zone changed at rsp%ld after %d signals", kNames[what], offset, calls);
      if (round == 5) GuestSnapshot();
    }
    atomic_store(&stop, true);
    JoinThread(sender);
    Say("%s", kNames[what]);
  }
  return 0;
}
