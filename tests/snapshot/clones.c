// A program of which clones are made: what they share and where they differ.
#include <km/km.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
enum { kPage = 4096 };

static int callbacks;

static void Count(void* arg) {
  (void)arg;
  ++callbacks;
}

static void Show(const char* name, const unsigned char* bytes) {
  printf("%s ", name);
  for (int i = 0; i < 16; ++i) printf("%02x", bytes[i]);
  puts("");
}

// Whether the environment says so too.
static int IsInEnvironment(const unsigned char* id) {
  char text[2 * KM_GENERATION_SIZE + 1];
  for (int i = 0; i < KM_GENERATION_SIZE; ++i) sprintf(text + 2 * i, "%02x", id[i]);
  const char* variable = getenv("KM_GENERATION");
  return variable != NULL && strcmp(variable, text) == 0;
}

static unsigned char* Filled(int flags) {
  unsigned char* memory = mmap(NULL, kPage, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED) return NULL;
  memset(memory, 7, kPage);
  return memory;
}

int main(void) {
  unsigned char id[KM_GENERATION_SIZE], before[KM_GENERATION_SIZE], random[16], drawn[16];
  unsigned char* plain = Filled(MAP_PRIVATE | MAP_ANONYMOUS);
  unsigned char* wiped = Filled(MAP_PRIVATE | MAP_ANONYMOUS);
  // Kernels before 6.11 have none.
  unsigned char* droppable = Filled(MAP_DROPPABLE | MAP_ANONYMOUS);
  if (plain == NULL || wiped == NULL || madvise(wiped, kPage, MADV_WIPEONFORK) != 0) return 1;
  if (getrandom(drawn, sizeof(drawn), 0) != sizeof(drawn)) return 1;
  km_generation(before);
  const int shown = IsInEnvironment(before);
  km_after_resume(Count, NULL);
  if (km_snapshot("clones", NULL, 0) < 0) return 1;
  km_generation(id);
  if (getrandom(random, sizeof(random), 0) != sizeof(random)) return 1;
  Show("generation", id);
  Show("getrandom", random);
  Show("drawn-before", drawn);
  Show("at-random", (const unsigned char*)getauxval(AT_RANDOM));
  printf("same generation %d, callbacks %d, then %d\n", memcmp(before, id, sizeof(id)) == 0,
         callbacks, km_run_after_resume());
  printf("in the environment %d, then %d\n", shown, IsInEnvironment(id));
  printf("plain %d, wiped %d, droppable %d\n", plain[0], wiped[0],
         droppable != NULL ? droppable[0] : 0);
  return 0;
}
