// build: -fsanitize=address -fno-omit-frame-pointer
// status: 1
// The sanitizers' search for leaks: a process beside the program stops its threads and reads their
// registers and stacks. What a thread alone holds is no leak; what nobody holds ends the program.
#include <sanitizer/lsan_interface.h>

#include "tests/guest/companion.h"

enum { kThreads = 4 };
static atomic_int holding;
static atomic_bool release;

static void* Hold(void* unused) {
  (void)unused;
  char* block = malloc(100);
  memset(block, 1, 100);
  // In a register, while it runs, or in a call that blocks.
  bool spins = atomic_fetch_add(&holding, 1) % 2 == 0;
  while (!atomic_load(&release)) {
    __asm__ volatile("" : "+r"(block));
    if (!spins) SleepMs(20);
  }
  free(block);
  return NULL;
}

__attribute__((noinline)) static void Lose(void) {
  char* volatile block = malloc(77);
  strcpy(block, "lost");
  block = NULL;
}

int main(void) {
  NeedTrace();
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; i++) threads[i] = StartThread(Hold, NULL);
  AwaitAtLeast(&holding, kThreads);
  for (int i = 0; i < 3; i++) Say("leaks: %d", __lsan_do_recoverable_leak_check());
  GuestSnapshot();
  Say("leaks: %d", __lsan_do_recoverable_leak_check());
  atomic_store(&release, true);
  for (int i = 0; i < kThreads; i++) JoinThread(threads[i]);
  Lose();
  Say("leaks: %d", __lsan_do_recoverable_leak_check());
  return 0;  // and once more at the end
}
