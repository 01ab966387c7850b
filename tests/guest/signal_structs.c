// variants: dynamic static
// The whole siginfo of a signal from each origin, and what stands in its ucontext: every word, with
// ids, addresses and times as relations.
#include <stddef.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/ucontext.h>

#include "tests/guest/guest.h"

static siginfo_t seen;
static ucontext_t context;
static volatile sig_atomic_t count;
static uint8_t fpstate[4096];
static uint64_t expected_address;

// Steps over the instruction of `skip` bytes that faulted.
static volatile long skip;

static void Handler(int number, siginfo_t* info, void* data) {
  ucontext_t* from = data;
  CHECK_EQ(info->si_signo, number);
  memcpy(&seen, info, sizeof seen);
  memcpy(&context, from, offsetof(ucontext_t, uc_sigmask) + 8);
  if (from->uc_mcontext.fpregs != NULL) memcpy(fpstate, from->uc_mcontext.fpregs, 1024);
  from->uc_mcontext.gregs[REG_RIP] += skip;
  count = count + 1;
}

static void SayInfo(const char* what) {
  CHECK_EQ(count, 1);
  count = 0;
  printf("%s: signal %d errno %d code %d, pad %x,", what, seen.si_signo, seen.si_errno,
         seen.si_code, ((uint32_t*)&seen)[3]);
  for (size_t i = 4; i < sizeof seen / 4; i += 2) {
    uint32_t low = ((uint32_t*)&seen)[i], high = ((uint32_t*)&seen)[i + 1];
    uint64_t word = (uint64_t)high << 32 | low;
    if (i == 4 && low == (uint32_t)getpid() && high == getuid()) {
      printf(" own-pid-and-uid");
    } else if (i == 4 && expected_address != 0 && word == expected_address) {
      printf(" the-address");
    } else if (word != 0) {
      printf(" %zu:%lx", i, word);
    }
  }
  Say("%s", "");
  memset(&seen, 0x5a, sizeof seen);
}

// ---- From senders ----

static void Queue(int number, int code, const char* what) {
  siginfo_t info;
  for (size_t i = 0; i < sizeof info / 4; i++) ((uint32_t*)&info)[i] = 0x11110000u + (uint32_t)i;
  info.si_code = code;
  info.si_errno = 77;
  CHECK_OK(syscall(SYS_rt_sigqueueinfo, getpid(), number, &info));
  SayInfo(what);
}

static void Senders(void) {
  CHECK_OK(kill(getpid(), SIGUSR1));
  SayInfo("kill");
  CHECK_OK(syscall(SYS_tgkill, getpid(), OwnTid(), SIGUSR1));
  SayInfo("tgkill");
  CHECK_OK(syscall(SYS_tkill, OwnTid(), SIGRTMIN));
  SayInfo("tkill of a realtime signal");
  union sigval value = {.sival_ptr = (void*)0x1234567890abcdef};
  CHECK_OK(sigqueue(getpid(), SIGRTMIN + 1, value));
  SayInfo("sigqueue");
  Queue(SIGUSR2, SI_QUEUE, "rt_sigqueueinfo");
  Queue(SIGUSR2, SI_ASYNCIO, "rt_sigqueueinfo as SI_ASYNCIO");
  Queue(SIGUSR2, SI_USER, "rt_sigqueueinfo as SI_USER");
  Queue(SIGRTMIN, SI_KERNEL, "rt_sigqueueinfo as SI_KERNEL");
  Queue(SIGCHLD, CLD_EXITED, "rt_sigqueueinfo as CLD_EXITED");
  // Of a code that the kernel does not know it wants the rest to be empty.
  siginfo_t info = {.si_code = 1000};
  ((uint8_t*)&info)[47] = 1;
  CHECK_OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR2, &info));
  SayInfo("rt_sigqueueinfo of an unknown code");
  ((uint8_t*)&info)[48] = 1;
  CHECK_ERRNO(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR2, &info), E2BIG);
  info.si_code = -61;
  CHECK_ERRNO(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR2, &info), E2BIG);
}

// ---- From the kernel ----

static void FromCalls(void) {
  int ends[2];
  CHECK_OK(pipe(ends));
  close(ends[0]);
  CHECK_ERRNO(write(ends[1], "x", 1), EPIPE);
  SayInfo("write to a broken pipe");
  close(ends[1]);
  int fd = open("file", O_RDWR | O_CREAT, 0600);
  CHECK_OK(fd);
  struct rlimit old, limit;
  CHECK_OK(getrlimit(RLIMIT_FSIZE, &old));
  limit = old;
  limit.rlim_cur = 100;
  // The output may be a file, too: it is told after the limit is off.
  CHECK_OK(setrlimit(RLIMIT_FSIZE, &limit));
  CHECK_ERRNO(pwrite(fd, "x", 1, 200), EFBIG);
  CHECK_OK(setrlimit(RLIMIT_FSIZE, &old));
  SayInfo("write beyond RLIMIT_FSIZE");
  CHECK_OK(setrlimit(RLIMIT_FSIZE, &limit));
  CHECK_ERRNO(ftruncate(fd, 200), EFBIG);
  CHECK_OK(setrlimit(RLIMIT_FSIZE, &old));
  SayInfo("ftruncate beyond RLIMIT_FSIZE");
  CHECK_OK(setrlimit(RLIMIT_FSIZE, &limit));
  CHECK_ERRNO(fallocate(fd, 0, 0, 200), EFBIG);
  CHECK_OK(setrlimit(RLIMIT_FSIZE, &old));
  SayInfo("fallocate beyond RLIMIT_FSIZE");
  close(fd);
  struct itimerval soon = {{0, 0}, {0, 1000}};
  CHECK_OK(setitimer(ITIMER_REAL, &soon, NULL));
  while (count == 0) usleep(1000);
  SayInfo("setitimer");
}

static void Fault(const char* what, uint64_t address) {
  expected_address = address;
  SayInfo(what);
  mcontext_t* m = &context.uc_mcontext;
  bool memory = m->gregs[REG_TRAPNO] == 14;
  Say("  trap %lld error %llx cr2 %s", (long long)m->gregs[REG_TRAPNO],
      (long long)m->gregs[REG_ERR],
      !memory                                  ? "-"
      : (uint64_t)m->gregs[REG_CR2] == address ? "the address"
                                               : "another");
  expected_address = 0;
}

static void Faults(void) {
  uint8_t* page = MapAnonymous(kPage, PROT_READ);
  uint8_t* gone = MapAnonymous(kPage, PROT_READ);
  CHECK_OK(munmap(gone, kPage));
  skip = 2;
  // Touched, because the error code tells.
  asm volatile("movb (%0), %%al; movb %%al, (%0)" ::"r"(page + 5) : "al", "memory");
  Fault("write to a page that is read-only", (uint64_t)page + 5);
  asm volatile("movb (%0), %%al" ::"r"(gone + 7) : "al", "memory");
  Fault("read of what is not mapped", (uint64_t)gone + 7);
  asm volatile("movb (%0), %%al" ::"r"(0x8000000000000000ul) : "al", "memory");
  Fault("read of an address that is none", 0);
  asm volatile(
      "xor %%edx, %%edx; xor %%ecx, %%ecx; mov $1, %%eax\n.globl divide\ndivide: div %%ecx" ::
          : "eax", "ecx", "edx");
  extern char divide[];
  Fault("division by zero", (uint64_t)divide);
  asm volatile(".globl undefined\nundefined: ud2");
  extern char undefined[];
  Fault("undefined instruction", (uint64_t)undefined);
  skip = 1;
  asm volatile("hlt");
  Fault("privileged instruction", 0);
  skip = 0;
  asm volatile("int3");
  Fault("breakpoint", 0);
  int fd = open("file", O_RDWR);
  uint8_t* behind = mmap(NULL, 2 * kPage, PROT_READ, MAP_SHARED, fd, 0);
  CHECK_OK(behind);
  close(fd);
  skip = 2;
  asm volatile("movb (%0), %%al" ::"r"(behind + kPage + 3) : "al", "memory");
  Fault("read behind the end of a file", (uint64_t)behind + kPage + 3);
  skip = 0;
}

// ---- ucontext ----

static void Context(void) {
  stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536}, old;
  CHECK_OK(sigaltstack(&stack, &old));
  Say("alternate stack before: %p flags %x size %zu", old.ss_sp, old.ss_flags, old.ss_size);
  BlockSignals(SIGHUP, SIGRTMAX);
  CHECK_OK(raise(SIGUSR1));
  count = 0;
  mcontext_t* m = &context.uc_mcontext;
  Say("ucontext: flags %lx link %p", context.uc_flags, (void*)context.uc_link);
  Say("stack: %s flags %x size %zu", context.uc_stack.ss_sp == stack.ss_sp ? "the one" : "another",
      context.uc_stack.ss_flags, context.uc_stack.ss_size);
  Say("mask %lx old mask %llx", *(unsigned long*)&context.uc_sigmask,
      (long long)m->gregs[REG_OLDMASK]);
  Say("selectors %llx", (long long)m->gregs[REG_CSGSFS]);
  // Bits 8 to 21 but 9 may be what the caller's arithmetic left.
  Say("flags register: interrupts %lld, direction %lld", (long long)m->gregs[REG_EFL] >> 9 & 1,
      (long long)m->gregs[REG_EFL] >> 10 & 1);
  struct {
    uint32_t magic, extended_size;
    uint64_t features;
    uint32_t size, padding[7];
  }* software = (void*)(fpstate + 464);
  struct _libc_fpstate* legacy = (void*)fpstate;
  Say("fpstate: control %x status %x mxcsr %x mask %x magic %x", legacy->cwd, legacy->swd,
      legacy->mxcsr, legacy->mxcr_mask, software->magic);
  CHECK_EQ(software->extended_size, software->size + 4);
  for (int i = 0; i < 7; i++) CHECK_EQ(software->padding[i], 0);
  CHECK((software->features & 3) == 3);
  stack.ss_flags = SS_DISABLE;
  CHECK_OK(sigaltstack(&stack, &old));
  Say("alternate stack: %s flags %x size %zu",
      old.ss_sp == context.uc_stack.ss_sp ? "the one" : "no", old.ss_flags, old.ss_size);
}

static void Action(void) {
  struct {
    uint64_t handler, flags, restorer, mask;
  } old, set = {0x1234, 0xffffffffffffffff, 0x5678, ~0ul};
  CHECK_OK(syscall(SYS_rt_sigaction, SIGURG, &set, NULL, 8));
  CHECK_OK(syscall(SYS_rt_sigaction, SIGURG, NULL, &old, 8));
  Say("sigaction: handler %lx flags %lx restorer %lx mask %lx", old.handler, old.flags,
      old.restorer, old.mask);
  set.handler = 0;
  set.flags = 0x04000000;
  CHECK_OK(syscall(SYS_rt_sigaction, SIGURG, &set, &old, 8));
}

int main(void) {
  for (int number = 1; number <= SIGRTMIN + 1; number++) {
    struct sigaction action = {.sa_sigaction = Handler, .sa_flags = SA_SIGINFO};
    if (number != SIGKILL && number != SIGSTOP && (number < 32 || number >= SIGRTMIN)) {
      CHECK_OK(sigaction(number, &action, NULL));
    }
  }
  Senders();
  FromCalls();
  Faults();
  Context();
  Action();
  return 0;
}
