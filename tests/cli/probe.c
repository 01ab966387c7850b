/* Does what its arguments say, so that a test sees one thing at a time. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

extern char** environ;

static void on_signal(int number) {
  char text[] = "signal 00\n";
  text[7] = (char)('0' + number / 10);
  text[8] = (char)('0' + number % 10);
  if (write(1, text, sizeof(text) - 1) < 0) _exit(98);
  _exit(7);
}

/* Prints "ready" and waits for the signal; the handler exits with 7. */
static __attribute__((noreturn)) void await(int number) {
  struct sigaction action;
  memset(&action, 0, sizeof(action));
  action.sa_handler = on_signal;
  sigaction(number, &action, NULL);
  puts("ready");
  fflush(stdout);
  for (;;) pause();
}

static __attribute__((noreturn)) void spin(void) {
  puts("ready");
  fflush(stdout);
  for (volatile uint64_t i = 0;; ++i) {
  }
}

static int addresses(void) {
  void* block = malloc(100);
  void* mapping = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  printf("program %p heap %p mapping %p stack %p libc %p brk %p\n", (void*)(uintptr_t)addresses,
         block, mapping, (void*)&block, (void*)(uintptr_t)strlen, sbrk(0));
  return 0;
}

/* The auxiliary vector, without what is random or differs from the kernel's on purpose. */
static int auxiliary(void) {
  static const unsigned long same[] = {AT_HWCAP, AT_HWCAP2, AT_PAGESZ, AT_CLKTCK, AT_PHENT,
                                       AT_PHNUM, AT_FLAGS,  AT_UID,    AT_EUID,   AT_GID,
                                       AT_EGID,  AT_SECURE, 51 /* AT_MINSIGSTKSZ */};
  for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); ++i) {
    printf("%lu: %lx\n", same[i], getauxval(same[i]));
  }
  static const unsigned long present[] = {AT_SYSINFO_EHDR, AT_PHDR, AT_ENTRY, AT_RANDOM};
  for (size_t i = 0; i < sizeof(present) / sizeof(present[0]); ++i) {
    printf("%lu: %s\n", present[i], getauxval(present[i]) != 0 ? "there" : "missing");
  }
  printf("execfn %s platform %s\n", (const char*)getauxval(AT_EXECFN),
         (const char*)getauxval(AT_PLATFORM));
  return 0;
}

static int crash(const char* how) {
  volatile uintptr_t nowhere = 0x1234000;
  if (strcmp(how, "read") == 0) return *(volatile int*)nowhere;
  if (strcmp(how, "jump") == 0) ((void (*)(void))nowhere)();
  if (strcmp(how, "illegal") == 0) __asm__ volatile("ud2");
  if (strcmp(how, "divide") == 0) {
    __asm__ volatile("xor %%ecx, %%ecx; div %%ecx" ::: "eax", "ecx", "edx");
  }
  if (strcmp(how, "abort") == 0) abort();
  return 99;
}

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  const char* value = argc > 2 ? argv[2] : "";
  if (strcmp(what, "exit") == 0) return atoi(value);
  if (strcmp(what, "kill") == 0) return kill(getpid(), atoi(value));
  if (strcmp(what, "raise") == 0) return raise(atoi(value));
  if (strcmp(what, "crash") == 0) return crash(value);
  if (strcmp(what, "await") == 0) await(atoi(value));
  if (strcmp(what, "spin") == 0) spin();
  if (strcmp(what, "addresses") == 0) return addresses();
  if (strcmp(what, "auxv") == 0) return auxiliary();
  if (strcmp(what, "env") == 0) {
    for (char** variable = environ; *variable != NULL; ++variable) puts(*variable);
    return 0;
  }
  if (strcmp(what, "args") == 0) {
    for (int i = 0; i < argc; ++i) printf("[%s]\n", argv[i]);
    return 0;
  }
  if (strcmp(what, "both") == 0) {
    if (write(1, "out\n", 4) != 4 || write(2, "err\n", 4) != 4) return errno;
    return 0;
  }
  fprintf(stderr, "probe: what is '%s'?\n", what);
  return 2;
}
