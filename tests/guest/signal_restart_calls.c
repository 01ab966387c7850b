// variants: dynamic
// Which calls go on after a handler with SA_RESTART and which return EINTR, one by one: signal(7).
// Signals come until the call has returned or the handler has run three times; then what the call
// waits for is brought about.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "tests/guest/guest.h"

static atomic_int handled, waiting;
static int pipe_fds[2], full_fds[2], pair[2], full_pair[2], event_fd, epoll_fd, lock_fd,
    other_lock_fd;
static int listener, timed_socket;
static atomic_int word;
static char bytes[1 << 16];

static void Handler(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  atomic_fetch_add(&handled, 1);
}

// ---- The calls, and what ends each ----

static long Read(void) { return read(pipe_fds[0], bytes, 1); }
static long Readv(void) {
  struct iovec part = {bytes, 1};
  return readv(pipe_fds[0], &part, 1);
}
static void Feed(void) { CHECK_EQ(write(pipe_fds[1], "x", 1), 1); }

static long Write(void) { return write(full_fds[1], bytes, 1); }
static void Drain(void) { CHECK(read(full_fds[0], bytes, sizeof bytes) > 0); }

static long Recv(void) { return recv(pair[0], bytes, 1, 0); }
static long Recvmsg(void) {
  struct iovec part = {bytes, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  return recvmsg(pair[0], &message, 0);
}
static void FeedSocket(void) { CHECK_EQ(send(pair[1], "x", 1, 0), 1); }
static long RecvTimed(void) { return recv(timed_socket, bytes, 1, 0); }

static long Send(void) { return send(full_pair[0], bytes, 1, 0); }
static void DrainSocket(void) {
  while (recv(full_pair[1], bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
}

static long Accept(void) {
  int fd = accept(listener, NULL, NULL);
  if (fd >= 0) close(fd);
  return fd;
}
static void Connect(void) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un name = {AF_UNIX, "listener"};
  CHECK_OK(connect(fd, (struct sockaddr*)&name, sizeof name));
  close(fd);
}

static long OpenFifo(void) {
  int fd = open("fifo", O_RDONLY);
  if (fd >= 0) close(fd);
  return fd;
}
static void OpenOtherEnd(void) {
  int fd;
  // The reader may not be there yet, or just have left to run a handler.
  while ((fd = open("fifo", O_WRONLY | O_NONBLOCK)) < 0) CHECK_EQ(errno, ENXIO);
  close(fd);
}

static long Flock(void) { return flock(lock_fd, LOCK_EX); }
static long LockWait(void) {
  struct flock lock = {.l_type = F_WRLCK};
  return fcntl(lock_fd, F_OFD_SETLKW, &lock);
}
static void Unlock(void) {
  struct flock lock = {.l_type = F_UNLCK};
  CHECK_OK(flock(other_lock_fd, LOCK_UN));
  CHECK_OK(fcntl(other_lock_fd, F_OFD_SETLK, &lock));
}

static long ReadEvent(void) { return read(event_fd, bytes, 8); }
static void RaiseEvent(void) { CHECK_OK(eventfd_write(event_fd, 1)); }

static long FutexWait(void) { return Futex(&word, kFutexWait, 0, NULL, NULL, 0); }
static long FutexTimed(void) {
  struct timespec time = {100, 0};
  return Futex(&word, kFutexWait, 0, &time, NULL, 0);
}
static void FutexWakeUp(void) {
  while (atomic_load(&waiting)) {
    Futex(&word, kFutexWake, 1, NULL, NULL, 0);
    usleep(500);
  }
}

static long Nanosleep(void) { return nanosleep(&(struct timespec){100, 0}, NULL); }
static long ClockNanosleep(void) {
  errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){100, 0}, NULL);
  return errno == 0 ? 0 : -1;
}
static long Poll(void) { return poll(&(struct pollfd){pipe_fds[0], POLLIN, 0}, 1, 100000); }
static long Ppoll(void) { return ppoll(&(struct pollfd){pipe_fds[0], POLLIN, 0}, 1, NULL, NULL); }
static long Select(void) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(pipe_fds[0], &set);
  return select(pipe_fds[0] + 1, &set, NULL, NULL, NULL);
}
static long EpollWait(void) {
  struct epoll_event event;
  return epoll_wait(epoll_fd, &event, 1, -1);
}
static long Pause(void) { return pause(); }
static long Sigsuspend(void) {
  sigset_t none;
  sigemptyset(&none);
  return sigsuspend(&none);
}
static long Sigwait(void) {
  sigset_t other = SignalSet(SIGUSR2, 0);
  return sigtimedwait(&other, NULL, &(struct timespec){100, 0});
}
static void Never(void) { FAIL("three handlers have run and the call has not returned"); }

static const struct {
  const char* name;
  long (*call)(void);
  void (*end)(void);
} kCalls[] = {
    {"read", Read, Feed},
    {"readv", Readv, Feed},
    {"write", Write, Drain},
    {"open of a FIFO", OpenFifo, OpenOtherEnd},
    {"recv", Recv, FeedSocket},
    {"recvmsg", Recvmsg, FeedSocket},
    {"recv with a timeout", RecvTimed, Never},
    {"send", Send, DrainSocket},
    {"accept", Accept, Connect},
    {"flock", Flock, Unlock},
    {"lock", LockWait, Unlock},
    {"read of an eventfd", ReadEvent, RaiseEvent},
    {"futex", FutexWait, FutexWakeUp},
    {"futex with a timeout", FutexTimed, FutexWakeUp},
    {"nanosleep", Nanosleep, Never},
    {"clock_nanosleep", ClockNanosleep, Never},
    {"poll", Poll, Never},
    {"ppoll", Ppoll, Never},
    {"select", Select, Never},
    {"epoll_wait", EpollWait, Never},
    {"pause", Pause, Never},
    {"sigsuspend", Sigsuspend, Never},
    {"sigtimedwait", Sigwait, Never},
};

static pthread_t main_thread;

static void* Disturb(void* index) {
  for (int sent = 0; atomic_load(&waiting); sent++) {
    if (atomic_load(&handled) >= 3) {
      kCalls[(long)index].end();
      return NULL;
    }
    // One at a time: each is to meet the call, not the last one's handler.
    int before = atomic_load(&handled);
    CHECK_ZERO(pthread_kill(main_thread, SIGUSR1));
    while (atomic_load(&handled) == before) usleep(200);
    usleep(2000);
  }
  return NULL;
}

static void Try(long index, int flags) {
  OnSignal(SIGUSR1, Handler, flags);
  CHECK_OK(flock(other_lock_fd, LOCK_EX));
  struct flock lock = {.l_type = F_WRLCK};
  CHECK_OK(fcntl(other_lock_fd, F_OFD_SETLK, &lock));
  while (send(full_pair[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0) continue;
  CHECK_OK(fcntl(full_fds[1], F_SETFL, O_NONBLOCK));
  while (write(full_fds[1], bytes, sizeof bytes) > 0) continue;
  CHECK_OK(fcntl(full_fds[1], F_SETFL, 0));
  atomic_store(&handled, 0);
  atomic_store(&waiting, 1);
  pthread_t thread = StartThread(Disturb, (void*)index);
  errno = 0;
  long result = kCalls[index].call();
  int error = errno;
  atomic_store(&waiting, 0);
  JoinThread(thread);
  if (result >= 0) {
    CHECK_EQ(atomic_load(&handled), 3);
  } else {
    CHECK(atomic_load(&handled) > 0);
  }
  Say("%s, %s: %s", kCalls[index].name, flags != 0 ? "SA_RESTART" : "no flags",
      result >= 0      ? "went on"
      : error == EINTR ? "EINTR"
                       : strerror(error));
  // What a call that was interrupted has left behind.
  CHECK_OK(flock(lock_fd, LOCK_UN));
  lock.l_type = F_UNLCK;
  CHECK_OK(fcntl(lock_fd, F_OFD_SETLK, &lock));
}

int main(void) {
  main_thread = pthread_self();
  CHECK_OK(pipe(pipe_fds));
  CHECK_OK(pipe(full_fds));
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, full_pair));
  int timed[2];
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, timed));
  timed_socket = timed[0];
  struct timeval time = {100, 0};
  CHECK_OK(setsockopt(timed_socket, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
  event_fd = eventfd(0, 0);
  epoll_fd = epoll_create1(0);
  CHECK_OK(
      epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_fds[0], &(struct epoll_event){.events = EPOLLIN}));
  lock_fd = open("file", O_RDWR | O_CREAT, 0600);
  other_lock_fd = open("file", O_RDWR);
  CHECK_OK(other_lock_fd);
  CHECK_OK(mkfifo("fifo", 0600));
  listener = socket(AF_UNIX, SOCK_STREAM, 0);
  struct sockaddr_un name = {AF_UNIX, "listener"};
  CHECK_OK(bind(listener, (struct sockaddr*)&name, sizeof name));
  CHECK_OK(listen(listener, 4));
  for (size_t i = 0; i < sizeof kCalls / sizeof *kCalls; i++) {
    Try((long)i, 0);
    Try((long)i, SA_RESTART);
  }
  return 0;
}
