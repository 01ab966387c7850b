// RLIMIT_NPROC: who is not root makes no thread above it, and can still be snapshotted and resumed.
#include <sys/resource.h>

#include "tests/guest/guest.h"

static void* Nothing(void* argument) { return argument; }

static int MakeThread(void) {
  pthread_t thread;
  const int error = pthread_create(&thread, NULL, Nothing, NULL);
  if (error == 0) CHECK_EQ(pthread_join(thread, NULL), 0);
  return error;
}

static void SetMost(rlim_t most) {
  struct rlimit limit;
  CHECK_OK(getrlimit(RLIMIT_NPROC, &limit));
  limit.rlim_cur = most;
  CHECK_OK(setrlimit(RLIMIT_NPROC, &limit));
}

int main(void) {
  struct rlimit limit;
  // Another thread has been before, and what ran it may be there still.
  CHECK_EQ(MakeThread(), 0);
  if (geteuid() == 0) {
    CHECK_OK(setresgid(65534, 65534, 65534));
    CHECK_OK(setresuid(65534, 65534, 65534));
  }
  CHECK_EQ(MakeThread(), 0);
  CHECK_OK(getrlimit(RLIMIT_NPROC, &limit));
  const rlim_t before = limit.rlim_cur;
  for (int i = 0; i < 3; i++) {
    SetMost(0);
    CHECK_EQ(MakeThread(), EAGAIN);
    GuestSnapshot();
    CHECK_OK(getrlimit(RLIMIT_NPROC, &limit));
    CHECK_EQ(limit.rlim_cur, 0);
    CHECK_EQ(limit.rlim_max >= before, 1);
    CHECK_EQ(MakeThread(), EAGAIN);
    SetMost(before);
    CHECK_EQ(MakeThread(), 0);
    Say("limited");
  }
  return 0;
}
