// Code made at run time: written then executed, changed in place, two views of one page, many
// threads.
#include "tests/guest/fault.h"

static uint8_t* shared_code;
static atomic_int generation, done;

static void* Caller(void* unused) {
  (void)unused;
  for (int last = 0; last < 200;) {
    int now = atomic_load(&generation);
    if (now == last) {
      __builtin_ia32_pause();
      continue;
    }
    long got = TryCall(shared_code);
    if (got < now) FAIL("code of generation %d returned %ld", now, got);
    last = now;
    atomic_fetch_add(&done, 1);
  }
  return NULL;
}

int main(void) {
  CatchFaults();
  // Writable and executable at once, changed in place.
  uint8_t* code = MapAnonymous(kPage, PROT_READ | PROT_WRITE | PROT_EXEC);
  for (int i = 0; i < 1000; i++) {
    PutCode(code, i);
    CHECK_EQ(TryCall(code), i);
    if (i == 500) {
      GuestSnapshot();
      CHECK_EQ(TryCall(code), i);
    }
  }
  Say("in place");
  // Write, then execute, as most JITs do.
  for (int i = 0; i < 300; i++) {
    CHECK_OK(mprotect(code, kPage, PROT_READ | PROT_WRITE));
    PutCode(code, i);
    CHECK_OK(mprotect(code, kPage, PROT_READ | PROT_EXEC));
    CHECK_EQ(TryCall(code), i);
  }
  Say("write xor execute");
  // Two views of a file's page: one written, one executed.
  int fd = PatternFile("file", kPage);
  uint8_t* writable = mmap(NULL, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  uint8_t* executable = mmap(NULL, kPage, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
  CHECK_OK(writable);
  CHECK_OK(executable);
  for (int i = 0; i < 300; i++) {
    PutCode(writable, i);
    CHECK_EQ(TryCall(executable), i);
    if (i == 100) GuestSnapshot();
  }
  Say("two views");
  shared_code = code;
  pthread_t thread = StartThread(Caller, NULL);
  CHECK_OK(mprotect(code, kPage, PROT_READ | PROT_WRITE | PROT_EXEC));
  PutCode(code, 0);
  for (int i = 1; i <= 200; i++) {
    atomic_store((_Atomic uint32_t*)(void*)(code + 1), (uint32_t)i);
    atomic_store(&generation, i);
    AwaitAtLeast(&done, i);
  }
  JoinThread(thread);
  Say("threads");
  return 0;
}
