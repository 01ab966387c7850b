// variants: dynamic static musl
// Sockets: pairs, TCP on the loopback interface, addresses, options, messages, SIGPIPE, a
// connection that is interrupted while it waits, and epoll over it all.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "tests/guest/guest.h"

static atomic_int ready, handled;

static void Handler(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)info;
  (void)context;
  atomic_fetch_add(&handled, 1);
}

static struct sockaddr_in Loopback(void) {
  struct sockaddr_in name = {.sin_family = AF_INET};
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return name;
}

static int Listener(int backlog, struct sockaddr_in* name) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_OK(fd);
  *name = Loopback();
  socklen_t size = sizeof *name;
  CHECK_OK(bind(fd, (struct sockaddr*)name, size));
  CHECK_OK(listen(fd, backlog));
  CHECK_OK(getsockname(fd, (struct sockaddr*)name, &size));
  CHECK_EQ(size, sizeof *name);
  CHECK(name->sin_port != 0);
  return fd;
}

static int Option(int fd, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  CHECK_OK(getsockopt(fd, SOL_SOCKET, name, &value, &size));
  CHECK_EQ(size, sizeof value);
  return value;
}

static void TestPair(void) {
  int fds[2];
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
  CHECK_EQ(fds[0], 3);
  CHECK_EQ(fds[1], 4);
  CHECK_EQ(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
  char bytes[16] = {0};
  CHECK_EQ(write(fds[0], "hello", 5), 5);
  CHECK_EQ(recv(fds[1], bytes, 2, MSG_PEEK), 2);
  CHECK_EQ(read(fds[1], bytes, sizeof bytes), 5);
  CHECK(memcmp(bytes, "hello", 5) == 0);
  CHECK_ERRNO(recv(fds[1], bytes, 1, MSG_DONTWAIT), EAGAIN);

  struct iovec out[2] = {{"mes", 3}, {"sage", 4}}, in[2] = {{bytes, 4}, {bytes + 8, 8}};
  struct msghdr message = {.msg_iov = out, .msg_iovlen = 2};
  CHECK_EQ(sendmsg(fds[1], &message, 0), 7);
  message.msg_iov = in;
  CHECK_EQ(recvmsg(fds[0], &message, 0), 7);
  CHECK(memcmp(bytes, "mess", 4) == 0 && memcmp(bytes + 8, "age", 3) == 0);
  CHECK_EQ(message.msg_flags, 0);
  CHECK_EQ(message.msg_controllen, 0);
  message.msg_iovlen = 1025;
  CHECK_ERRNO(sendmsg(fds[1], &message, 0), EMSGSIZE);

  CHECK_OK(shutdown(fds[0], SHUT_WR));
  CHECK_EQ(recv(fds[1], bytes, 1, 0), 0);
  CHECK_OK(close(fds[0]));
  OnSignal(SIGPIPE, Handler, 0);
  CHECK_ERRNO(send(fds[1], "x", 1, MSG_NOSIGNAL), EPIPE);
  CHECK_EQ(atomic_load(&handled), 0);
  CHECK_ERRNO(send(fds[1], "x", 1, 0), EPIPE);
  CHECK_EQ(atomic_load(&handled), 1);
  CHECK_ERRNO(write(fds[1], "x", 1), EPIPE);
  CHECK_EQ(atomic_load(&handled), 2);
  CHECK_OK(close(fds[1]));
  Say("pair");
}

static void TestUnix(void) {
  struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"}, from;
  int server = socket(AF_UNIX, SOCK_DGRAM, 0), client = socket(AF_UNIX, SOCK_DGRAM, 0);
  CHECK_OK(server);
  CHECK_OK(client);
  unlink(name.sun_path);
  CHECK_OK(bind(server, (struct sockaddr*)&name, sizeof name));
  CHECK_EQ(sendto(client, "data", 4, 0, (struct sockaddr*)&name, sizeof name), 4);
  char bytes[8];
  socklen_t size = sizeof from;
  CHECK_EQ(recvfrom(server, bytes, 2, MSG_TRUNC, (struct sockaddr*)&from, &size), 4);
  CHECK(memcmp(bytes, "da", 2) == 0);
  CHECK_EQ(size, 0);
  CHECK_OK(close(server));
  CHECK_OK(close(client));
  Say("unix");
}

static void* Serve(void* argument) {
  int listener = (int)(long)argument;
  struct sockaddr_in peer;
  socklen_t size = sizeof peer;
  atomic_store(&ready, 1);
  int fd = accept4(listener, (struct sockaddr*)&peer, &size, SOCK_CLOEXEC);
  CHECK_OK(fd);
  CHECK_EQ(size, sizeof peer);
  CHECK_EQ(ntohl(peer.sin_addr.s_addr), INADDR_LOOPBACK);
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  char bytes[4096];
  long total = 0;
  for (long count; (count = recv(fd, bytes, sizeof bytes, 0)) != 0; total += count) {
    CHECK_OK(count);
    CHECK_EQ(send(fd, bytes, (size_t)count, MSG_NOSIGNAL), count);
  }
  CHECK_OK(close(fd));
  return (void*)total;
}

static void TestTcp(void) {
  struct sockaddr_in name, peer;
  int listener = Listener(5, &name);
  CHECK_EQ(Option(listener, SO_ACCEPTCONN), 1);
  pthread_t server = StartThread(Serve, (void*)(long)listener);
  AwaitBlocked(&ready, 1);
  int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  CHECK_OK(fd);
  CHECK_OK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
  CHECK_OK(connect(fd, (struct sockaddr*)&name, sizeof name));
  CHECK_ERRNO(connect(fd, (struct sockaddr*)&name, sizeof name), EISCONN);
  socklen_t size = sizeof peer;
  CHECK_OK(getpeername(fd, (struct sockaddr*)&peer, &size));
  CHECK(peer.sin_port == name.sin_port);
  CHECK_EQ(Option(fd, SO_ERROR), 0);
  CHECK_EQ(Option(fd, SO_TYPE), SOCK_STREAM);

  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1234567887654321};
  CHECK_OK(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
  CHECK_EQ(epoll_wait(epoll, &event, 1, 0), 0);
  for (int i = 0; i < 100; i++) {
    char bytes[3000], back[3000];
    memset(bytes, i, sizeof bytes);
    CHECK_EQ(send(fd, bytes, sizeof bytes, 0), sizeof bytes);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    CHECK_EQ(poll(&wait, 1, 5000), 1);
    CHECK_EQ(wait.revents, POLLIN);
    CHECK_EQ(epoll_wait(epoll, &event, 1, 5000), 1);
    CHECK(event.data.u64 == 0x1234567887654321);
    CHECK_EQ(recv(fd, back, sizeof back, MSG_WAITALL), sizeof back);
    CHECK(memcmp(bytes, back, sizeof back) == 0);
  }
  CHECK_OK(shutdown(fd, SHUT_WR));
  char byte;
  CHECK_EQ(recv(fd, &byte, 1, 0), 0);
  CHECK_EQ((long)JoinThread(server), 300000);
  CHECK_OK(close(epoll));
  CHECK_OK(close(fd));
  CHECK_OK(close(listener));
  Say("tcp");
}

static void* ConnectLate(void* argument) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_OK(fd);
  atomic_store(&ready, 1);
  CHECK_OK(connect(fd, argument, sizeof(struct sockaddr_in)));
  CHECK_EQ(write(fd, "late", 4), 4);
  CHECK_OK(close(fd));
  return NULL;
}

// The queue of the listener is full: the connection is made only when the host tries again.
static void TestInterruptedConnect(void) {
  struct sockaddr_in name;
  int listener = Listener(0, &name), first = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_OK(connect(first, (struct sockaddr*)&name, sizeof name));
  OnSignal(SIGUSR1, Handler, SA_RESTART);
  atomic_store(&ready, 0);
  atomic_store(&handled, 0);
  pthread_t thread = StartThread(ConnectLate, &name);
  AwaitBlocked(&ready, 1);
  for (int i = 0; i < 3; i++) {
    CHECK_ZERO(pthread_kill(thread, SIGUSR1));
    AwaitAtLeast(&handled, i + 1);
  }
  CHECK_OK(close(accept(listener, NULL, NULL)));
  int second = accept(listener, NULL, NULL);
  CHECK_OK(second);
  char bytes[4];
  CHECK_EQ(recv(second, bytes, 4, MSG_WAITALL), 4);
  CHECK(memcmp(bytes, "late", 4) == 0);
  JoinThread(thread);
  CHECK_OK(close(second));
  CHECK_OK(close(first));
  CHECK_OK(close(listener));
  Say("interrupted connect");
}

static void TestErrors(void) {
  struct sockaddr_in name = Loopback();
  name.sin_port = htons(1);
  int fd = socket(AF_INET, SOCK_STREAM, 0), value = 0;
  CHECK_OK(fd);
  CHECK_ERRNO(connect(fd, (struct sockaddr*)&name, sizeof name), ECONNREFUSED);
  CHECK_ERRNO(connect(fd, (struct sockaddr*)&name, (socklen_t)-1), EINVAL);
  CHECK_ERRNO(connect(fd, (struct sockaddr*)&name, 1000), EINVAL);
  CHECK_ERRNO(bind(fd, NULL, sizeof name), EFAULT);
  CHECK_ERRNO(bind(fd, (void*)0x7000000000000000, sizeof name), EFAULT);
  CHECK_ERRNO(accept(fd, NULL, NULL), EINVAL);
  CHECK_ERRNO(accept(99, NULL, NULL), EBADF);
  CHECK_ERRNO(listen(1, 1), ENOTSOCK);
  CHECK_ERRNO(getpeername(fd, NULL, NULL), ENOTCONN);
  CHECK_ERRNO(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, NULL), EFAULT);
  CHECK_ERRNO(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, 1), EINVAL);
  CHECK_ERRNO(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, (socklen_t)-1), EINVAL);
  CHECK_ERRNO(socket(AF_INET, 77, 0), EINVAL);
  CHECK_ERRNO(socket(1000, SOCK_STREAM, 0), EAFNOSUPPORT);
  CHECK_OK(close(fd));
  // A socket's timeout, and what is left of it behind a handler.
  int fds[2];
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
  struct timeval soon = {.tv_usec = 30000};
  CHECK_OK(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
  CHECK_ERRNO(recv(fds[0], &value, 1, 0), EAGAIN);
  CHECK_OK(close(fds[0]));
  CHECK_OK(close(fds[1]));
  Say("errors");
}

int main(void) {
  TestPair();
  TestUnix();
  // A resume resets TCP connections.
  if (!GuestInjected()) TestTcp();
  if (!GuestInjected()) TestInterruptedConnect();
  TestErrors();
  return 0;
}
