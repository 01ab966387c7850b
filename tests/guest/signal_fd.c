// variants: dynamic static
// signalfd: what it says of each kind of signal, queues of the process and of the thread, blocking
// and not, several readers, poll, select and epoll (level and edge), a mask that changes, signals
// that are taken elsewhere, errors.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/uio.h>

#include "tests/guest/guest.h"

static int Fd(int first, int second, int flags) {
  sigset_t set = SignalSet(first, second);
  int fd = signalfd(-1, &set, flags);
  CHECK_OK(fd);
  return fd;
}

static struct signalfd_siginfo Take(int fd) {
  struct signalfd_siginfo info;
  memset(&info, 0xff, sizeof info);
  CHECK_EQ(read(fd, &info, sizeof info), sizeof info);
  return info;
}

static short Polled(int fd) {
  struct pollfd entry = {.fd = fd, .events = POLLIN | POLLOUT | POLLPRI};
  CHECK_OK(poll(&entry, 1, 0));
  return entry.revents;
}

static void Contents(void) {
  int fd = Fd(SIGUSR1, SIGRTMIN, SFD_NONBLOCK | SFD_CLOEXEC);
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  struct signalfd_siginfo info, several[4];
  CHECK_ERRNO(read(fd, &info, sizeof info), EAGAIN);
  CHECK_EQ(Polled(fd), 0);
  CHECK_OK(kill(getpid(), SIGUSR1));
  CHECK_EQ(Polled(fd), POLLIN);
  info = Take(fd);
  CHECK_EQ(info.ssi_signo, SIGUSR1);
  CHECK_EQ(info.ssi_code, SI_USER);
  CHECK_EQ(info.ssi_pid, getpid());
  CHECK_EQ(info.ssi_uid, getuid());
  CHECK_EQ(info.ssi_int, 0);
  CHECK_EQ(Polled(fd), 0);
  union sigval value = {.sival_ptr = (void*)0x123456789a};
  CHECK_OK(sigqueue(getpid(), SIGRTMIN, value));
  value.sival_int = 2;
  CHECK_OK(sigqueue(getpid(), SIGRTMIN, value));
  CHECK_ZERO(pthread_kill(pthread_self(), SIGUSR1));  // the thread's come first
  CHECK_EQ(read(fd, several, sizeof several), 3 * sizeof(info));
  CHECK_EQ(several[0].ssi_signo, SIGUSR1);
  CHECK_EQ(several[0].ssi_code, SI_TKILL);
  CHECK_EQ(several[1].ssi_signo, SIGRTMIN);
  CHECK_EQ(several[1].ssi_code, SI_QUEUE);
  CHECK_EQ(several[1].ssi_ptr, 0x123456789a);
  CHECK_EQ(several[2].ssi_int, 2);
  // A timer's, with what it missed.
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
  event.sigev_value.sival_int = 77;
  timer_t timer;
  CHECK_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
  struct itimerspec fast = {{0, 1000000}, {0, 1000000}};
  CHECK_OK(timer_settime(timer, 0, &fast, NULL));
  SleepMs(20);
  info = Take(fd);
  CHECK_EQ(info.ssi_code, SI_TIMER);
  CHECK_EQ(info.ssi_int, 77);
  CHECK(info.ssi_overrun >= 10);
  CHECK_EQ(info.ssi_overrun, timer_getoverrun(timer));
  CHECK_OK(timer_delete(timer));
  struct iovec parts[2] = {{&several[0], sizeof info}, {&several[1], sizeof info}};
  CHECK_OK(kill(getpid(), SIGUSR1));
  CHECK_EQ(readv(fd, parts, 2), sizeof info);
  CHECK_ERRNO(read(fd, &info, sizeof info - 1), EINVAL);
  CHECK_ERRNO(write(fd, &info, sizeof info), EINVAL);
  CHECK_OK(kill(getpid(), SIGUSR1));
  CHECK_ERRNO(syscall(SYS_read, fd, 8, sizeof info), EFAULT);
  CHECK_OK(close(fd));
}

// What a child's, a timer's and a fault's signal say goes by their codes.
static void Codes(void) {
  BlockSignals(SIGCHLD, SIGALRM);
  int fd = Fd(SIGCHLD, SIGALRM, 0);
  siginfo_t child = {.si_signo = SIGCHLD, .si_code = CLD_EXITED};
  child.si_pid = 5;
  child.si_uid = 6;
  child.si_status = 7;
  child.si_utime = 8;
  child.si_stime = 9;
  CHECK_OK(syscall(SYS_rt_sigqueueinfo, getpid(), SIGCHLD, &child));
  struct signalfd_siginfo info = Take(fd);
  CHECK_EQ(info.ssi_pid, 5);
  CHECK_EQ(info.ssi_uid, 6);
  CHECK_EQ(info.ssi_status, 7);
  CHECK_EQ(info.ssi_utime, 8);
  CHECK_EQ(info.ssi_stime, 9);
  CHECK_EQ(info.ssi_ptr, 0);
  struct itimerval soon = {.it_value.tv_usec = 1000};
  CHECK_OK(setitimer(ITIMER_REAL, &soon, NULL));
  info = Take(fd);  // waits
  CHECK_EQ(info.ssi_signo, SIGALRM);
  CHECK_EQ(info.ssi_code, SI_KERNEL);
  CHECK_OK(close(fd));
}

static void Mask(void) {
  int fd = Fd(SIGUSR1, 0, SFD_NONBLOCK);
  CHECK_OK(kill(getpid(), SIGUSR2));
  CHECK_EQ(Polled(fd), 0);
  sigset_t both = SignalSet(SIGUSR1, SIGUSR2), none = SignalSet(0, 0);
  int copy = dup(fd);
  CHECK_EQ(signalfd(copy, &both, 0), copy);
  CHECK_EQ(Polled(fd), POLLIN);
  CHECK_EQ(signalfd(fd, &none, 0), fd);
  CHECK_EQ(Polled(copy), 0);
  CHECK_EQ(signalfd(fd, &both, 0), fd);
  CHECK_EQ(Polled(copy), POLLIN);
  // Taken by another way.
  sigset_t second = SignalSet(SIGUSR2, 0);
  CHECK_EQ(sigwaitinfo(&second, NULL), SIGUSR2);
  CHECK_EQ(Polled(copy), 0);
  CHECK_OK(kill(getpid(), SIGUSR1));
  signal(SIGUSR1, SIG_IGN);  // what is pending is forgotten
  CHECK_EQ(Polled(copy), 0);
  signal(SIGUSR1, SIG_DFL);
  // Two of them see the same signal, one gets it.
  int other = Fd(SIGUSR1, 0, SFD_NONBLOCK);
  CHECK_OK(kill(getpid(), SIGUSR1));
  CHECK_EQ(Polled(fd) & Polled(other), POLLIN);
  Take(other);
  CHECK_EQ(Polled(fd) | Polled(other), 0);
  CHECK_OK(close(fd));
  CHECK_OK(close(copy));
  CHECK_OK(close(other));
}

static atomic_int handled;
static void Handle(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  handled++;
}

static void Epoll(void) {
  int fd = Fd(SIGRTMIN, SIGUSR1, SFD_NONBLOCK), set = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET}, got;
  CHECK_OK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
  CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), EEXIST);
  CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_MOD, fd, (void*)8), EFAULT);
  CHECK_EQ(epoll_wait(set, &got, 1, 0), 0);
  union sigval value = {0};
  for (int i = 0; i < 3; i++) {  // each is an edge
    CHECK_OK(sigqueue(getpid(), SIGRTMIN, value));
    CHECK_EQ(epoll_wait(set, &got, 1, -1), 1);
    CHECK_EQ(got.events, EPOLLIN);
    CHECK_EQ(epoll_wait(set, &got, 1, 0), 0);
  }
  for (int i = 0; i < 3; i++) Take(fd);
  event.events = EPOLLIN | EPOLLOUT;
  CHECK_OK(epoll_ctl(set, EPOLL_CTL_MOD, fd, &event));
  CHECK_EQ(epoll_wait(set, &got, 1, 0), 0);
  CHECK_OK(kill(getpid(), SIGUSR1));
  for (int i = 0; i < 2; i++) CHECK_EQ(epoll_wait(set, &got, 1, 0), 1);
  // Delivered to a handler instead.
  OnSignal(SIGUSR1, Handle, 0);
  UnblockSignals(SIGUSR1, 0);
  BlockSignals(SIGUSR1, 0);
  CHECK_EQ(handled, 1);
  signal(SIGUSR1, SIG_DFL);
  CHECK_EQ(epoll_wait(set, &got, 1, 0), 0);
  fd_set in, out;
  FD_ZERO(&in);
  FD_ZERO(&out);
  FD_SET(fd, &in);
  FD_SET(fd, &out);
  CHECK_OK(kill(getpid(), SIGUSR1));
  CHECK_EQ(select(fd + 1, &in, &out, NULL, NULL), 1);
  CHECK(FD_ISSET(fd, &in) && !FD_ISSET(fd, &out));
  Take(fd);
  CHECK_EQ(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL), 0);
  CHECK_OK(close(set));
  CHECK_OK(close(fd));
}

enum { kReaders = 4, kSignals = 400 };
static atomic_int taken;
static int shared_fd;

static void* Reader(void* unused) {
  (void)unused;
  while (true) {
    struct signalfd_siginfo info = Take(shared_fd);
    if (info.ssi_int == -1) return NULL;
    taken += info.ssi_int;
  }
}

// Each signal is read once, whoever reads.
static void Readers(void) {
  shared_fd = Fd(SIGRTMIN + 1, 0, 0);
  pthread_t threads[kReaders];
  for (int i = 0; i < kReaders; i++) threads[i] = StartThread(Reader, NULL);
  union sigval value = {.sival_int = 1};
  for (int i = 0; i < kSignals; i++) CHECK_OK(sigqueue(getpid(), SIGRTMIN + 1, value));
  AwaitAtLeast(&taken, kSignals);
  value.sival_int = -1;
  for (int i = 0; i < kReaders; i++) CHECK_OK(sigqueue(getpid(), SIGRTMIN + 1, value));
  for (int i = 0; i < kReaders; i++) JoinThread(threads[i]);
  CHECK_EQ(taken, kSignals);
  CHECK_OK(close(shared_fd));
}

static atomic_int interrupted;
static void* Interrupted(void* unused) {
  (void)unused;
  struct signalfd_siginfo info;
  OnSignal(SIGTERM, Handle, 0);
  interrupted = 1;
  CHECK_ERRNO(read(shared_fd, &info, sizeof info), EINTR);
  OnSignal(SIGTERM, Handle, SA_RESTART);
  interrupted = 2;
  CHECK_EQ(read(shared_fd, &info, sizeof info), sizeof info);
  CHECK_EQ(info.ssi_code, SI_TKILL);
  return NULL;
}

// A read that waits ends for a handler, or goes on after it.
static void Handlers(void) {
  shared_fd = Fd(SIGUSR1, 0, 0);
  handled = 0;
  pthread_t thread = StartThread(Interrupted, NULL);
  AwaitAtLeast(&interrupted, 1);
  // One that comes before the read begins does not end it.
  while (interrupted < 2) {
    CHECK_ZERO(pthread_kill(thread, SIGTERM));
    SleepMs(30);
  }
  AwaitBlocked(&interrupted, 2);
  CHECK_ZERO(pthread_kill(thread, SIGTERM));
  AwaitAtLeast(&handled, 2);
  CHECK_ZERO(pthread_kill(thread, SIGUSR1));
  JoinThread(thread);
  CHECK_OK(close(shared_fd));
}

static void Errors(void) {
  sigset_t set = SignalSet(SIGUSR1, 0);
  CHECK_ERRNO(syscall(SYS_signalfd4, -1, &set, 4, 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_signalfd4, -1, (void*)8, 8, 0), EFAULT);
  CHECK_ERRNO(syscall(SYS_signalfd4, -1, &set, 8, 1), EINVAL);
  CHECK_ERRNO(syscall(SYS_signalfd4, 1000, &set, 8, 0), EBADF);
  CHECK_ERRNO(syscall(SYS_signalfd4, -2, &set, 8, 0), EBADF);
  CHECK_ERRNO(syscall(SYS_signalfd4, 0, &set, 8, 0), EINVAL);
  int fd = (int)syscall(SYS_signalfd, -1, &set, 8);
  CHECK_OK(fd);
  CHECK_EQ(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  CHECK_OK(close(fd));
}

int main(void) {
  BlockSignals(SIGUSR1, SIGUSR2);
  BlockSignals(SIGRTMIN, SIGRTMIN + 1);
  Contents();
  Say("contents");
  Codes();
  Say("codes");
  Mask();
  Say("mask");
  Epoll();
  Say("epoll");
  Readers();
  Say("readers");
  Handlers();
  Say("handlers");
  Errors();
  Say("errors");
  return 0;
}
