/* Makes a system call with each argument in turn at each of a set of values, and tells what came of
 * it. What is called comes from the table of system calls; errnos.sh compares the native run with
 * the one under km.
 *
 *   errnos list          "NAME LEVEL called|excepted CAVEAT" of every row
 *   errnos unsupported   calls those that have none: "NAME ERRNO"
 *   errnos NAME          every case of one call
 *
 * The results go to a mapped file, "results": no call takes that away, and after a crash it says
 * which call it was. */
#include <errno.h>
#include <km/hypercall.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "errnos_cases.h"

/* ---- The table ---- */

enum Support { kFull, kPartial, kRefused, kLater };
static const char* const kLevels[] = {"full", "partial", "refused", "later"};

struct Row {
  long number;
  const char* name;
  enum Support support;
  const char* kinds;
  const char* caveat;
};

static const struct Row kRows[] = {
#define KM_SYSCALL(number, name, handler, support, kinds, caveat) \
  {number, #name, support, kinds, caveat},
#include "km/syscalls/table.def"
#undef KM_SYSCALL
};
#define ROWS (sizeof kRows / sizeof *kRows)

/* ---- Values ---- */

/* At the same address in every run; each page but one is a window into one memory file, so that the
 * test can write what the call may not. */
#define ARENA 0x10000000ul
#define PAGE 4096ul
#define SPARE (ARENA + 7 * PAGE)         /* behind the arguments' own */
#define STRADDLE_END (ARENA + 10 * PAGE) /* nothing is mapped from here to the next */
#define READ_ONLY (ARENA + 12 * PAGE)
#define NO_ACCESS (ARENA + 13 * PAGE)
#define UNMAPPED (ARENA + 16 * PAGE)
#define ARENA_PAGES 20

enum Value {
  kZero,
  kMinusOne,
  kUnmapped,
  kStraddling,
  kMisaligned,
  kReadOnlyPage,
  kNoAccess,
  kOnes,
  kHuge,
  kIntMax,
  kUpperHalf,
  kValues
};
static const char* const kValueNames[] = {"0",          "-1",        "unmapped",  "straddling",
                                          "misaligned", "read-only", "no-access", "ones",
                                          "2^63",       "int-max",   "2^32"};

static uint8_t* shadow; /* the arena's file, writable throughout */
static int arena_file;

static void MapArena(void) {
  int all = PROT_READ | PROT_WRITE;
  munmap((void*)ARENA, ARENA_PAGES * PAGE);
  mmap((void*)ARENA, 10 * PAGE, all, MAP_SHARED | MAP_FIXED, arena_file, 0);
  mmap((void*)READ_ONLY, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, arena_file, 12 * PAGE);
  mmap((void*)NO_ACCESS, PAGE, PROT_NONE, MAP_SHARED | MAP_FIXED, arena_file, 13 * PAGE);
}

/* `page`: the argument's own, filled. */
static uint64_t ValueOf(enum Value value, uint64_t page) {
  uint8_t* content = shadow + (page - ARENA);
  switch (value) {
    case kMinusOne:
      return ~0ul;
    case kUnmapped:
      return UNMAPPED;
    case kStraddling:
      memcpy(shadow + 10 * PAGE - 4, content, 4);
      return STRADDLE_END - 4;
    case kMisaligned:
      memmove(content + 1, content, PAGE - 1);
      return page + 1;
    case kReadOnlyPage:
      memcpy(shadow + 12 * PAGE, content, PAGE);
      return READ_ONLY;
    case kNoAccess:
      return NO_ACCESS;
    case kOnes:
      memset(content, 0xff, PAGE);
      return page;
    case kHuge:
      return 1ul << 63;
    case kIntMax:
      return 0x7fffffff;
    case kUpperHalf:
      return 1ul << 32;
    default:
      return 0;
  }
}

/* ---- The call, and whoever ends its waiting ---- */

static atomic_uint calls;   /* odd: one is being made */
static atomic_uint signals; /* bit N-1: signal N came */
static pid_t caller;

static void OnSignal(int number) {
  if (number != SIGUSR2 && number <= 32) atomic_fetch_or(&signals, 1u << (number - 1));
}

/* Interrupts a call that has not returned for a while. */
static void* Watch(void* unused) {
  unsigned seen = 0;
  for (int same = 0;;) {
    nanosleep(&(struct timespec){.tv_nsec = 25000000}, NULL);
    unsigned now = atomic_load(&calls);
    same = now == seen && now % 2 == 1 ? same + 1 : 0;
    seen = now;
    if (same >= 4) syscall(SYS_tgkill, getpid(), caller, SIGUSR2);
  }
  return unused;
}

static long RawCall(long number, const uint64_t* a) {
  register long r10 asm("r10") = (long)a[3];
  register long r8 asm("r8") = (long)a[4];
  register long r9 asm("r9") = (long)a[5];
  long result;
  atomic_fetch_add(&calls, 1);
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  atomic_fetch_add(&calls, 1);
  return result;
}

/* ---- Results ---- */

static char* results;
#define RESULTS_SIZE (1ul << 20)
static size_t results_length;

__attribute__((format(printf, 1, 2))) static void Tell(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  results_length +=
      (size_t)vsnprintf(results + results_length, RESULTS_SIZE - results_length, format, arguments);
  va_end(arguments);
}

static void TellResult(const struct Row* row, long result) {
  char word[64];
  snprintf(word, sizeof word, " %s ", row->name);
  if (result < 0 && result >= -4095) {
    Tell("%s", strerrorname_np((int)-result));
  } else if (strstr(kVarying, word) != NULL) {
    Tell("ok");
  } else if (result >= 0 && result < 65536) {
    Tell("%ld", result);
  } else {
    Tell("large");
  }
  for (int number = 1; number <= 32; number++) {
    if (atomic_load(&signals) >> (number - 1) & 1) Tell(" SIG%s", sigabbrev_np(number));
  }
  Tell("\n");
}

/* ---- Surroundings ---- */

/* Nothing waits: how calls wait is for other tests. */
static void MoveFd(int from, int to) {
  if (from < 0) return;
  dup2(from, to);
  close(from);
  fcntl(to, F_SETFL, fcntl(to, F_GETFL) | O_NONBLOCK);
}

static bool Supported(long number) {
  for (size_t i = 0; i < ROWS; i++) {
    if (kRows[i].number == number) return kRows[i].support <= kPartial;
  }
  return false;
}

static void OpenSockets(void) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0) {
    MoveFd(pair[0], kDatagram);
    MoveFd(pair[1], kDatagram2);
  }
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) {
    MoveFd(pair[0], kStream);
    MoveFd(pair[1], kStream2);
  }
  MoveFd(socket(AF_UNIX, SOCK_STREAM, 0), kUnbound);
  MoveFd(socket(AF_UNIX, SOCK_STREAM, 0), kListener);
  bind(kListener, (struct sockaddr*)&(struct sockaddr_un){AF_UNIX, "listener"}, 11);
  listen(kListener, 4);
  MoveFd(socket(AF_INET, SOCK_DGRAM, 0), kInet);
  MoveFd(socket(AF_INET, SOCK_STREAM, 0), kTcp);
}

static void OpenDescriptors(void) {
  int pair[2];
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  MoveFd(open("file", O_RDWR | O_CREAT | O_TRUNC, 0600), kFile);
  ftruncate(kFile, 4096);
  MoveFd(open("file", O_RDONLY), kReadOnly);
  MoveFd(open("file", O_PATH), kPath);
  MoveFd(open(".", O_RDONLY | O_DIRECTORY), kDirectory);
  pipe(pair);
  MoveFd(pair[0], kPipeRead);
  MoveFd(pair[1], kPipeWrite);
  pipe(pair);
  MoveFd(pair[0], kEmptyRead);
  MoveFd(pair[1], kEmptyWrite);
  pipe(pair);
  close(pair[0]);
  MoveFd(pair[1], kBroken);
  MoveFd(epoll_create1(0), kEpoll);
  MoveFd(eventfd(0, 0), kEvent);
  epoll_ctl(kEpoll, EPOLL_CTL_ADD, kPipeRead, &(struct epoll_event){.events = EPOLLIN});
  MoveFd(memfd_create("memory", MFD_ALLOW_SEALING), kMemfd);
  if (Supported(SYS_timerfd_create)) MoveFd(timerfd_create(CLOCK_MONOTONIC, 0), kTimer);
  if (Supported(SYS_signalfd4)) MoveFd(signalfd(-1, &usr1, 0), kSignals);
  if (Supported(SYS_inotify_init1)) MoveFd(inotify_init1(0), kInotify);
  MoveFd(open("/dev/ptmx", O_RDWR | O_NOCTTY), kTerminal);
  OpenSockets();
}

/* Before each call, whatever the last one did. */
static void Refresh(const struct Row* row) {
  uint64_t none = 0;
  sigset_t empty;
  sigemptyset(&empty);
  syscall(SYS_rt_sigprocmask, SIG_SETMASK, &empty, NULL, 8);
  syscall(SYS_close_range, kTerminal + 1, ~0u, 0);
  memset(shadow, 0, 10 * PAGE);
  if (strstr(" mmap munmap mremap mprotect madvise pkey_mprotect shmat mseal process_madvise "
             "remap_file_pages ",
             row->name) != NULL) {
    MapArena();
  }
  if (strstr(row->kinds, "path") != NULL) {
    unlink("new");
    rmdir("new");
    mkdir("folder", 0700);
    close(open("file", O_RDWR | O_CREAT, 0600));
    chmod("file", 0600);
  }
  lseek(kFile, 0, SEEK_SET);
  write(kPipeWrite, shadow, 100);
  setitimer(ITIMER_REAL, (void*)&(uint64_t[4]){none}, NULL);
  atomic_store(&signals, 0);
}

static void Prepare(void) {
  int file = open("results", O_RDWR | O_CREAT | O_TRUNC, 0600);
  ftruncate(file, RESULTS_SIZE);
  results = mmap(NULL, RESULTS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  arena_file = memfd_create("arena", 0);
  ftruncate(arena_file, ARENA_PAGES * PAGE);
  MoveFd(arena_file, 9);
  arena_file = 9;
  shadow = mmap(NULL, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, arena_file, 0);
  MapArena();
  symlink("file", "link");
  mkdir("folder", 0700);
  for (int number = 1; number <= 64; number++) {
    struct sigaction action = {.sa_handler = OnSignal};
    /* A fault of the test's own, or of km's, ends it. */
    if (number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGTRAP) continue;
    sigaction(number, &action, NULL);
  }
  OpenDescriptors();
  /* Calls that would fill the disk fail instead. */
  struct rlimit limit = {1 << 20, 1 << 20};
  setrlimit(RLIMIT_FSIZE, &limit);
  caller = (pid_t)syscall(SYS_gettid);
  pthread_t watch;
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  pthread_create(&watch, NULL, Watch, NULL);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* ---- One row ---- */

struct Kinds {
  int count;
  char text[6][32];
};

static struct Kinds KindsOf(const struct Row* row) {
  struct Kinds kinds = {0};
  const char* text = row->kinds;
  while (*text != '\0' && *text != '=' && kinds.count < 6) {
    size_t length = strcspn(text, " =");
    size_t name = strcspn(text, " =:");
    memcpy(kinds.text[kinds.count++], text, name);
    text += length;
    text += strspn(text, " ");
  }
  return kinds;
}

static bool IsPointer(const char* kind) {
  size_t length = strlen(kind);
  static const char kPointers[] =
      " path str strings in out addr fdset pollfds sigset_arg_in iovec_in iovec_out ";
  char word[40];
  snprintf(word, sizeof word, " %s ", kind);
  return strstr(kPointers, word) != NULL || (length > 3 && strcmp(kind + length - 3, "_in") == 0) ||
         (length > 4 && strcmp(kind + length - 4, "_out") == 0);
}

static bool Excepted(const char* name, int argument, const char* value) {
  for (size_t i = 0; i < sizeof kExceptions / sizeof *kExceptions; i++) {
    const struct Exception* e = &kExceptions[i];
    if (strcmp(e->name, name) == 0 && e->argument == argument &&
        (e->value == NULL || (value != NULL && strcmp(e->value, value) == 0))) {
      return true;
    }
  }
  return false;
}

/* The arguments that `base` asks for, argument `varied` at `value`, and what they point to. */
static void MakeArguments(const struct Row* row, const int64_t* base, int varied, enum Value value,
                          uint64_t* arguments) {
  struct Kinds kinds = KindsOf(row);
  for (int i = 0; i < 6; i++) {
    uint64_t page = ARENA + (uint64_t)i * PAGE;
    const char* kind = i < kinds.count ? kinds.text[i] : "";
    bool buffer = base[i] == BUFFER || (base[i] == DEFAULT && IsPointer(kind));
    if (buffer || i == varied) {
      FillBuffer(row->name, i, kind, shadow + (page - ARENA), (uint8_t*)SPARE);
    }
    arguments[i] = buffer               ? page
                   : base[i] == DEFAULT ? (uint64_t)DefaultNumber(kind)
                                        : (uint64_t)base[i];
    if (i == varied) arguments[i] = ValueOf(value, page);
  }
}

static void Call(const struct Row* row, const int64_t* base, int varied, enum Value value) {
  uint64_t a[6];
  Refresh(row);
  MakeArguments(row, base, varied, value, a);
  Tell("%s(%lx, %lx, %lx, %lx, %lx, %lx) ", row->name, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (varied >= 0) Tell("[%d %s] ", varied + 1, kValueNames[value]);
  TellResult(row, RawCall(row->number, a));
}

static void CallAll(const struct Row* row, const int64_t* base) {
  struct Kinds kinds = KindsOf(row);
  Call(row, base, -1, kZero);
  for (int argument = 0; argument < kinds.count; argument++) {
    for (int value = 0; value < kValues; value++) {
      if (!Excepted(row->name, argument, kValueNames[value])) {
        Call(row, base, argument, (enum Value)value);
      }
    }
  }
}

static const int64_t kDefaults[6] = {DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT, DEFAULT};

static void One(const struct Row* row) {
  Prepare();
  CallAll(row, kDefaults);
  for (size_t i = 0; i < sizeof kCases / sizeof *kCases; i++) {
    const struct Case* made = &kCases[i];
    if (strcmp(made->name, row->name) != 0) continue;
    /* On a kind of descriptor that there is no support for. */
    int64_t first = made->arguments[0];
    if (first >= kTimer && first <= kTerminal && fcntl((int)first, F_GETFD) < 0) continue;
    CallAll(row, made->arguments);
  }
}

/* Valid arguments for a call: of its first case, or by their kinds. */
static const int64_t* ValidArguments(const struct Row* row) {
  for (size_t i = 0; i < sizeof kCases / sizeof *kCases; i++) {
    if (strcmp(kCases[i].name, row->name) == 0) return kCases[i].arguments;
  }
  return kDefaults;
}

/* Rows without support: what they answer to valid arguments; and that they refuse wild ones. */
static void Unsupported(void) {
  static const uint64_t kWild[6] = {~0ul, UNMAPPED, 1ul << 63, ~0ul, UNMAPPED, 1};
  Prepare();
  for (size_t i = 0; i < ROWS; i++) {
    const struct Row* row = &kRows[i];
    if (row->support != kLater && row->support != kRefused) continue;
    uint64_t arguments[6];
    Refresh(row);
    MakeArguments(row, ValidArguments(row), -1, kZero, arguments);
    Tell("%s ", row->name);
    TellResult(row, RawCall(row->number, arguments));
    long wild = RawCall(row->number, kWild);
    if (wild >= 0 || (row->support == kLater && wild != -ENOSYS)) Tell("wild: %ld\n", wild);
  }
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  if (strcmp(argv[1], "unsupported") == 0) {
    Unsupported();
    return 0;
  }
  for (size_t i = 0; i < ROWS; i++) {
    const struct Row* row = &kRows[i];
    if (row->number >= KM_HC_BASE) continue;
    if (strcmp(argv[1], "list") == 0) {
      printf("%s %s %s %s\n", row->name, kLevels[row->support],
             Excepted(row->name, ANY, NULL) ? "excepted" : "called", row->caveat);
    } else if (strcmp(argv[1], row->name) == 0) {
      One(row);
      Tell("done\n");
      _exit(0);
    }
  }
  return strcmp(argv[1], "list") == 0 ? 0 : 2;
}
