// POSIX message queues and shared memory objects.
#include <mqueue.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

static mqd_t queue;
static atomic_int at, notified;
static siginfo_t notification;

static void OnNotify(int number, siginfo_t* info, void* context) {
  (void)number, (void)context;
  notification = *info;
  atomic_fetch_add(&notified, 1);
}

static void ByThread(union sigval value) { atomic_fetch_add((atomic_int*)value.sival_ptr, 10); }

static void* Receive(void* unused) {
  char text[32];
  unsigned priority;
  atomic_store(&at, 1);
  CHECK_EQ(mq_receive(queue, text, sizeof text, &priority), 5);
  CHECK_EQ(priority, 7);
  return unused;
}

static void Queue(void) {
  char name[64];
  snprintf(name, sizeof name, "/km-test-%d", getpid());
  struct mq_attr attributes = {.mq_maxmsg = 4, .mq_msgsize = 32};
  queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes);
  CHECK_OK(queue);
  CHECK_EQ(fcntl(queue, F_GETFD), FD_CLOEXEC);
  CHECK_ERRNO(mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &attributes), EEXIST);
  CHECK_OK(mq_send(queue, "low", 3, 1));
  CHECK_OK(mq_send(queue, "high", 4, 9));
  CHECK_OK(mq_getattr(queue, &attributes));
  CHECK_EQ(attributes.mq_curmsgs, 2);
  CHECK_EQ(attributes.mq_msgsize, 32);
  char text[32];
  unsigned priority;
  CHECK_EQ(mq_receive(queue, text, sizeof text, &priority), 4);
  CHECK_EQ(priority, 9);
  CHECK(memcmp(text, "high", 4) == 0);
  CHECK_EQ(mq_receive(queue, text, sizeof text, NULL), 3);
  CHECK_ERRNO(mq_receive(queue, text, 31, NULL), EMSGSIZE);
  CHECK_ERRNO(mq_send(queue, text, 33, 0), EMSGSIZE);
  struct timespec until;
  CHECK_OK(clock_gettime(CLOCK_REALTIME, &until));
  CHECK_ERRNO(mq_timedreceive(queue, text, sizeof text, NULL, &until), ETIMEDOUT);
  until.tv_nsec = 2000000000;
  CHECK_ERRNO(mq_timedreceive(queue, text, sizeof text, NULL, &until), EINVAL);
  pthread_t receiver = StartThread(Receive, NULL);
  AwaitBlocked(&at, 1);
  CHECK_OK(mq_send(queue, "later", 5, 7));
  JoinThread(receiver);
  attributes.mq_flags = O_NONBLOCK;
  CHECK_OK(mq_setattr(queue, &attributes, NULL));
  CHECK_ERRNO(mq_receive(queue, text, sizeof text, NULL), EAGAIN);
  Say("queue");

  OnSignal(SIGUSR2, OnNotify, 0);
  struct sigevent event = {
      .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 4711};
  CHECK_OK(mq_notify(queue, &event));
  CHECK_ERRNO(mq_notify(queue, &event), EBUSY);
  CHECK_OK(mq_send(queue, "x", 1, 0));
  AwaitAtLeast(&notified, 1);
  CHECK_EQ(notification.si_code, SI_MESGQ);
  CHECK_EQ(notification.si_value.sival_int, 4711);
  CHECK_EQ(notification.si_pid, getpid());
  CHECK_EQ(mq_receive(queue, text, sizeof text, NULL), 1);
  atomic_int woken = 0;
  event = (struct sigevent){.sigev_notify = SIGEV_THREAD,
                            .sigev_notify_function = ByThread,
                            .sigev_value.sival_ptr = &woken};
  CHECK_OK(mq_notify(queue, &event));
  CHECK_OK(mq_send(queue, "y", 1, 0));
  AwaitAtLeast(&woken, 10);
  event.sigev_notify = 77;
  CHECK_ERRNO(mq_notify(queue, &event), EINVAL);
  CHECK_ERRNO(mq_notify(-1, NULL), EBADF);
  CHECK_OK(mq_unlink(name));
  CHECK_ERRNO(mq_unlink(name), ENOENT);
  CHECK_OK(mq_close(queue));
  CHECK_ERRNO(mq_getattr(queue, &attributes), EBADF);
  CHECK_ERRNO(mq_open("no slash", O_RDONLY), EINVAL);
  Say("notify");
}

static void Object(void) {
  char name[64];
  snprintf(name, sizeof name, "/km-test-%d", getpid());
  int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
  CHECK_OK(fd);
  CHECK_OK(ftruncate(fd, 2 * kPage));
  uint8_t* one = mmap(NULL, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  uint8_t* two = mmap(NULL, 2 * kPage, PROT_READ, MAP_SHARED, fd, 0);
  CHECK_OK(one);
  CHECK_OK(two);
  one[kPage + 1] = 0x19;
  GuestSnapshot();
  CHECK_EQ(two[kPage + 1], 0x19);
  one[kPage + 2] = 0x20;
  CHECK_EQ(two[kPage + 2], 0x20);
  struct stat status;
  CHECK_OK(fstat(fd, &status));
  CHECK_EQ(status.st_size, 2 * kPage);
  CHECK_OK(shm_unlink(name));
  one[0] = 1;
  CHECK_EQ(two[0], 1);
  Say("object");
}

int main(void) {
  Object();
  Queue();
  return 0;
}
