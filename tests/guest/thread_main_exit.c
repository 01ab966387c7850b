// variants: dynamic static musl
// The main thread ends by pthread_exit; the others go on, and the last one's end is the process's.
#include "tests/guest/guest.h"

static pthread_t main_thread;
static pid_t process;

static void* Second(void* unused) {
  (void)unused;
  CHECK_EQ(getpid(), process);
  Say("the last thread");
  GuestSnapshot();
  CHECK_EQ(getpid(), process);
  CHECK(OwnTid() != process);
  return NULL;
}

static void* First(void* unused) {
  (void)unused;
  JoinThread(main_thread);
  Say("the main thread has ended");
  SleepMs(20);
  GuestSnapshot();
  CHECK_EQ(getpid(), process);
  pthread_t second = StartThread(Second, NULL);
  JoinThread(second);
  return NULL;
}

int main(void) {
  main_thread = pthread_self();
  process = getpid();
  StartThread(First, NULL);
  Say("main");
  pthread_exit(NULL);
}
