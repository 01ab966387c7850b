// variants: static
// The exit system call ends only the thread that makes it; the last one's status is the process's.
#include "tests/guest/guest.h"

static void* Leave(void* code) {
  syscall(SYS_exit, (int)(long)code);
  FAIL("exit returned");
}

int main(void) {
  // pthread_join works all the same: the kernel clears the tid.
  for (long i = 0; i < 20; i++) JoinThread(StartThread(Leave, (void*)i));
  Say("main lives");
  GuestSnapshot();
  for (long i = 0; i < 5; i++) JoinThread(StartThread(Leave, (void*)(7 + i)));
  Say("and again");
  return 0;
}
