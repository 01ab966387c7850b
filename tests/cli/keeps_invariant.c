// Threads that each keep two arrays equal, element by element, until SIGTERM; then everything is
// compared. keeps_invariant MEGABYTES THREADS prints "ready" and in the end how often it went
// round. What a snapshot that is not of one instant brings back does not compare.
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static atomic_int stop;
static size_t elements;  // of each array

struct worker {
  pthread_t thread;
  uint64_t *first, *second;
  uint64_t rounds;
};

// An element a page, in an order that jumps about.
static void go_round(struct worker *worker) {
  for (size_t i = 0; i < elements; i += 512) {
    size_t at = (i * 7919) % elements / 512 * 512;
    ++worker->first[at];
    ++worker->second[at];
  }
  ++worker->rounds;
}

static void *work(void *argument) {
  while (!stop) go_round(argument);
  return NULL;
}

static int compare(const struct worker *worker) {
  for (size_t i = 0; i < elements; i += 512) {
    if (worker->first[i] == worker->second[i]) continue;
    printf("element %zu: %llu and %llu\n", i, (unsigned long long)worker->first[i],
           (unsigned long long)worker->second[i]);
    return 1;
  }
  return 0;
}

int main(int argc, char **argv) {
  size_t megabytes = argc > 1 ? strtoul(argv[1], NULL, 0) : 16;
  int threads = argc > 2 ? atoi(argv[2]) : 2;
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, NULL);
  elements = megabytes * (1 << 20) / sizeof(uint64_t) / 2 / (size_t)threads / 512 * 512;
  struct worker *workers = calloc((size_t)threads, sizeof(*workers));
  for (int i = 0; i < threads; ++i) {
    size_t size = elements * sizeof(uint64_t);
    // The second is shared memory: it is to be of the same instant as the first.
    workers[i].first = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    workers[i].second = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (workers[i].first == MAP_FAILED || workers[i].second == MAP_FAILED) return 2;
    go_round(&workers[i]);
    if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) return 2;
  }
  puts("ready");
  fflush(stdout);
  int sig;
  sigwait(&term, &sig);
  stop = 1;
  uint64_t rounds = 0;
  int wrong = 0;
  for (int i = 0; i < threads; ++i) {
    pthread_join(workers[i].thread, NULL);
    wrong |= compare(&workers[i]);
    rounds += workers[i].rounds;
  }
  printf("%s after %llu rounds\n", wrong ? "wrong" : "right", (unsigned long long)rounds);
  return wrong;
}
