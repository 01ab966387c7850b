// What the benchmarks run, under km and natively; each verb prints one number, the last is a
// table's.
//
//   workload getppid | clock_gettime    nanoseconds of a call, the median of 21 rounds
//   workload compute                    milliseconds of SHA-256 and of floating point over 8 MiB
//   workload snapshots COUNT            median microseconds of so many snapshots of this process
//   workload heap MIB FILL              fills a heap of so many MiB (FILL: random, zeros or sparse,
//                                       an eighth of each MiB), then takes a snapshot a line on
//                                       standard input and prints its milliseconds. Resumed, it
//                                       prints "resumed", then the milliseconds of reading a byte
//                                       of each page
//   workload touch MIB HOW              nanoseconds of the first write to a page of fresh anonymous
//                                       memory (HOW: plain, without advice; small or huge, with
//                                       MADV_NOHUGEPAGE or MADV_HUGEPAGE), of the median of 21
//                                       rounds; again HOW: of reading a word of each page of
//                                       it once more
//   workload hold MIB HOW THREADS       fills so many MiB (HOW: plain, huge for MADV_HUGEPAGE), has
//                                       threads that are busy, prints 0 and stays; at a SIGUSR1 it
//                                       writes to every hundredth page and prints 1
//   workload mapped FILE                milliseconds of the same reading of a file mapped privately
#include <fcntl.h>
#include <km/hypercall.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { kRounds = 21, kPage = 4096 };

static double Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int Ascending(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

static double Median(double* values, int count) {
  qsort(values, (size_t)count, sizeof(double), Ascending);
  return values[count / 2];
}

static int Fail(const char* what) {
  perror(what);
  return 1;
}

static int Getppid(void) {
  double rounds[kRounds];
  for (int i = 0; i < kRounds; ++i) {
    enum { kCalls = 500 };
    double begin = Now();
    for (int j = 0; j < kCalls; ++j) syscall(SYS_getppid);
    rounds[i] = (Now() - begin) / kCalls;
  }
  printf("%.1f\n", Median(rounds, kRounds));
  return 0;
}

static int ClockGettime(void) {
  double rounds[kRounds];
  for (int i = 0; i < kRounds; ++i) {
    enum { kCalls = 100000 };
    double begin = Now();
    struct timespec now;
    for (int j = 0; j < kCalls; ++j) clock_gettime(CLOCK_MONOTONIC, &now);
    rounds[i] = (Now() - begin) / kCalls;
  }
  printf("%.2f\n", Median(rounds, kRounds));
  return 0;
}

static uint32_t Rotate(uint32_t x, int by) { return x >> by | x << (32 - by); }

// SHA-256's compression function with constants of our own: it is its work that counts.
static void Compress(uint32_t state[8], const uint32_t* block) {
  uint32_t w[64], s[8];
  memcpy(w, block, 64);
  for (int i = 16; i < 64; ++i) {
    uint32_t a = w[i - 15], b = w[i - 2];
    w[i] = w[i - 16] + (Rotate(a, 7) ^ Rotate(a, 18) ^ a >> 3) + w[i - 7] +
           (Rotate(b, 17) ^ Rotate(b, 19) ^ b >> 10);
  }
  memcpy(s, state, 32);
  for (int i = 0; i < 64; ++i) {
    uint32_t t = s[7] + (Rotate(s[4], 6) ^ Rotate(s[4], 11) ^ Rotate(s[4], 25)) +
                 ((s[4] & s[5]) ^ (~s[4] & s[6])) + 0x9e3779b9u * (uint32_t)(i + 1) + w[i];
    uint32_t u = (Rotate(s[0], 2) ^ Rotate(s[0], 13) ^ Rotate(s[0], 22)) +
                 ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    memmove(s + 1, s, 28);
    s[4] += t;
    s[0] = t + u;
  }
  for (int i = 0; i < 8; ++i) state[i] += s[i];
}

static int Compute(void) {
  enum { kWords = 2 << 20 };
  uint32_t* data = malloc(kWords * sizeof(uint32_t));
  if (data == NULL) return Fail("malloc");
  for (uint32_t i = 0; i < kWords; ++i) data[i] = i * 2654435761u;
  uint32_t state[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  double sum = 0, begin = Now();
  for (int i = 0; i < kWords; i += 16) Compress(state, data + i);
  for (int round = 0; round < 8; ++round) {
    for (int i = 0; i < kWords; ++i) sum = sum * 0.999 + (double)data[i];
  }
  double end = Now();
  // The results are used, so that the work is done.
  free(data);
  fprintf(stderr, state[0] + (uint32_t)sum == 0 ? "zero\n" : "");
  printf("%.3f\n", (end - begin) / 1e6);
  return 0;
}

// Returns the hypercall's result, and its time in *elapsed_ns.
static long Snapshot(double* elapsed_ns) {
  km_hc_args_t args;
  memset(&args, 0, sizeof(args));
  args.arg3 = KM_SNAPSHOT_CONTINUE;
  double begin = Now();
  long result = km_hcall(HC_snapshot, &args);
  *elapsed_ns = Now() - begin;
  return result;
}

static int Snapshots(int count) {
  if (count < 1 || count > 1000) return 2;
  double* times = calloc((size_t)count, sizeof(double));
  for (int i = 0; i < count; ++i) {
    long result = Snapshot(&times[i]);
    if (result == 1) return puts("resumed") < 0;
    if (result != 0) return fprintf(stderr, "snapshot: %s\n", strerror((int)-result)), 1;
  }
  printf("%.1f\n", Median(times, count) / 1e3);
  free(times);
  return 0;
}

// `count` descriptors, of eight kinds in turn.
static int OpenMany(int count, const char* self) {
  struct rlimit limit = {(rlim_t)count + 100, (rlim_t)count + 100};
  int watch = epoll_create1(0), ends[2];
  struct itimerspec soon = {{1000, 0}, {1000, 0}};
  struct epoll_event event = {.events = EPOLLIN};
  setrlimit(RLIMIT_NOFILE, &limit);
  for (int i = 0; i + 8 <= count; i += 8) {
    int timer = timerfd_create(CLOCK_MONOTONIC, 0), counter = eventfd(1, 0);
    if (open(self, O_RDONLY) < 0 || timer < 0 || timerfd_settime(timer, 0, &soon, NULL) != 0 ||
        counter < 0 || epoll_ctl(watch, EPOLL_CTL_ADD, counter, &event) != 0 || pipe(ends) != 0 ||
        write(ends[1], "queued", 6) != 6 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 ||
        write(ends[1], "queued", 6) != 6 || socket(AF_INET, SOCK_DGRAM, 0) < 0) {
      return Fail("descriptors");
    }
  }
  return 0;
}

static void Fill(uint64_t* heap, uint64_t words, const char* how) {
  const uint64_t page_words = kPage / sizeof(uint64_t);
  if (strcmp(how, "random") == 0) {
    uint64_t x = 88172645463325252;
    for (uint64_t i = 0; i < words; ++i) {
      x ^= x << 13;
      x ^= x >> 7;
      x ^= x << 17;
      heap[i] = x;
    }
  } else if (strcmp(how, "zeros") == 0) {
    for (uint64_t i = 0; i < words; i += page_words) ((volatile uint64_t*)heap)[i] = 0;
  } else {
    const uint64_t mib_words = (1 << 20) / sizeof(uint64_t);
    for (uint64_t i = 0; i < words; i += page_words) {
      if (i % mib_words < mib_words / 8) heap[i] = i + 1;
    }
  }
}

static double ReadPages(const volatile uint8_t* bytes, uint64_t size) {
  double begin = Now();
  for (uint64_t i = 0; i < size; i += kPage) (void)bytes[i];
  return (Now() - begin) / 1e6;
}

static int Heap(uint64_t mib, const char* how) {
  uint64_t size = mib << 20;
  uint8_t* heap = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (heap == MAP_FAILED) return Fail("mmap");
  Fill((uint64_t*)heap, size / sizeof(uint64_t), how);
  char line[16];
  // read, not stdio: a resumed process shall find no line that was read ahead.
  while (read(STDIN_FILENO, line, 1) == 1) {
    double elapsed;
    long result = Snapshot(&elapsed);
    if (result == 1) {
      if (write(STDOUT_FILENO, "resumed\n", 8) != 8) return Fail("write");
      if (strcmp(how, "sparse") == 0) return 0;  // only the resume is timed
      printf("%.3f\n", ReadPages(heap, size));
      return 0;
    }
    if (result != 0) return fprintf(stderr, "snapshot: %s\n", strerror((int)-result)), 1;
    printf("%.3f\n", elapsed / 1e6);
    fflush(stdout);
  }
  return 0;
}

static void* Busy(void* argument) {
  for (volatile uint64_t x = 0;; ++x) {
  }
  return argument;
}

static int Hold(uint64_t mib, const char* how, int threads) {
  const uint64_t large = 2 << 20, size = mib << 20;
  uint8_t* memory =
      mmap(NULL, size + large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Fail("mmap");
  memory += -(uintptr_t)memory % large;
  madvise(memory, size, strcmp(how, "huge") == 0 ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  Fill((uint64_t*)memory, size / sizeof(uint64_t), "random");
  for (int i = 0; i < threads; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, Busy, NULL) != 0) return Fail("pthread_create");
  }
  sigset_t change;
  sigemptyset(&change);
  sigaddset(&change, SIGUSR1);
  sigprocmask(SIG_BLOCK, &change, NULL);
  puts("0");
  fflush(stdout);
  for (int received; sigwait(&change, &received) == 0;) {
    for (uint64_t i = 0; i < size; i += 100 * kPage) memory[i] ^= 1;
    puts("1");
    fflush(stdout);
  }
  return 1;
}

static int Mapped(const char* path) {
  struct stat status;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &status) != 0) return Fail(path);
  uint64_t size = (uint64_t)status.st_size;
  uint8_t* bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  if (bytes == MAP_FAILED) return Fail("mmap");
  printf("%.3f\n", ReadPages(bytes, size));
  return 0;
}

static double WalkPages(volatile uint64_t* words, size_t pages, int write) {
  uint64_t sum = 0;
  double begin = Now();
  for (size_t i = 0; i < pages; ++i) {
    if (write) words[i * 512] = 1;
    sum += words[i * 512];
  }
  double end = Now();
  return sum == pages ? (end - begin) / (double)pages : -1;
}

static int Touch(size_t mib, const char* how) {
  int again = strcmp(how, "again") == 0;
  size_t size = mib << 20;
  double rounds[kRounds];
  for (int i = 0; i < kRounds; ++i) {
    void* memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return Fail("mmap");
    int small = strcmp(how, "small") == 0;
    if (strcmp(how, "plain") != 0) madvise(memory, size, small ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    rounds[i] = WalkPages(memory, size / kPage, 1);
    if (again) rounds[i] = WalkPages(memory, size / kPage, 0);
    munmap(memory, size);
  }
  printf("%.2f\n", Median(rounds, kRounds));
  return 0;
}

int main(int argc, char** argv) {
  const char* verb = argc > 1 ? argv[1] : "";
  if (strcmp(verb, "getppid") == 0) return Getppid();
  if (strcmp(verb, "clock_gettime") == 0) return ClockGettime();
  if (strcmp(verb, "compute") == 0) return Compute();
  if (strcmp(verb, "snapshots") == 0 && argc == 3) return Snapshots(atoi(argv[2]));
  if (strcmp(verb, "heap") == 0 && argc == 4) return Heap((uint64_t)atoll(argv[2]), argv[3]);
  if (strcmp(verb, "hold") == 0 && argc == 5) {
    return Hold((uint64_t)atoll(argv[2]), argv[3], atoi(argv[4]));
  }
  if (strcmp(verb, "descriptors") == 0 && argc == 4) {
    return OpenMany(atoi(argv[2]), argv[0]) != 0 ? 1 : Snapshots(atoi(argv[3]));
  }
  if (strcmp(verb, "mapped") == 0 && argc == 3) return Mapped(argv[2]);
  if (strcmp(verb, "touch") == 0 && argc == 4) return Touch((size_t)atoll(argv[2]), argv[3]);
  fprintf(stderr, "workload: see its source for what it does\n");
  return 2;
}
