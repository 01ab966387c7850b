// variants: dynamic static static-pie nopie musl musl-dynamic
// args: first second --third=3
// What a program finds at its start: arguments, environment, the auxiliary vector, /proc/self/exe.
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "tests/guest/guest.h"

extern char** environ;
static uint64_t random_bytes[2];

static void Auxiliary(char** argv) {
  // Behind the environment on the stack: pairs, AT_NULL last.
  char** end = environ;
  while (*end != NULL) end++;
  const ElfW(auxv_t)* vector = (const ElfW(auxv_t)*)(end + 1);
  int count = 0;
  while (vector[count].a_type != AT_NULL) CHECK(++count < 64);
  CHECK_EQ(getauxval(AT_PAGESZ), 4096);
  CHECK_EQ(getauxval(AT_UID), getuid());
  CHECK_EQ(getauxval(AT_EUID), geteuid());
  CHECK_EQ(getauxval(AT_GID), getgid());
  CHECK_EQ(getauxval(AT_EGID), getegid());
  CHECK_EQ(getauxval(AT_SECURE), 0);
  CHECK_EQ(getauxval(AT_CLKTCK), sysconf(_SC_CLK_TCK));
  CHECK_EQ(getauxval(AT_FLAGS), 0);
  CHECK(strcmp((char*)getauxval(AT_PLATFORM), "x86_64") == 0);
  CHECK(strcmp((char*)getauxval(AT_EXECFN), argv[0]) == 0);
  unsigned eax = 1, ebx, ecx, edx;
  __asm__("cpuid" : "+a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx));
  for (int i = 0; i < count; i++) {
    // Not getauxval: glibc has it return something else here. The kernel and KVM each hide bits
    // that mean nothing to a program.
    const unsigned programs = 1 << 0 | 1 << 4 | 1 << 8 | 1 << 15 | 1 << 19 | 0xf << 23;
    if (vector[i].a_type == AT_HWCAP) CHECK_EQ(vector[i].a_un.a_val & programs, edx & programs);
  }
  CHECK(getauxval(AT_RANDOM) != 0);
  memcpy(random_bytes, (void*)getauxval(AT_RANDOM), 16);
  CHECK(random_bytes[0] != 0 || random_bytes[1] != 0);
  CHECK(getauxval(AT_SYSINFO_EHDR) % 4096 == 0);
  // The program's own headers: entry point, and PT_PHDR's distance gives where it was loaded.
  const Elf64_Phdr* headers = (const Elf64_Phdr*)getauxval(AT_PHDR);
  CHECK_EQ(getauxval(AT_PHENT), sizeof(Elf64_Phdr));
  uintptr_t base = (uintptr_t)headers & -kPage, low = ~0ul, high = 0, bias;
  const Elf64_Ehdr* header = (const Elf64_Ehdr*)base;
  CHECK(memcmp(header, "\177ELF", 4) == 0);
  CHECK_EQ(getauxval(AT_PHNUM), header->e_phnum);
  CHECK_EQ((uintptr_t)headers - base, header->e_phoff);
  for (int i = 0; i < header->e_phnum; i++) {
    if (headers[i].p_type != PT_LOAD) continue;
    if (headers[i].p_vaddr < low) low = headers[i].p_vaddr & -kPage;
    if (headers[i].p_vaddr + headers[i].p_memsz > high)
      high = headers[i].p_vaddr + headers[i].p_memsz;
  }
  bias = base - low;
  CHECK_EQ(getauxval(AT_ENTRY), header->e_entry + bias);
  CHECK((uintptr_t)Auxiliary >= low + bias && (uintptr_t)Auxiliary < high + bias);
  CHECK(header->e_type == ET_DYN || bias == 0);
  bool interpreted = false;
  for (int i = 0; i < header->e_phnum; i++) interpreted |= headers[i].p_type == PT_INTERP;
  CHECK_EQ(getauxval(AT_BASE) != 0, interpreted);
  if (interpreted) CHECK(memcmp((void*)getauxval(AT_BASE), "\177ELF", 4) == 0);
}

static void Stack(char** argv) {
  CHECK_EQ((uintptr_t)(argv - 1) % 16, 0);  // psABI: RSP at entry, where argc stands
  CHECK_EQ(*(long*)(argv - 1), 4);
  // Strings lie one behind another above the vectors.
  for (int i = 1; i < 4; i++) CHECK_EQ(argv[i] - argv[i - 1], (long)strlen(argv[i - 1]) + 1);
  CHECK_EQ(environ[0] - argv[3], (long)strlen(argv[3]) + 1);
}

static void Executable(char** argv) {
  char link[4096], path[4096];
  long length = readlink("/proc/self/exe", link, sizeof link - 1);
  CHECK(length > 0);
  link[length] = 0;
  CHECK(realpath(argv[0], path) != NULL);
  if (strcmp(link, path) != 0) FAIL("/proc/self/exe is %s, expected %s", link, path);
  int fd = open("/proc/self/exe", O_RDONLY);
  CHECK_OK(fd);
  char magic[4];
  CHECK_EQ(read(fd, magic, 4), 4);
  CHECK(memcmp(magic, "\177ELF", 4) == 0);
  CHECK_OK(close(fd));
}

int main(int argc, char** argv) {
  CHECK_EQ(argc, 4);
  CHECK(argv[4] == NULL);
  for (int i = 1; i < argc; i++) Say("argument %d: %s", i, argv[i]);
  CHECK(getenv("PATH") != NULL);
  char** before = environ;
  char* path = getenv("PATH");
  Stack(argv);
  Auxiliary(argv);
  Executable(argv);
  Say("start");
  uint64_t same[2] = {random_bytes[0], random_bytes[1]};
  if (GuestSnapshot() == 1) {
    CHECK(memcmp((void*)getauxval(AT_RANDOM), same, 16) == 0);
    CHECK(memcmp((void*)getauxval(AT_SYSINFO_EHDR), "\177ELF", 4) == 0);
  }
  CHECK(environ == before && getenv("PATH") == path);
  Stack(argv);
  Auxiliary(argv);
  Executable(argv);
  struct utsname names;
  CHECK_OK(uname(&names));
  CHECK(strcmp(names.sysname, "Linux") == 0);
  CHECK(strcmp(names.machine, "x86_64") == 0);
  Say("still so");
  return 0;
}
