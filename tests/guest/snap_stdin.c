// variants: dynamic static musl
// stdin: the line
// A thread is blocked in read on standard input when the snapshot is taken; the line comes to the
// resumed process from its own standard input.
#include "tests/guest/guest.h"

static atomic_int ready;
static char line[64];

static void* Reader(void* unused) {
  (void)unused;
  atomic_store(&ready, 1);
  long length = read(0, line, sizeof line - 1);
  CHECK_OK(length);
  CHECK(length > 0);
  line[length] = 0;
  return NULL;
}

int main(void) {
  pthread_t reader = StartThread(Reader, NULL);
  AwaitBlocked(&ready, 1);
  GuestSnapshot();
  JoinThread(reader);
  printf("read: %s", line);
  return 0;
}
