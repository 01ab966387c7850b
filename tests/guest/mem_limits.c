// RLIMIT_AS, RLIMIT_DATA and RLIMIT_STACK bind the program's own memory.
#include <sys/resource.h>

#include "tests/guest/fault.h"

static size_t MappedPages(void) {
  unsigned long pages;
  FILE* statm = fopen("/proc/self/statm", "r");
  CHECK(statm != NULL);
  CHECK_EQ(fscanf(statm, "%lu", &pages), 1);
  fclose(statm);
  return pages;
}

static void Limit(int resource, rlim_t bytes) {
  struct rlimit limit;
  CHECK_OK(getrlimit(resource, &limit));
  limit.rlim_cur = bytes;
  CHECK_OK(setrlimit(resource, &limit));
}

static void Total(void) {
  uint8_t* memory = MapAnonymous(64 * kPage, PROT_READ | PROT_WRITE);
  size_t used = MappedPages() * kPage;
  Limit(RLIMIT_AS, used + (8ul << 20));
  for (int round = 0; round < 2; round++) {
    CHECK_ERRNO(mmap(NULL, 64ul << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ENOMEM);
    CHECK_ERRNO(mmap(NULL, 64ul << 20, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0), ENOMEM);
    CHECK_ERRNO(mremap(memory, 64 * kPage, 64ul << 20, MREMAP_MAYMOVE), ENOMEM);
    CHECK(malloc(64ul << 20) == NULL);
    void* some = mmap(NULL, 4ul << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_OK(some);
    // What is replaced does not count.
    CHECK_OK(mmap(some, 4ul << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                  -1, 0));
    CHECK_OK(munmap(some, 4ul << 20));
    if (round == 0) GuestSnapshot();
  }
  Limit(RLIMIT_AS, RLIM_INFINITY);
  CHECK_OK(munmap(memory, 64 * kPage));
  Say("total");
}

static void Data(void) {
  uint8_t* reserved = MapAnonymous(64ul << 20, PROT_NONE);
  Limit(RLIMIT_DATA, 32ul << 20);
  for (int round = 0; round < 2; round++) {
    CHECK_ERRNO(mmap(NULL, 64ul << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                ENOMEM);
    CHECK_ERRNO(mprotect(reserved, 64ul << 20, PROT_READ | PROT_WRITE), ENOMEM);
    CHECK_OK(mprotect(reserved, 64ul << 20, PROT_READ));
    void* shared =
        mmap(NULL, 64ul << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK_OK(shared);
    CHECK_OK(munmap(shared, 64ul << 20));
    uintptr_t end = (uintptr_t)syscall(SYS_brk, 0);
    CHECK_EQ((uintptr_t)syscall(SYS_brk, end + (64ul << 20)), end);
    CHECK_EQ((uintptr_t)syscall(SYS_brk, end + kPage), end + kPage);
    CHECK_EQ((uintptr_t)syscall(SYS_brk, end), end);
    if (round == 0) GuestSnapshot();
  }
  Limit(RLIMIT_DATA, RLIM_INFINITY);
  CHECK_OK(mprotect(reserved, 64ul << 20, PROT_READ | PROT_WRITE));
  CHECK_OK(munmap(reserved, 64ul << 20));
  Say("data");
}

// Frames of 64 KiB, all of them touched.
__attribute__((noinline)) static int Deep(int frames) {
  volatile char room[64 << 10];
  room[0] = 1;
  return frames == 0 ? room[0] : Deep(frames - 1) + room[0];
}

// A limit that is raised counts from then on: the stack grows past what it could at the start.
static void Stack(void) {
  struct rlimit limit;
  CHECK_OK(getrlimit(RLIMIT_STACK, &limit));
  if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < (48ul << 20)) {
    Say("stack");
    return;
  }
  Limit(RLIMIT_STACK, 48ul << 20);
  CHECK_EQ(Deep(500), 501);  // 32 MiB
  GuestSnapshot();
  CHECK_EQ(Deep(600), 601);
  Say("stack");
}

int main(void) {
  CatchFaults();
  Total();
  Data();
  Stack();
  return 0;
}
