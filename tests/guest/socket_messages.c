// Many messages in one call, timeouts and interruptions of sockets, SIGPIPE, out-of-band bytes, the
// error queue.
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

#include "tests/guest/guest.h"
// Needs timespec.
#include <linux/errqueue.h>

static atomic_int handled, ready;
static siginfo_t last;

static void Handler(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)context;
  last = *info;
  atomic_fetch_add(&handled, 1);
}

static void Pair(int type, int* fds) { CHECK_OK(socketpair(AF_UNIX, type, 0, fds)); }
static void ClosePair(const int* fds) {
  CHECK_OK(close(fds[0]));
  CHECK_OK(close(fds[1]));
}

static struct mmsghdr g_messages[1100];
static struct iovec g_parts[1100];
static char g_bytes[1100][8];

static void Prepare(int count) {
  memset(g_messages, 0, sizeof g_messages);
  for (int i = 0; i < count; i++) {
    g_parts[i] = (struct iovec){g_bytes[i], 8};
    g_messages[i].msg_hdr.msg_iov = &g_parts[i];
    g_messages[i].msg_hdr.msg_iovlen = 1;
  }
}

static void TestMany(void) {
  int fds[2];
  Pair(SOCK_DGRAM, fds);
  Prepare(5);
  for (int i = 0; i < 5; i++) {
    snprintf(g_bytes[i], 8, "m%d", i);
    g_parts[i].iov_len = (size_t)i + 1;
  }
  CHECK_EQ(sendmmsg(fds[0], g_messages, 5, 0), 5);
  CHECK_EQ(g_messages[4].msg_len, 5);
  Prepare(8);
  CHECK_EQ(recvmmsg(fds[1], g_messages, 8, MSG_WAITFORONE, NULL), 5);
  for (int i = 0; i < 5; i++) CHECK_EQ(g_messages[i].msg_len, i + 1);
  CHECK_ERRNO(recvmmsg(fds[1], g_messages, 8, MSG_DONTWAIT, NULL), EAGAIN);
  CHECK_EQ(recvmmsg(fds[1], g_messages, 0, 0, NULL), 0);
  // The time is looked at behind a message only.
  struct timespec timeout = {.tv_nsec = 1};
  CHECK_EQ(send(fds[0], "t", 1, 0), 1);
  CHECK_EQ(send(fds[0], "u", 1, 0), 1);
  CHECK_EQ(recvmmsg(fds[1], g_messages, 8, 0, &timeout), 1);
  Say("left %ld %ld", timeout.tv_sec, timeout.tv_nsec);
  timeout = (struct timespec){.tv_sec = 100};
  CHECK_EQ(recvmmsg(fds[1], g_messages, 8, MSG_WAITFORONE, &timeout), 1);
  CHECK(timeout.tv_sec == 99);
  timeout.tv_nsec = 1000000000;
  CHECK_ERRNO(recvmmsg(fds[1], g_messages, 8, 0, &timeout), EINVAL);
  CHECK_ERRNO(recvmmsg(fds[1], g_messages, 8, 0, (void*)8), EFAULT);
  CHECK_ERRNO(recvmmsg(999, g_messages, 8, 0, NULL), EBADF);
  // An error behind the first.
  Prepare(3);
  g_messages[1].msg_hdr.msg_iov = (void*)8;
  CHECK_EQ(sendmmsg(fds[0], g_messages, 3, 0), 1);
  CHECK_ERRNO(sendmmsg(fds[0], g_messages + 1, 2, 0), EFAULT);
  CHECK_ERRNO(sendmmsg(fds[0], (void*)8, 2, 0), EFAULT);
  CHECK_EQ(recv(fds[1], g_bytes, 8, 0), 8);
  // No more than UIO_MAXIOV.
  int stream[2], size = 4 << 20;
  Pair(SOCK_STREAM, stream);
  CHECK_OK(setsockopt(stream[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
  Prepare(1100);
  for (int i = 0; i < 1100; i++) g_parts[i].iov_len = 0;
  CHECK_EQ(sendmmsg(stream[0], g_messages, 1100, MSG_DONTWAIT), 1024);
  ClosePair(stream);
  ClosePair(fds);
  Say("many");
}

static void* SendLater(void* argument) {
  AwaitBlocked(&ready, 1);
  CHECK_EQ(send((int)(long)argument, "late", 4, 0), 4);
  return NULL;
}

static void* PesterMain(void* argument) {
  AwaitBlocked(&ready, 1);
  CHECK_ZERO(pthread_kill(*(pthread_t*)argument, SIGUSR1));
  return NULL;
}

static void TestTimeouts(void) {
  int fds[2];
  char bytes[8];
  Pair(SOCK_STREAM, fds);
  // Without a timeout SA_RESTART holds.
  OnSignal(SIGUSR1, Handler, SA_RESTART);
  pthread_t self = pthread_self();
  atomic_store(&ready, 0);
  pthread_t thread = StartThread(PesterMain, &self),
            sender = StartThread(SendLater, (void*)(long)fds[0]);
  atomic_store(&ready, 1);
  CHECK_EQ(recv(fds[1], bytes, 8, 0), 4);
  JoinThread(thread);
  JoinThread(sender);
  // With one a handler ends the call, SA_RESTART or not.
  struct timeval timeout = {.tv_sec = 20};
  CHECK_OK(setsockopt(fds[1], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
  atomic_store(&ready, 0);
  thread = StartThread(PesterMain, &self);
  atomic_store(&ready, 1);
  CHECK_ERRNO(recv(fds[1], bytes, 8, 0), EINTR);
  JoinThread(thread);
  timeout = (struct timeval){.tv_usec = 50000};
  CHECK_OK(setsockopt(fds[1], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
  int64_t begin = NowNs(CLOCK_MONOTONIC);
  CHECK_ERRNO(recv(fds[1], bytes, 8, 0), EAGAIN);
  CHECK_ERRNO(read(fds[1], bytes, 8), EAGAIN);
  CHECK(NowNs(CLOCK_MONOTONIC) - begin >= 100000000);
  // What came before the time was up.
  CHECK_EQ(send(fds[0], "abc", 3, 0), 3);
  CHECK_EQ(recv(fds[1], bytes, 8, MSG_WAITALL), 3);
  CHECK_OK(setsockopt(fds[0], SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout));
  static char large[1 << 20];
  long sent = send(fds[0], large, sizeof large, 0);
  CHECK(sent > 0 && sent < (long)sizeof large);
  CHECK_ERRNO(send(fds[0], large, sizeof large, 0), EAGAIN);
  ClosePair(fds);
  Say("timeouts");
}

static void TestPipe(void) {
  OnSignal(SIGPIPE, Handler, 0);
  static const int kTypes[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
  for (int i = 0; i < 3; i++) {
    int fds[2];
    Pair(kTypes[i], fds);
    CHECK_OK(close(fds[1]));
    struct iovec part = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr messages = {.msg_hdr = message};
    for (int way = 0; way < 7; way++) {
      atomic_store(&handled, 0);
      memset(&last, 0, sizeof last);
      long result = way == 0   ? write(fds[0], "x", 1)
                    : way == 1 ? writev(fds[0], &part, 1)
                    : way == 2 ? send(fds[0], "x", 1, 0)
                    : way == 3 ? send(fds[0], "x", 1, MSG_NOSIGNAL)
                    : way == 4 ? sendmsg(fds[0], &message, 0)
                    : way == 5 ? sendmmsg(fds[0], &messages, 1, 0)
                               : sendmsg(fds[0], &message, MSG_NOSIGNAL);
      int error = errno;
      CHECK(last.si_signo == 0 || last.si_pid == getpid());
      Say("type %d way %d: %ld %s, %d signals code %d", kTypes[i], way, result, strerror(error),
          atomic_load(&handled), last.si_code);
    }
    CHECK_OK(close(fds[0]));
  }
}

static void TestOutOfBand(void) {
  int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0), mark, count;
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof name;
  CHECK_OK(bind(listener, (struct sockaddr*)&name, size));
  CHECK_OK(listen(listener, 1));
  CHECK_OK(getsockname(listener, (struct sockaddr*)&name, &size));
  CHECK_OK(connect(fd, (struct sockaddr*)&name, size));
  int peer = accept(listener, NULL, NULL);
  CHECK_OK(peer);
  CHECK_EQ(send(fd, "ab", 2, 0), 2);
  CHECK_EQ(send(fd, "!", 1, MSG_OOB), 1);
  struct pollfd wait = {peer, POLLPRI, 0};
  CHECK_EQ(poll(&wait, 1, 5000), 1);
  char bytes[8];
  CHECK_OK(ioctl(peer, SIOCATMARK, &mark));
  CHECK_EQ(mark, 0);
  CHECK_OK(ioctl(peer, FIONREAD, &count));
  CHECK_EQ(count, 2);
  CHECK_EQ(recv(peer, bytes, 8, 0), 2);
  CHECK_OK(ioctl(peer, SIOCATMARK, &mark));
  CHECK_EQ(mark, 1);
  CHECK_EQ(recv(peer, bytes, 8, MSG_OOB), 1);
  CHECK_EQ(bytes[0], '!');
  CHECK_OK(close(peer));
  CHECK_OK(close(fd));
  CHECK_OK(close(listener));
  Say("out of band");
}

// Nobody listens: the error comes back, with where it comes from.
static void TestErrorQueue(void) {
  int closed = socket(AF_INET, SOCK_DGRAM, 0), fd = socket(AF_INET, SOCK_DGRAM, 0), one = 1;
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof name;
  CHECK_OK(bind(closed, (struct sockaddr*)&name, size));
  CHECK_OK(getsockname(closed, (struct sockaddr*)&name, &size));
  CHECK_OK(close(closed));
  CHECK_OK(setsockopt(fd, IPPROTO_IP, IP_RECVERR, &one, sizeof one));
  CHECK_OK(connect(fd, (struct sockaddr*)&name, size));
  CHECK_EQ(send(fd, "lost", 4, 0), 4);
  struct pollfd wait = {fd, 0, 0};
  CHECK_EQ(poll(&wait, 1, 5000), 1);
  CHECK_EQ(wait.revents, POLLERR);
  char bytes[8], control[256];
  struct iovec part = {bytes, 8};
  struct sockaddr_in to;
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof control,
                           .msg_name = &to,
                           .msg_namelen = sizeof to};
  CHECK_EQ(recvmsg(fd, &message, MSG_ERRQUEUE), 4);
  CHECK(memcmp(bytes, "lost", 4) == 0);
  CHECK_EQ(message.msg_flags, MSG_ERRQUEUE);
  CHECK_EQ(to.sin_port, name.sin_port);
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  CHECK(header != NULL && header->cmsg_level == IPPROTO_IP && header->cmsg_type == IP_RECVERR);
  struct sock_extended_err* error = (void*)CMSG_DATA(header);
  Say("error %u origin %u type %u code %u", error->ee_errno, error->ee_origin, error->ee_type,
      error->ee_code);
  CHECK_ERRNO(recvmsg(fd, &message, MSG_ERRQUEUE), EAGAIN);
  CHECK_OK(close(fd));
}

static void TestFull(void) {
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK_OK(bind(listener, &(struct sockaddr){.sa_family = AF_UNIX}, sizeof(sa_family_t)));
  CHECK_OK(listen(listener, 4));
  struct rlimit old, limit;
  CHECK_OK(getrlimit(RLIMIT_NOFILE, &old));
  limit = old;
  limit.rlim_cur = (rlim_t)listener + 1;
  CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
  // At once, although nobody is there.
  CHECK_ERRNO(accept(listener, NULL, NULL), EMFILE);
  CHECK_ERRNO(accept4(listener, NULL, NULL, 1), EINVAL);
  CHECK_ERRNO(socket(AF_UNIX, SOCK_STREAM, 0), EMFILE);
  int fds[2];
  CHECK_ERRNO(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), EMFILE);
  CHECK_OK(setrlimit(RLIMIT_NOFILE, &old));
  CHECK_OK(close(listener));
  Say("full");
}

int main(void) {
  TestMany();
  TestTimeouts();
  TestPipe();
  if (!GuestInjected()) TestOutOfBand();  // a resume resets TCP connections
  TestErrorQueue();
  TestFull();
  return 0;
}
