// variants: dynamic static
// A snapshot of a resumed process of a resumed process: state grows from one to the next, with
// threads that live through all of them and others that come and go; some snapshots let the process
// go on.
#include "tests/guest/guest.h"

enum { kLinks = 6 };

static atomic_int rounds, tokens, woken;
static atomic_bool stop;

static void* Worker(void* unused) {
  (void)unused;
  while (!atomic_load(&stop)) {
    if (Futex(&tokens, kFutexWait, 0, NULL, NULL, 0) != 0 && errno != EAGAIN)
      CHECK_EQ(errno, EINTR);
    int now = atomic_load(&tokens);
    while (now > 0 && !atomic_compare_exchange_weak(&tokens, &now, now - 1)) {
    }
    if (now > 0) atomic_fetch_add(&woken, 1);
  }
  return NULL;
}

static void* Visitor(void* argument) {
  atomic_fetch_add(&rounds, 1);
  return argument;
}

int main(void) {
  pthread_t worker = StartThread(Worker, NULL);
  char* blocks[kLinks];
  for (int i = 0; i < kLinks; i++) {
    blocks[i] = malloc(300000);
    CHECK(blocks[i] != NULL);
    memset(blocks[i], 'a' + i, 300000);
    if (i == 2) {
      long result = GuestTrySnapshot("goes on", KM_SNAPSHOT_CONTINUE);
      if (result != 0 && result != -ENOSYS) FAIL("KM_SNAPSHOT_CONTINUE returned %ld", result);
    }
    pthread_t visitor = StartThread(Visitor, blocks[i]);
    GuestSnapshot();
    CHECK(JoinThread(visitor) == blocks[i]);
    CHECK_EQ(atomic_load(&rounds), i + 1);
    for (int j = 0; j <= i; j++) {
      CHECK_EQ(blocks[j][0], 'a' + j);
      CHECK_EQ(blocks[j][299999], 'a' + j);
    }
    atomic_fetch_add(&tokens, 1);
    Futex(&tokens, kFutexWake, 1, NULL, NULL, 0);
    AwaitAtLeast(&woken, i + 1);
    printf("link %d, ", i);  // stays in the buffer over the snapshots
  }
  atomic_store(&stop, true);
  atomic_fetch_add(&tokens, 1);
  Futex(&tokens, kFutexWake, 1, NULL, NULL, 0);
  JoinThread(worker);
  Say("end");
  return 0;
}
