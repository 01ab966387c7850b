// args: one two
// The texts that /proc shows of the program: as many fields as natively, with the same names, and
// what is the program's own in them.
#include <ctype.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>

#include "tests/guest/guest.h"

static char text[1 << 20];
static atomic_int ready, finish;
static pid_t other;

static ssize_t ReadAll(const char* path) {
  int fd = open(path, O_RDONLY);
  if (fd < 0) FAIL("cannot open %s: %s", path, strerror(errno));
  size_t got = 0;
  ssize_t more;
  while ((more = read(fd, text + got, sizeof(text) - 1 - got)) > 0) got += (size_t)more;
  text[got] = 0;
  CHECK_OK(close(fd));
  return (ssize_t)got;
}

static const char* Value(const char* name) {
  static char value[256];
  char* at = text;
  size_t length = strlen(name);
  while (at != NULL && !(strncmp(at, name, length) == 0 && at[length] == ':')) {
    at = strchr(at, '\n');
    if (at != NULL) at++;
  }
  if (at == NULL) FAIL("no %s", name);
  at += length + 1;
  while (isspace((unsigned char)*at)) at++;
  snprintf(value, sizeof(value), "%.*s", (int)strcspn(at, "\n"), at);
  return value;
}

// The first words of all lines, once each as they come.
static void SayNames(const char* what, size_t most_lines) {
  printf("%s:", what);
  for (char* line = text; *line != 0 && most_lines > 0; most_lines--) {
    printf(" %.*s", (int)strcspn(line, ":\n"), line);
    line += strcspn(line, "\n");
    if (*line == '\n') line++;
  }
  Say(" .");
}

static unsigned long StatField(int number) {
  char* at = strrchr(text, ')') + 2;
  for (int field = 3; field < number; field++) at = strchr(at, ' ') + 1;
  return strtoul(at, NULL, 10);
}

// Much, for the kernel counts pages that are there on each processor and adds that up now and then.
static volatile uint8_t touched[8 << 20];

static void Stat(const char* path, pid_t id, const char* name) {
  for (size_t i = 0; i < sizeof(touched); i += kPage) touched[i]++;
  ReadAll(path);
  char start[64];
  snprintf(start, sizeof(start), "%d (%s) ", id, name);
  CHECK_EQ(strncmp(text, start, strlen(start)), 0);
  int spaces = 0;
  for (char* at = strrchr(text, ')'); *at != 0; at++) spaces += *at == ' ';
  Say("stat: %d fields behind the name, %lu threads, exit signal %ld", spaces, StatField(20),
      (long)StatField(38));
  if (!GuestInjected()) CHECK_EQ(StatField(4), getppid());  // whoever resumes it
  CHECK_EQ(StatField(5), getpgrp());
  CHECK_EQ(StatField(6), getsid(0));
  unsigned long size = StatField(23), resident = StatField(24) * kPage;
  CHECK(size > 1 << 20 && size < 1ul << 32 && resident > sizeof(touched) / 2 && resident <= size);
  struct rlimit limit;
  CHECK_OK(getrlimit(RLIMIT_RSS, &limit));
  CHECK_EQ(StatField(25), limit.rlim_cur);
  unsigned long code = (unsigned long)(uintptr_t)&Stat;
  CHECK(StatField(26) <= code && code < StatField(27));
  unsigned long stack = (unsigned long)(uintptr_t)__builtin_frame_address(0);
  if (id == getpid() && OwnTid() == getpid()) CHECK(stack < StatField(28));
  CHECK_EQ(StatField(29), 0);
  CHECK_EQ(StatField(30), 0);
  unsigned long data = (unsigned long)(uintptr_t)&text;
  CHECK(StatField(45) <= data);
  CHECK(StatField(48) < StatField(49) && StatField(49) <= StatField(50));
  Say("signals %lx %lx %lx %lx", StatField(31), StatField(32), StatField(33), StatField(34));
}

static long Kilobytes(const char* name) {
  const char* value = Value(name);
  CHECK(strstr(value, " kB") != NULL);
  return atol(value);
}

static void Status(const char* path, pid_t id) {
  ReadAll(path);
  SayNames("status", 1000);
  CHECK_EQ(atoi(Value("Tgid")), getpid());
  CHECK_EQ(atoi(Value("Pid")), id);
  if (!GuestInjected()) CHECK_EQ(atoi(Value("PPid")), getppid());
  CHECK_EQ(atoi(Value("NSpid")), id);
  CHECK(Kilobytes("VmSize") <= Kilobytes("VmPeak"));
  CHECK(Kilobytes("VmRSS") <= Kilobytes("VmHWM"));
  CHECK_EQ(Kilobytes("VmRSS"), Kilobytes("RssAnon") + Kilobytes("RssFile") + Kilobytes("RssShmem"));
  CHECK(Kilobytes("VmExe") > 0 && Kilobytes("VmLib") > 0 && Kilobytes("VmData") > 0);
  CHECK(Kilobytes("VmStk") >= 4);
  Say("%s %s threads, pending %s", Value("Name"), "has", Value("SigPnd"));
  Say("threads %s", Value("Threads"));
  Say("pending %s", Value("ShdPnd"));
  Say("blocked %s", Value("SigBlk"));
  Say("ignored %s", Value("SigIgn"));
  Say("caught %s", Value("SigCgt"));
}

// What memory was touched counts, and what was given back does not.
static void Resident(void) {
  ReadAll("/proc/self/status");
  long before = Kilobytes("RssAnon"), size_before = Kilobytes("VmSize");
  const size_t size = 8 << 20;
  uint8_t* memory = MapAnonymous(size, PROT_READ | PROT_WRITE);
  memset(memory, 1, size);
  ReadAll("/proc/self/status");
  long after = Kilobytes("RssAnon");
  CHECK(after >= before + 7000 && after <= before + 10000);
  CHECK_EQ(Kilobytes("VmSize"), size_before + 8192);
  ReadAll("/proc/self/statm");
  long pages[7];
  CHECK_EQ(sscanf(text, "%ld %ld %ld %ld %ld %ld %ld", pages, pages + 1, pages + 2, pages + 3,
                  pages + 4, pages + 5, pages + 6),
           7);
  CHECK(pages[1] * 4 >= before + 7000 && pages[2] <= pages[1]);
  CHECK(pages[4] == 0 && pages[6] == 0);
  ReadAll("/proc/self/smaps_rollup");
  // Another count of the same: threads of theirs may keep a few hundred pages that are not told
  // yet.
  CHECK(labs(Kilobytes("Anonymous") - after) < 1000);
  // The mapping's own lines.
  ReadAll("/proc/self/smaps");
  char* at = text;
  unsigned long start = 0, end = 0;
  while (sscanf(at, "%lx-%lx ", &start, &end) != 2 || (unsigned long)(uintptr_t)memory >= end) {
    at = strchr(at, '\n') + 1;
  }
  memmove(text, at, strlen(at) + 1);
  CHECK(start <= (unsigned long)(uintptr_t)memory);
  CHECK(Kilobytes("Rss") >= 8192 && Kilobytes("Size") == (long)(end - start) / 1024);
  CHECK(Kilobytes("Private_Dirty") >= 8192 && Kilobytes("Shared_Dirty") == 0);
  CHECK(strstr(Value("VmFlags"), "rd wr mr mw me ") == Value("VmFlags"));
  CHECK_OK(munmap(memory, size));
  ReadAll("/proc/self/status");
  CHECK(Kilobytes("RssAnon") < before + 2000);
  Say("memory is counted");
}

// Every line of maps has its entry, with every field.
static void Smaps(void) {
  ReadAll("/proc/self/smaps");
  size_t lines = 0, headers = 0;
  for (char* line = text; *line != 0; lines++) {
    unsigned long start, end;
    headers += sscanf(line, "%lx-%lx ", &start, &end) == 2;
    line += strcspn(line, "\n");
    if (*line == '\n') line++;
  }
  CHECK(headers > 5 && lines % headers == 0);
  char* second = strchr(text, '\n') + 1;
  memmove(text, second, strlen(second) + 1);
  SayNames("smaps", lines / headers - 1);
  ReadAll("/proc/self/smaps_rollup");
  CHECK(strstr(text, " ---p 00000000 00:00 0 ") != NULL && strstr(text, "[rollup]\n") != NULL);
  second = strchr(text, '\n') + 1;
  memmove(text, second, strlen(second) + 1);
  SayNames("smaps_rollup", 1000);
}

static void* Other(void* unused) {
  other = OwnTid();
  CHECK_OK(prctl(PR_SET_NAME, "other"));
  BlockSignals(SIGUSR2, 0);
  CHECK_ZERO(pthread_kill(pthread_self(), SIGUSR2));
  ReadAll("/proc/thread-self/comm");
  CHECK_EQ(strcmp(text, "other\n"), 0);
  ReadAll("/proc/thread-self/syscall");
  CHECK_EQ(atoi(text), SYS_read);
  atomic_store(&ready, 1);
  AwaitAtLeast(&finish, 1);
  ReadAll("/proc/thread-self/comm");
  CHECK_EQ(strcmp(text, "a longer name t\n"), 0);
  return unused;
}

// Another thread's files, and its name, which can be written.
static void Threads(void) {
  pthread_t thread = StartThread(Other, NULL);
  AwaitAtLeast(&ready, 1);
  char path[100];
  snprintf(path, sizeof(path), "/proc/self/task/%d/stat", other);
  Stat(path, other, "other");
  snprintf(path, sizeof(path), "/proc/self/task/%d/status", other);
  Status(path, other);
  snprintf(path, sizeof(path), "/proc/self/task/%d/comm", other);
  ReadAll(path);
  Say("the other is %s", text);
  int fd = open(path, O_RDWR);
  CHECK_OK(fd);
  CHECK_EQ(write(fd, "a longer name than fits", 23), 23);
  CHECK_EQ(pread(fd, text, 100, 0), 16);
  CHECK_OK(close(fd));
  CHECK_ZERO(pthread_setname_np(thread, "short"));
  CHECK_ZERO(pthread_getname_np(thread, text, 100));
  CHECK_EQ(strcmp(text, "short"), 0);
  CHECK_ZERO(pthread_setname_np(thread, "a longer name t"));
  CHECK_EQ(access("/proc/self/task/1/comm", F_OK), -1);
  atomic_store(&finish, 1);
  JoinThread(thread);
  while (access(path, F_OK) == 0) SleepMs(1);  // joined is not gone yet
  CHECK_ERRNO(open(path, O_RDONLY), ENOENT);
  Say("threads");
}

// A text is made anew when it is read from the beginning.
static void Again(void) {
  int fd = open("/proc/self/status", O_RDONLY);
  CHECK_OK(fd);
  CHECK(pread(fd, text, sizeof(text), 0) > 0);
  BlockSignals(SIGHUP, 0);
  ssize_t length = pread(fd, text, sizeof(text) - 1, 0);
  text[length] = 0;
  Say("blocked %s", Value("SigBlk"));
  UnblockSignals(SIGHUP, 0);
  CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
  char part[8];
  CHECK_EQ(read(fd, part, 5), 5);
  CHECK_EQ(memcmp(part, "Name:", 5), 0);
  CHECK_EQ(lseek(fd, 0, SEEK_CUR), 5);
  CHECK_ERRNO(lseek(fd, 0, SEEK_END), EINVAL);
  CHECK_EQ(pread(fd, part, 5, 1 << 20), 0);
  CHECK_ERRNO(write(fd, part, 1), EBADF);
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV);
  CHECK_OK(close(fd));
}

// They are read and nothing else: programs that begin with sendfile or splice go back to read.
static void NotSpliced(const char* path) {
  int fd = open(path, O_RDONLY), null = open("/dev/null", O_WRONLY), ends[2];
  CHECK(fd >= 0 && null >= 0);
  CHECK_OK(pipe(ends));
  CHECK_ERRNO(sendfile(null, fd, NULL, 100), EINVAL);
  CHECK_ERRNO(splice(fd, NULL, ends[1], NULL, 100, 0), EINVAL);
  CHECK_OK(close(fd) | close(null) | close(ends[0]) | close(ends[1]));
}

static char whole[4096];
static ssize_t whole_size;
static int whole_fd;

static void* ReadWhole(void* unused) {
  char got[sizeof(whole)];
  for (int i = 0; i < 300; i++) {
    CHECK_EQ(pread(whole_fd, got, sizeof(got), 0), whole_size);
    CHECK_EQ(memcmp(got, whole, (size_t)whole_size), 0);
  }
  return unused;
}

// Two threads with one open file, and no file that the program could write.
static void Shared(void) {
  whole_fd = open("/proc/self/limits", O_RDONLY);
  whole_size = pread(whole_fd, whole, sizeof(whole), 0);
  CHECK(whole_size > 100);
  pthread_t thread = StartThread(ReadWhole, NULL);
  ReadWhole(NULL);
  JoinThread(thread);
  CHECK_OK(close(whole_fd));
  CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
  struct rlimit old, none;
  CHECK_OK(getrlimit(RLIMIT_FSIZE, &old));
  none = old;
  none.rlim_cur = 0;
  CHECK_OK(setrlimit(RLIMIT_FSIZE, &none));
  CHECK(ReadAll("/proc/self/maps") > 100);
  CHECK_OK(setrlimit(RLIMIT_FSIZE, &old));
}

static void Others(void) {
  ReadAll("/proc/self/fdinfo/0");
  SayNames("fdinfo", 10);
  int fd = open("/dev/null", O_RDWR | O_CLOEXEC | O_APPEND);
  char path[100];
  snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
  ReadAll(path);
  Say("flags %s", Value("flags"));
  CHECK_OK(fcntl(fd, F_SETFD, 0));
  ReadAll(path);
  Say("flags %s", Value("flags"));
  CHECK_OK(close(fd));
  CHECK_ERRNO(open(path, O_RDONLY), ENOENT);
  ReadAll("/proc/self/limits");
  SayNames("limits", 20);
  CHECK_EQ(ReadAll("/proc/self/auxv") % 16, 0);
  ReadAll("/proc/self/cmdline");
  CHECK_EQ(strcmp(text + strlen(text) + 1, "one"), 0);
  ReadAll("/proc/self/personality");
  Say("personality %s", text);
  const char* there[] = {
      "cgroup",        "io",        "loginuid",  "mountinfo",    "mounts",       "mountstats",
      "oom_score_adj", "sched",     "sessionid", "schedstat",    "wchan",        "uid_map",
      "gid_map",       "setgroups", "net/unix",  "attr/current", "timerslack_ns"};
  for (size_t i = 0; i < sizeof(there) / sizeof(*there); i++) {
    snprintf(path, sizeof(path), "/proc/self/%s", there[i]);
    // A kernel without a security module has no label to tell.
    if (access(path, F_OK) == 0 && strncmp(there[i], "attr", 4) != 0) ReadAll(path);
  }
  ReadAll("/proc/self/sched");
  char start[100];
  snprintf(start, sizeof(start), "renamed (%d, #threads: 1)\n", getpid());
  CHECK_EQ(strncmp(text, start, strlen(start)), 0);
}

static void Nothing(int sig) { (void)sig; }

int main(void) {
  CHECK_OK(prctl(PR_SET_NAME, "renamed"));
  CHECK(signal(SIGUSR1, Nothing) != SIG_ERR && signal(SIGURG, SIG_IGN) != SIG_ERR);
  BlockSignals(SIGALRM, SIGTERM);
  CHECK_OK(kill(getpid(), SIGTERM));
  Stat("/proc/self/stat", getpid(), "renamed");
  Status("/proc/self/status", getpid());
  Smaps();
  Resident();
  GuestSnapshot();
  Stat("/proc/self/stat", getpid(), "renamed");
  Threads();
  Again();
  Others();
  NotSpliced("/proc/self/maps");
  NotSpliced("/proc/self/comm");
  NotSpliced("/proc/self/mem");
  Shared();
  return 0;
}
