// /proc/self/task/TID/status, stat and statm of threads that end while they are read: what they
// tell of a thread, or that there is none.
#include "tests/guest/guest.h"

enum { kReads = 3000 };

static atomic_int newest, stop;

static void* Short(void* unused) {
  (void)unused;
  atomic_store(&newest, OwnTid());
  return NULL;
}

static void* Make(void* unused) {
  (void)unused;
  while (!atomic_load(&stop)) JoinThread(StartThread(Short, NULL));
  return NULL;
}

// Whether there was such a thread until the end.
static bool Look(const char* name) {
  char path[64], text[4096];
  snprintf(path, sizeof path, "/proc/self/task/%d/%s", atomic_load(&newest), name);
  int fd = open(path, O_RDONLY);
  if (fd < 0 && (errno == ENOENT || errno == ESRCH)) return false;
  CHECK_OK(fd);
  long got = read(fd, text, sizeof text - 1);
  if (got < 0) CHECK_EQ(errno, ESRCH);
  if (got == 0) FAIL("%s is empty", path);
  CHECK_OK(close(fd));
  return got > 0;
}

int main(void) {
  static const char* const names[] = {"status", "stat", "statm"};
  pthread_t maker = StartThread(Make, NULL);
  while (atomic_load(&newest) == 0) sched_yield();
  for (int i = 0; i < kReads; i++) (void)Look(names[i % 3]);
  atomic_store(&stop, 1);
  JoinThread(maker);
  atomic_store(&newest, OwnTid());
  for (int i = 0; i < 3; i++) CHECK(Look(names[i]));
  Say("%d reads", kReads);
  return 0;
}
