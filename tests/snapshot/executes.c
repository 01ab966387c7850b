// Memory that becomes executable after the resume, with what was written to it before.
#include <km/km.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

int main(void) {
  // mov $4711, %eax; ret
  static const unsigned char code[] = {0xb8, 0x67, 0x12, 0, 0, 0xc3};
  const size_t size = 1 << 20;
  unsigned char* memory =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  memset(memory, 0x90, size);
  memcpy(memory + 5000, code, sizeof code);
  if (km_snapshot("executes", NULL, 0) < 0) return 1;
  memory[100] = 1;
  if (mprotect(memory, 3 * 4096, PROT_READ | PROT_EXEC) != 0) return perror("mprotect"), 1;
  int (*function)(void);
  void* at = memory + 5000;
  memcpy(&function, &at, sizeof at);
  const int result = function();
  if (mprotect(memory, 4096, PROT_READ | PROT_WRITE) != 0) return perror("mprotect back"), 1;
  memory[200] = 2;
  printf("%d, %d %d %d %d\n", result, memory[100], memory[200], memory[4999], memory[size - 1]);
  return 0;
}
