// After a resume, as an allocator does that gives back what is free in a large heap: every second
// page of 300 MiB. Then memory and threads can still be had.
#include <km/km.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { kPages = 80000, kPage = 4096 };

static void* Nothing(void* argument) { return argument; }

int main(void) {
  unsigned char* heap = mmap(NULL, (size_t)kPages * kPage, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (heap == MAP_FAILED) return 1;
  for (size_t i = 0; i < kPages; i++) memset(heap + i * kPage, (int)(i % 255 + 1), 64);
  if (km_snapshot("discards", NULL, 0) < 0) return 1;
  for (size_t i = 0; i < kPages; i += 2) {
    if (madvise(heap + i * kPage, kPage, MADV_DONTNEED) != 0) return perror("madvise"), 1;
  }
  int wrong = 0;
  for (size_t i = 0; i < kPages; i++) wrong += heap[i * kPage + 63] != (i % 2 ? i % 255 + 1 : 0);
  pthread_t thread;
  if (mmap(NULL, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ||
      pthread_create(&thread, NULL, Nothing, NULL) != 0 || pthread_join(thread, NULL) != 0) {
    return perror("afterwards"), 1;
  }
  printf("%d pages are wrong\n", wrong);
  return 0;
}
