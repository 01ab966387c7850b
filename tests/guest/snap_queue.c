// POSIX message queues over snapshots: messages and their order, room, O_NONBLOCK, several
// descriptors of one, one that was removed, notices, a receiver that waits.
#include <mqueue.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

static mqd_t named, reader, removed, second, awaited;
static char name[64], other_name[64];
static atomic_int notified, at;
static siginfo_t notice;

static void OnNotice(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  notice = *info;
  atomic_fetch_add(&notified, 1);
}

static mqd_t Make(const char* called, long messages, long size) {
  struct mq_attr attributes = {.mq_maxmsg = messages, .mq_msgsize = size};
  mqd_t made = mq_open(called, O_RDWR | O_CREAT | O_EXCL, 0640, &attributes);
  CHECK_OK(made);
  return made;
}

static void Tell(void) {
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
  event.sigev_value.sival_ptr = (void*)0x123456789abcul;
  CHECK_OK(mq_notify(awaited, &event));
}

static void* Receives(void* unused) {
  char text[8];
  unsigned priority;
  atomic_store(&at, 1);
  CHECK_EQ(mq_receive(second, text, sizeof text, &priority), 4);
  CHECK_EQ(priority, 6);
  return unused;
}

static struct mq_attr Attributes(mqd_t queue) {
  struct mq_attr attributes;
  CHECK_OK(mq_getattr(queue, &attributes));
  return attributes;
}

static void CheckAll(int round) {
  CHECK_EQ(Attributes(named).mq_curmsgs, 5);
  CHECK_EQ(Attributes(named).mq_maxmsg, 5);
  CHECK_EQ(Attributes(named).mq_msgsize, 16);
  CHECK_EQ(Attributes(named).mq_flags, 0);
  CHECK_EQ(Attributes(reader).mq_flags, O_NONBLOCK);
  CHECK_EQ(Attributes(reader).mq_curmsgs, 5);
  CHECK_ERRNO(mq_send(reader, "", 0, 0), EBADF);  // for reading alone
  CHECK_EQ(fcntl(named, F_GETFD), FD_CLOEXEC);
  struct stat status;
  CHECK_OK(fstat(removed, &status));
  CHECK_EQ(status.st_nlink, 0);
  CHECK_EQ(status.st_mode & 0777, 0640 & ~0022);
  CHECK(GuestSameFile(removed, second));
  char path[32], link[96] = "", wanted[96];
  snprintf(path, sizeof path, "/proc/self/fd/%d", removed);
  snprintf(wanted, sizeof wanted, "%s (deleted)", other_name);
  CHECK_OK(readlink(path, link, sizeof link - 1));
  if (strcmp(link, wanted) != 0) FAIL("it is called '%s', not '%s'", link, wanted);
  CHECK_ERRNO(mq_open(other_name, O_RDONLY), ENOENT);
  // Nobody was told of anything, and whoever asked still is to be.
  CHECK_EQ(atomic_load(&notified), round);
  struct sigevent event = {.sigev_notify = SIGEV_NONE};
  CHECK_ERRNO(mq_notify(awaited, &event), EBUSY);
  CHECK_OK(mq_send(awaited, "x", 1, 0));
  AwaitAtLeast(&notified, round + 1);
  CHECK_EQ(notice.si_code, SI_MESGQ);
  CHECK_EQ(notice.si_value.sival_ptr, (void*)0x123456789abcul);
  CHECK_EQ(notice.si_pid, getpid());
  char text[16];
  CHECK_EQ(mq_receive(awaited, text, sizeof text, NULL), 1);
  Tell();
}

static void Order(void) {
  static const char* const kWanted[] = {"nine", "five first", "five second", "", "zero"};
  static const unsigned kPriorities[] = {9, 5, 5, 1, 0};
  char text[16];
  unsigned priority;
  for (int i = 0; i < 5; i++) {
    CHECK_EQ(mq_receive(reader, text, sizeof text, &priority), strlen(kWanted[i]));
    CHECK_EQ(priority, kPriorities[i]);
    CHECK(memcmp(text, kWanted[i], strlen(kWanted[i])) == 0);
  }
  CHECK_ERRNO(mq_receive(reader, text, sizeof text, &priority), EAGAIN);
}

int main(void) {
  snprintf(name, sizeof name, "/km-snap-%d", getpid());
  snprintf(other_name, sizeof other_name, "/km-snap-%d-other", getpid());
  umask(0022);
  OnSignal(SIGRTMIN, OnNotice, SA_RESTART);
  named = Make(name, 5, 16);
  reader = mq_open(name, O_RDONLY | O_NONBLOCK);
  CHECK_OK(reader);
  CHECK_OK(mq_send(named, "five first", 10, 5));
  CHECK_OK(mq_send(named, "zero", 4, 0));
  CHECK_OK(mq_send(named, "five second", 11, 5));
  CHECK_OK(mq_send(named, "nine", 4, 9));
  CHECK_OK(mq_send(named, "", 0, 1));
  removed = Make(other_name, 2, 8);
  second = mq_open(other_name, O_RDWR);
  CHECK_OK(second);
  CHECK_OK(mq_unlink(other_name));
  awaited = Make(other_name, 3, 16);
  CHECK_OK(mq_unlink(other_name));
  Tell();
  pthread_t receiver = StartThread(Receives, NULL);
  AwaitBlocked(&at, 1);
  for (int round = 0; round < 3; round++) {
    CheckAll(round);
    GuestSnapshot();
    Say("round %d", round);
  }
  CheckAll(3);
  CHECK_OK(mq_send(removed, "wake", 4, 6));
  JoinThread(receiver);
  Order();
  CHECK_OK(mq_unlink(name));
  CHECK_OK(mq_close(named));
  CHECK_OK(mq_close(reader));
  Say("all of it");
  return 0;
}
