// churn THREADS: each thread goes on making another one that maps memory, moves it, changes its
// rights, opens and closes descriptors, and ends; until SIGTERM. Whatever is found to be otherwise
// than it was left makes it say "wrong". Prints "ready" once all have gone round, and in the end
// "right" and how often.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kSize = 64 << 12 };

static atomic_int stop, wrong, begun;
static atomic_long rounds;
static __thread long own;

static void must(int condition, const char *what) {
  if (condition) return;
  wrong = 1;
  printf("wrong: %s: %s\n", what, strerror(errno));
}

static int holds(const unsigned char *memory, size_t size, unsigned char wanted) {
  for (size_t i = 0; i < size; i += 512) {
    if (memory[i] != wanted) return 0;
  }
  return 1;
}

static void remap(long seed) {
  unsigned char mark = (unsigned char)(seed | 1);
  unsigned char *memory =
      mmap(NULL, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  must(memory != MAP_FAILED, "mmap");
  must(holds(memory, kSize, 0), "new memory");
  memset(memory, mark, kSize);
  must(mprotect(memory, kSize / 2, PROT_READ) == 0, "mprotect");
  must(holds(memory, kSize, mark), "memory behind mprotect");
  must(mprotect(memory, kSize / 2, PROT_READ | PROT_WRITE) == 0, "mprotect back");
  memory = mremap(memory, kSize, 2 * kSize, MREMAP_MAYMOVE);
  must(memory != MAP_FAILED, "mremap");
  must(holds(memory, kSize, mark) && holds(memory + kSize, kSize, 0), "memory behind mremap");
  must(madvise(memory, kSize / 2, MADV_DONTNEED) == 0, "madvise");
  must(holds(memory, kSize / 2, 0) && holds(memory + kSize / 2, kSize / 2, mark), "what is left");
  must(munmap(memory, 2 * kSize) == 0, "munmap");
}

static void reopen(long seed) {
  int ends[2], event = eventfd((unsigned)seed, EFD_CLOEXEC);
  uint64_t value = 0;
  long got = 0;
  must(event >= 0 && pipe(ends) == 0, "descriptors");
  must(write(ends[1], &seed, sizeof(seed)) == sizeof(seed), "writing");
  int copy = dup(ends[0]);
  must(close(ends[0]) == 0 && close(ends[1]) == 0, "closing");
  must(read(copy, &got, sizeof(got)) == sizeof(got) && got == seed, "what was in the pipe");
  must(read(event, &value, sizeof(value)) == sizeof(value) && value == (uint64_t)seed, "a count");
  must(close(copy) == 0 && close(event) == 0, "closing the others");
}

static void *once(void *argument) {
  own = (long)argument;
  remap(own);
  reopen(own);
  must(own == (long)argument, "a thread's own variable");
  return (void *)(own * 2);
}

static void *again_and_again(void *argument) {
  for (long seed = (long)argument; !stop; seed = seed % 1000000 + 1) {
    pthread_t thread;
    void *result = NULL;
    must(pthread_create(&thread, NULL, once, (void *)seed) == 0, "a thread");
    must(pthread_join(thread, &result) == 0 && result == (void *)(seed * 2), "its result");
    if (seed == (long)argument) ++begun;
    ++rounds;
  }
  return NULL;
}

int main(int argc, char **argv) {
  int count = argc > 1 ? atoi(argv[1]) : 4, sig;
  pthread_t *threads = calloc((size_t)count, sizeof(*threads));
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, NULL);
  for (long i = 0; i < count; ++i) {
    if (pthread_create(&threads[i], NULL, again_and_again, (void *)(i * 1000 + 1)) != 0) return 2;
  }
  while (begun < count) usleep(1000);
  puts("ready");
  fflush(stdout);
  sigwait(&term, &sig);
  stop = 1;
  for (int i = 0; i < count; ++i) pthread_join(threads[i], NULL);
  if (!wrong) printf("right after %ld rounds\n", (long)rounds);
  return wrong;
}
