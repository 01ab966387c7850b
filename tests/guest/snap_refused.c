// A snapshot that cannot be taken (a deleted directory is open) is refused with a negative errno,
// the program goes on unharmed, and once the directory is closed it works.
#include <sys/stat.h>

#include "tests/guest/guest.h"

static atomic_int ready;
static atomic_bool stop;

static void* Body(void* unused) {
  (void)unused;
  atomic_fetch_add(&ready, 1);
  long last = 0;
  while (!atomic_load(&stop)) {
    long now = syscall(SYS_gettid);
    if (last != 0) CHECK_EQ(now, last);
    last = now;
  }
  return NULL;
}

int main(void) {
  CHECK_OK(mkdir("gone", 0700));
  int directory = open("gone", O_RDONLY | O_DIRECTORY);
  CHECK_OK(directory);
  CHECK_OK(rmdir("gone"));
  pthread_t thread = StartThread(Body, NULL);
  AwaitAtLeast(&ready, 1);
  for (int i = 0; i < 3; i++) {
    long result = GuestTrySnapshot("refused", 0);
    if (result >= 0) FAIL("a snapshot with an open deleted directory returned %ld", result);
    struct stat status;
    CHECK_OK(fstat(directory, &status));
    CHECK(S_ISDIR(status.st_mode));
  }
  Say("refused");
  // Bad arguments are refused as well.
  static char too_long[KM_SNAPSHOT_LABEL_MAX + 10];
  memset(too_long, 'l', sizeof too_long - 1);
  CHECK_OK(close(directory));
  if (GuestSnapshotWanted()) {
    CHECK(GuestTrySnapshot(too_long, 0) < 0);
    CHECK(GuestTrySnapshot((const char*)8, 0) < 0);
    CHECK(GuestTrySnapshot("unknown flags", 0x80000000) < 0);
  }
  GuestSnapshot();
  CHECK_EQ(dup(0), 3);
  CHECK_OK(close(3));
  atomic_store(&stop, true);
  JoinThread(thread);
  Say("taken");
  return 0;
}
