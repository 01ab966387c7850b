// build: -fsanitize=address -fno-omit-frame-pointer
// status: 1
// An address-sanitized program: 16 TiB of shadow and a heap at fixed addresses. What it finds it
// reports, and ends with.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/guest/guest.h"

// Leaks are looked for with ptrace. The shadow is not to be dumped by default, and a snapshot then
// leaves it out.
const char* __asan_default_options(void);
const char* __asan_default_options(void) { return "detect_leaks=0:use_madv_dontdump=0"; }

static void* Churn(void* seed) {
  unsigned state = (unsigned)(uintptr_t)seed;
  char* blocks[64] = {0};
  for (int i = 0; i < 5000; i++) {
    state = state * 1103515245 + 12345;
    unsigned at = state >> 16 & 63, size = 1 + (state >> 8 & 4095);
    free(blocks[at]);
    blocks[at] = malloc(size);
    memset(blocks[at], (int)at, size);
  }
  for (int i = 0; i < 64; i++) free(blocks[i]);
  return NULL;
}

int main(void) {
  pthread_t threads[3];
  for (uintptr_t i = 0; i < 3; i++) threads[i] = StartThread(Churn, (void*)(i + 1));
  for (int i = 0; i < 3; i++) JoinThread(threads[i]);
  Say("churned");
  char* volatile block = malloc(10);
  strcpy(block, "hello");
  GuestSnapshot();
  Say("%s", block);
  volatile size_t beyond = 10;
  block[beyond] = 1;
  Say("not reached");
  return 0;
}
