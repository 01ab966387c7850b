// Threads that each keep two arrays equal, element by element, and all together the sum of a
// third, in which they move ones from page to page, until SIGTERM; then everything is compared.
// keeps_invariant MEGABYTES THREADS touches all of that memory, prints "ready", and in the end how
// often it went round. What a snapshot that is not of one instant brings back does not compare.
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static atomic_int stop;
static size_t elements;  // of each array
static _Atomic uint64_t *ledger;
static size_t pages;  // of the ledger, each with one number that counts

struct worker {
  pthread_t thread;
  uint64_t *first, *second;
  uint64_t rounds, drawn;
};

// Numbers with high bits that are as good as random.
static size_t draw_page(struct worker *worker) {
  worker->drawn = worker->drawn * 6364136223846793005u + 1442695040888963407u;
  return (worker->drawn >> 33) % pages;
}

// An element a page, in an order that jumps about.
static void go_round(struct worker *worker) {
  for (size_t i = 0; i < elements; i += 512) {
    size_t at = (i * 7919) % elements / 512 * 512;
    ++worker->first[at];
    ++worker->second[at];
    --ledger[draw_page(worker) * 512];
    ++ledger[draw_page(worker) * 512];
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

static void open_ledger(size_t size) {
  pages = size / 4096;
  ledger = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (ledger == MAP_FAILED) exit(2);
  for (size_t page = 0; page < pages; ++page) ledger[page * 512] = page;
}

static int sum_is_kept(void) {
  uint64_t sum = 0, wanted = 0;
  for (size_t page = 0; page < pages; ++page) {
    sum += ledger[page * 512];
    wanted += page;
  }
  if (sum == wanted) return 1;
  printf("a sum of %llu, not %llu\n", (unsigned long long)sum, (unsigned long long)wanted);
  return 0;
}

int main(int argc, char **argv) {
  size_t megabytes = argc > 1 ? strtoul(argv[1], NULL, 0) : 16;
  int threads = argc > 2 ? atoi(argv[2]) : 2;
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, NULL);
  // Half of it for the ledger, a quarter for all threads' first arrays, and for their second ones.
  elements = megabytes * (1 << 20) / sizeof(uint64_t) / 4 / (size_t)threads / 512 * 512;
  open_ledger(megabytes * (1 << 20) / 2);
  struct worker *workers = calloc((size_t)threads, sizeof(*workers));
  for (int i = 0; i < threads; ++i) {
    size_t size = elements * sizeof(uint64_t);
    // The second is shared memory: it is to be of the same instant as the first.
    workers[i].first = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    workers[i].second = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (workers[i].first == MAP_FAILED || workers[i].second == MAP_FAILED) return 2;
    workers[i].drawn = (uint64_t)i;
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
  wrong |= !sum_is_kept();
  printf("%s after %llu rounds\n", wrong ? "wrong" : "right", (unsigned long long)rounds);
  return wrong;
}
