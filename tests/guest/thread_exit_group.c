// variants: dynamic static musl
// status: 42
// exit_group from a thread that is not the main one ends all, wherever they are, with its status.
#include "tests/guest/guest.h"

static atomic_int ready;

static void* Spin(void* unused) {
  (void)unused;
  atomic_fetch_add(&ready, 1);
  for (;;) __builtin_ia32_pause();
  return NULL;
}

static void* Call(void* unused) {
  (void)unused;
  atomic_fetch_add(&ready, 1);
  for (;;) syscall(SYS_getppid);
  return NULL;
}

static void* Block(void* unused) {
  (void)unused;
  atomic_fetch_add(&ready, 1);
  for (;;) pause();
  return NULL;
}

static void* End(void* unused) {
  (void)unused;
  AwaitBlocked(&ready, 3);
  GuestSnapshot();
  Say("ending");
  syscall(SYS_exit_group, 42);
  FAIL("exit_group returned");
}

int main(void) {
  StartThread(Spin, NULL);
  StartThread(Call, NULL);
  StartThread(Block, NULL);
  JoinThread(StartThread(End, NULL));
  FAIL("the thread that ends the process was joined");
}
