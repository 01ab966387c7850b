// Limits that were lowered below what the program has: it keeps that over a snapshot, and they bind
// what it makes afterwards.
#include <mqueue.h>
#include <sys/resource.h>

#include "tests/guest/guest.h"

enum { kHigh = 100, kPages = 64, kMessages = 4, kMessage = 32 };

static const int kLowered[] = {RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE};
enum { kCount = sizeof kLowered / sizeof *kLowered };

static void Lower(int resource, rlim_t to) {
  struct rlimit limit;
  CHECK_OK(getrlimit(resource, &limit));
  limit.rlim_cur = to;
  CHECK_OK(setrlimit(resource, &limit));
}

static rlim_t Now(int resource) {
  struct rlimit limit;
  CHECK_OK(getrlimit(resource, &limit));
  return limit.rlim_cur;
}

static mqd_t RemovedQueue(void) {
  char name[64];
  snprintf(name, sizeof name, "/km-limits-%d", getpid());
  struct mq_attr attributes = {.mq_maxmsg = kMessages, .mq_msgsize = kMessage};
  const mqd_t made = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
  CHECK_OK(made);
  CHECK_OK(mq_unlink(name));
  return made;
}

int main(void) {
  const int file = PatternFile("file", kPages * kPage);
  CHECK_EQ(dup2(file, kHigh), kHigh);
  const int memory = memfd_create("memory", 0);
  CHECK_OK(ftruncate(memory, kPages * kPage));
  char* of_file =
      mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_LOCKED, file, 0);
  char* of_memory = mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  char* unnamed =
      mmap(NULL, kPages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(of_file != MAP_FAILED && of_memory != MAP_FAILED && unnamed != MAP_FAILED);
  of_file[1] = of_memory[2] = unnamed[3] = 'x';
  const mqd_t queue = RemovedQueue();
  Say("made");
  for (int i = 0; i < kCount; i++) Lower(kLowered[i], 0);
  Lower(RLIMIT_NOFILE, 10);
  GuestSnapshot();
  for (int i = 0; i < kCount; i++) CHECK_EQ(Now(kLowered[i]), 0);
  CHECK_EQ(Now(RLIMIT_NOFILE), 10);
  CHECK_EQ(pwrite(kHigh, "y", 1, 5), 1);
  CHECK_EQ(of_file[5], 'y');
  CHECK_EQ(of_file[1] + of_memory[2] + unnamed[3], 3 * 'x');
  CHECK_EQ(fcntl(0, F_DUPFD, 10), -1);
  CHECK_ERRNO(mmap(NULL, kPage, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0), ENOMEM);
  CHECK_OK(mq_send(queue, "z", 1, 0));
  Lower(RLIMIT_NOFILE, 0);
  GuestSnapshot();
  CHECK_EQ(Now(RLIMIT_NOFILE), 0);
  CHECK_ERRNO(dup(1), EMFILE);
  CHECK_EQ(pwrite(kHigh, "z", 1, 5), 1);
  Say("kept");
  return 0;
}
