// variants: dynamic static
// Sockets across snapshots: pairs with bytes and descriptors in them, bound and listening ones,
// options, datagrams that wait, connections that are lost.
#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "tests/guest/sockets.h"

static void SendFds(int socket, const char* text, const int* fds, size_t count) {
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(8 * sizeof(int))];
  } control = {{0}};
  struct iovec part = {(void*)text, strlen(text)};
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = CMSG_SPACE(count * sizeof(int))};
  control.header = (struct cmsghdr){CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
  CHECK_EQ(sendmsg(socket, &message, 0), strlen(text));
}

// Prints what comes; the number of descriptors.
static int Receive(int socket, size_t most, int* fds) {
  char bytes[64] = {0};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(8 * sizeof(int))];
  } control;
  struct iovec part = {bytes, most};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  long length = recvmsg(socket, &message, MSG_DONTWAIT);
  int count = 0;
  if (length >= 0 && message.msg_controllen != 0) {
    count = (int)((control.header.cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(fds, CMSG_DATA(&control.header), (size_t)count * sizeof(int));
  }
  Say("  %ld \"%s\" with %d", length < 0 ? -errno : length, bytes, count);
  return count;
}

static void TestPairs(void) {
  static const int kTypes[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
  for (int i = 0; i < 3; i++) {
    int fds[2], got[8], file = PatternFile("passed", 100), half[2], quiet[2];
    CHECK_OK(socketpair(AF_UNIX, kTypes[i] | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds));
    CHECK_OK(socketpair(AF_UNIX, kTypes[i], 0, half));
    CHECK_OK(socketpair(AF_UNIX, kTypes[i], 0, quiet));
    SetInt(fds[0], SOL_SOCKET, SO_PASSCRED, 1);
    SetInt(fds[0], SOL_SOCKET, SO_PASSCRED, 0);
    struct timeval timeout = {3, 500000};
    CHECK_OK(setsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
    SetInt(fds[1], SOL_SOCKET, SO_SNDBUF, 70000);
    CHECK_EQ(write(fds[0], "forth", 5), 5);
    CHECK_EQ(write(fds[1], "first", 5), 5);
    CHECK_EQ(lseek(file, 7, SEEK_SET), 7);
    SendFds(fds[1], "second", (int[]){file, quiet[0], fds[0]}, 3);
    CHECK_EQ(write(fds[1], "third", 5), 5);
    CHECK_OK(close(quiet[0]));  // only in flight now
    CHECK_EQ(write(half[1], "last words", 10), 10);
    CHECK_OK(close(half[1]));
    // One that goes on sees nothing of it.
    long on = GuestTrySnapshot("goes on", KM_SNAPSHOT_CONTINUE);
    CHECK(on == 0 || on == -ENOSYS);
    for (int round = 0; round < 2; round++) GuestSnapshot();
    CHECK_EQ(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
    CHECK(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
    CHECK_EQ(Int(fds[0], SOL_SOCKET, SO_TYPE), kTypes[i]);
    CHECK_EQ(Int(fds[1], SOL_SOCKET, SO_SNDBUF), 140000);
    socklen_t size = sizeof timeout;
    CHECK_OK(getsockopt(fds[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, &size));
    CHECK(timeout.tv_sec == 3 && timeout.tv_usec >= 490000);
    Say("type %d", kTypes[i]);
    Receive(fds[1], 64, got);
    Receive(fds[0], 5, got);
    CHECK_EQ(Receive(fds[0], 3, got), 3);
    CHECK_EQ(lseek(got[0], 1, SEEK_CUR), 8);
    CHECK_EQ(lseek(file, 0, SEEK_CUR), 8);
    CHECK_EQ(write(got[1], "flown", 5), 5);
    Receive(quiet[1], 64, got + 4);
    CHECK_EQ(write(got[2], "self", 4), 4);
    Receive(fds[1], 64, got + 4);
    Receive(fds[0], 64, got + 4);
    Receive(fds[0], 64, got + 4);
    Receive(half[0], 64, got + 4);
    if (kTypes[i] != SOCK_DGRAM) Receive(half[0], 64, got + 4);
    CHECK_EQ(send(half[0], "x", 1, MSG_NOSIGNAL), -1);
    Say("  %s", strerror(errno));
    for (int j = 0; j < 3; j++) CHECK_OK(close(got[j]));
    CHECK_OK(close(fds[0]));
    CHECK_OK(close(fds[1]));
    CHECK_OK(close(half[0]));
    CHECK_OK(close(quiet[1]));
    CHECK_OK(close(file));
  }
}

static void TestEmptyMessages(void) {
  for (int type = SOCK_DGRAM; type <= SOCK_SEQPACKET; type += SOCK_SEQPACKET - SOCK_DGRAM) {
    int fds[2], none[8];
    CHECK_OK(socketpair(AF_UNIX, type, 0, fds));
    CHECK_EQ(send(fds[1], "a", 1, 0), 1);
    CHECK_EQ(send(fds[1], "", 0, 0), 0);
    CHECK_EQ(send(fds[1], "b", 1, 0), 1);
    GuestSnapshot();
    Say("with empty ones, type %d", type);
    for (int i = 0; i < 4; i++) Receive(fds[0], 16, none);
    CHECK_OK(close(fds[0]));
    CHECK_OK(close(fds[1]));
  }
}

// The program itself, wherever it goes on.
static void TestCredentials(void) {
  int fds[2];
  CHECK_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds));
  CHECK_EQ(send(fds[1], "unknown", 7, 0), 7);
  SetInt(fds[0], SOL_SOCKET, SO_PASSCRED, 1);
  CHECK_EQ(send(fds[1], "known", 5, 0), 5);
  GuestSnapshot();
  for (int known = 0; known < 2; known++) {
    char bytes[16];
    union {
      struct cmsghdr header;
      char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec part = {bytes, sizeof bytes};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    CHECK_EQ(recvmsg(fds[0], &message, MSG_DONTWAIT), known ? 5 : 7);
    CHECK_EQ(control.header.cmsg_type, SCM_CREDENTIALS);
    struct ucred sender;
    memcpy(&sender, CMSG_DATA(&control.header), sizeof sender);
    CHECK_EQ(sender.pid, known ? getpid() : 0);
    CHECK_EQ(sender.uid, known ? getuid() : 65534);
    CHECK_EQ(sender.gid, known ? getgid() : 65534);
  }
  CHECK_OK(close(fds[0]));
  CHECK_OK(close(fds[1]));
  Say("credentials");
}

static void TestShutdown(void) {
  int fds[2];
  char byte;
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
  CHECK_EQ(write(fds[0], "a", 1), 1);
  CHECK_EQ(write(fds[1], "b", 1), 1);
  CHECK_OK(shutdown(fds[0], SHUT_WR));
  GuestSnapshot();
  CHECK_EQ(read(fds[1], &byte, 1), 1);
  CHECK_EQ(read(fds[1], &byte, 1), 0);
  CHECK_EQ(write(fds[1], "c", 1), 1);
  CHECK_EQ(read(fds[0], &byte, 1), 1);
  CHECK_EQ(read(fds[0], &byte, 1), 1);
  CHECK_EQ(byte, 'c');
  CHECK_ERRNO(send(fds[0], "d", 1, MSG_NOSIGNAL), EPIPE);
  CHECK_OK(close(fds[0]));
  CHECK_OK(close(fds[1]));
  Say("shutdown");
}

static void TestUnix(void) {
  struct sockaddr_un name = {AF_UNIX, "listener"}, from = {0};
  int listener = socket(AF_UNIX, SOCK_STREAM, 0), server = socket(AF_UNIX, SOCK_DGRAM, 0);
  int client = socket(AF_UNIX, SOCK_DGRAM, 0), connected = socket(AF_UNIX, SOCK_DGRAM, 0);
  CHECK_OK(bind(listener, (struct sockaddr*)&name, sizeof name));
  CHECK_OK(listen(listener, 3));
  strcpy(name.sun_path, "server");
  CHECK_OK(bind(server, (struct sockaddr*)&name, sizeof name));
  CHECK_OK(connect(connected, (struct sockaddr*)&name, sizeof name));
  strcpy(name.sun_path, "client");
  CHECK_OK(bind(client, (struct sockaddr*)&name, sizeof name));
  strcpy(name.sun_path, "server");
  CHECK_EQ(sendto(client, "named", 5, 0, (struct sockaddr*)&name, sizeof name), 5);
  CHECK_EQ(write(connected, "unnamed", 7), 7);
  for (int round = 0; round < 2; round++) GuestSnapshot();
  CHECK_EQ(Int(listener, SOL_SOCKET, SO_ACCEPTCONN), 1);
  char bytes[16] = {0};
  socklen_t size = sizeof from;
  CHECK_EQ(recvfrom(server, bytes, 16, MSG_DONTWAIT, (struct sockaddr*)&from, &size), 5);
  Say("%s from %s", bytes, from.sun_path);
  CHECK_EQ(recvfrom(server, bytes, 16, MSG_DONTWAIT, (struct sockaddr*)&from, &size), 7);
  Say("%s from %d", bytes, size);
  CHECK_EQ(write(connected, "more", 4), 4);
  CHECK_EQ(recv(server, bytes, 16, MSG_DONTWAIT), 4);
  int stream = socket(AF_UNIX, SOCK_STREAM, 0);
  strcpy(name.sun_path, "listener");
  CHECK_OK(connect(stream, (struct sockaddr*)&name, sizeof name));
  int accepted = accept(listener, NULL, NULL);
  CHECK_EQ(write(stream, "hello", 5), 5);
  CHECK_EQ(read(accepted, bytes, 16), 5);
  // A connection, made by connect and accept.
  CHECK_EQ(write(stream, "across", 6), 6);
  for (int round = 0; round < 2; round++) GuestSnapshot();
  // Its names stay: that of the listener which accepted it.
  struct sockaddr_un own = {0}, far = {0};
  size = sizeof own;
  CHECK_OK(getsockname(accepted, (struct sockaddr*)&own, &size));
  CHECK_EQ(size, sizeof(sa_family_t) + sizeof "listener");
  size = sizeof far;
  CHECK_OK(getpeername(stream, (struct sockaddr*)&far, &size));
  CHECK_EQ(size, sizeof(sa_family_t) + sizeof "listener");
  Say("accepted by %s, connected to %s", own.sun_path, far.sun_path);
  size = sizeof own;
  CHECK_OK(getpeername(accepted, (struct sockaddr*)&own, &size));
  CHECK_EQ(size, sizeof(sa_family_t));
  CHECK_EQ(read(accepted, bytes, 16), 6);
  CHECK_EQ(write(accepted, "back", 4), 4);
  CHECK_EQ(read(stream, bytes, 16), 4);
  int all[] = {listener, server, client, connected, stream, accepted};
  for (int i = 0; i < 6; i++) CHECK_OK(close(all[i]));
  CHECK_OK(unlink("listener"));
  CHECK_OK(unlink("server"));
  CHECK_OK(unlink("client"));
  Say("unix");
}

// Datagram sockets whose other end is gone, with nothing left to read: the first send notices.
static void TestDeserted(void) {
  int pair[2], bound[2];
  CHECK_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  CHECK_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, bound));
  struct sockaddr_un name = {AF_UNIX, "bound"}, server = {AF_UNIX, "server"};
  CHECK_OK(bind(bound[0], (struct sockaddr*)&name, sizeof name));
  int far = socket(AF_UNIX, SOCK_DGRAM, 0), near = socket(AF_UNIX, SOCK_DGRAM, 0);
  CHECK_OK(bind(far, (struct sockaddr*)&server, sizeof server));
  CHECK_OK(connect(near, (struct sockaddr*)&server, sizeof server));
  CHECK_OK(close(pair[1]));
  CHECK_OK(close(bound[1]));
  CHECK_OK(close(far));
  CHECK_OK(unlink("server"));
  for (int round = 0; round < 2; round++) GuestSnapshot();
  int all[] = {pair[0], bound[0], near};
  for (int i = 0; i < 3; i++) {
    char byte;
    CHECK_ERRNO(recv(all[i], &byte, 1, MSG_DONTWAIT), EAGAIN);
    CHECK_ERRNO(send(all[i], "x", 1, MSG_NOSIGNAL), ECONNREFUSED);
    CHECK_ERRNO(send(all[i], "x", 1, MSG_NOSIGNAL), ENOTCONN);
  }
  struct sockaddr_un own = {0};
  socklen_t size = sizeof own;
  CHECK_OK(getsockname(bound[0], (struct sockaddr*)&own, &size));
  Say("deserted, %s", own.sun_path);
  for (int i = 0; i < 3; i++) CHECK_OK(close(all[i]));
  CHECK_OK(unlink("bound"));
}

static void TestInternet(void) {
  struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  int udp = socket(AF_INET, SOCK_DGRAM, 0), peer = socket(AF_INET, SOCK_DGRAM, 0);
  int fresh = socket(AF_INET, SOCK_STREAM, 0);
  SetInt(fresh, IPPROTO_TCP, TCP_NODELAY, 1);
  SetInt(fresh, SOL_SOCKET, SO_KEEPALIVE, 1);
  SetInt(fresh, IPPROTO_TCP, TCP_KEEPIDLE, 77);
  SetInt(fresh, SOL_SOCKET, SO_RCVBUF, 33333);
  struct linger wait = {1, 9};
  CHECK_OK(setsockopt(fresh, SOL_SOCKET, SO_LINGER, &wait, sizeof wait));
  CHECK_OK(bind(listener, (struct sockaddr*)&any, sizeof any));
  CHECK_OK(listen(listener, 5));
  CHECK_OK(bind(udp, (struct sockaddr*)&any, sizeof any));
  CHECK_OK(bind(peer, (struct sockaddr*)&any, sizeof any));
  struct sockaddr_in listens = Name(listener), named = Name(udp), peers = Name(peer);
  SetInt(udp, IPPROTO_IP, IP_TOS, 0x10);
  SetInt(udp, IPPROTO_IP, IP_PKTINFO, 1);
  CHECK_EQ(sendto(peer, "one", 3, 0, (struct sockaddr*)&named, sizeof named), 3);
  CHECK_EQ(sendto(peer, "three", 5, 0, (struct sockaddr*)&named, sizeof named), 5);
  CHECK_OK(connect(peer, (struct sockaddr*)&named, sizeof named));
  for (int round = 0; round < 2; round++) GuestSnapshot();
  CHECK_EQ(Int(fresh, IPPROTO_TCP, TCP_NODELAY), 1);
  CHECK_EQ(Int(fresh, SOL_SOCKET, SO_KEEPALIVE), 1);
  CHECK_EQ(Int(fresh, IPPROTO_TCP, TCP_KEEPIDLE), 77);
  CHECK_EQ(Int(fresh, SOL_SOCKET, SO_RCVBUF), 66666);
  socklen_t size = sizeof wait;
  CHECK_OK(getsockopt(fresh, SOL_SOCKET, SO_LINGER, &wait, &size));
  CHECK(wait.l_onoff == 1 && wait.l_linger == 9);
  CHECK_EQ(Int(udp, IPPROTO_IP, IP_TOS), 0x10);
  CHECK_EQ(Int(udp, IPPROTO_IP, IP_PKTINFO), 1);
  CHECK_EQ(Name(listener).sin_port, listens.sin_port);
  CHECK_EQ(Name(udp).sin_port, named.sin_port);
  CHECK_EQ(Int(listener, SOL_SOCKET, SO_ACCEPTCONN), 1);
  CHECK_EQ(Int(listener, SOL_SOCKET, SO_REUSEADDR), 0);
  struct tcp_info info;
  size = sizeof info;
  CHECK_OK(getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &size));
  CHECK_EQ(info.tcpi_sacked, 5);
  char bytes[16] = {0};
  for (int i = 0; i < 2; i++) {
    memset(bytes, 0, sizeof bytes);
    size = sizeof from;
    CHECK_OK(recvfrom(udp, bytes, 16, MSG_DONTWAIT, (struct sockaddr*)&from, &size));
    CHECK_EQ(from.sin_port, peers.sin_port);
    Say("%s", bytes);
  }
  CHECK_EQ(send(peer, "two", 3, 0), 3);
  CHECK_EQ(recv(udp, bytes, 16, 0), 3);
  if (!GuestInjected()) {  // which could reset the connection
    CHECK_OK(connect(fresh, (struct sockaddr*)&listens, sizeof listens));
    struct pollfd look = {listener, POLLIN, 0};
    CHECK_EQ(poll(&look, 1, 5000), 1);
    CHECK_OK(close(accept(listener, NULL, NULL)));
  }
  int all[] = {listener, udp, peer, fresh};
  for (int i = 0; i < 4; i++) CHECK_OK(close(all[i]));
  Say("internet");
}

// Natively there is no snapshot that loses it: the other end resets it.
static void TestLost(void) {
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_OK(bind(listener, (struct sockaddr*)&name, sizeof name));
  CHECK_OK(listen(listener, 5));
  name = Name(listener);
  CHECK_OK(connect(fd, (struct sockaddr*)&name, sizeof name));
  int accepted = accept(listener, NULL, NULL);
  CHECK_OK(accepted);
  CHECK_EQ(write(accepted, "in flight", 9), 9);
  struct pollfd look = {fd, POLLIN, 0};
  CHECK_EQ(poll(&look, 1, 5000), 1);
  int waits = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_OK(connect(waits, (struct sockaddr*)&name, sizeof name));
  look.fd = listener;
  CHECK_EQ(poll(&look, 1, 5000), 1);
  SetInt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  struct linger at_once = {1, 0};
  if (GuestSnapshot() == 0) {
    CHECK_OK(setsockopt(accepted, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
    CHECK_OK(close(accepted));
    CHECK_OK(setsockopt(waits, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
    CHECK_OK(close(waits));
  } else {
    CHECK_OK(close(accepted));
    CHECK_OK(close(waits));
  }
  GuestSnapshot();
  look = (struct pollfd){fd, POLLIN | POLLOUT | POLLRDHUP, 0};
  CHECK_EQ(poll(&look, 1, 5000), 1);
  Say("poll %#x", look.revents);
  CHECK_EQ(Int(fd, IPPROTO_TCP, TCP_NODELAY), 1);
  char bytes[16];
  CHECK_EQ(recv(fd, bytes, 16, 0), 9);
  CHECK_ERRNO(recv(fd, bytes, 16, 0), ECONNRESET);
  CHECK_EQ(recv(fd, bytes, 16, 0), 0);
  CHECK_ERRNO(send(fd, bytes, 1, MSG_NOSIGNAL), EPIPE);
  int late = accept(listener, NULL, NULL);
  CHECK_OK(late);
  CHECK_ERRNO(recv(late, bytes, 16, 0), ECONNRESET);
  CHECK_OK(close(late));
  CHECK_OK(close(listener));
  CHECK_OK(close(fd));
  Say("lost");
}

// It drops datagrams that begin with an x, but not those that were there before it.
static void TestFilter(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, sizeof(struct udphdr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 'x', 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0),
      BPF_STMT(BPF_RET | BPF_K, 0xffff),
  };
  struct sock_fprog program = {sizeof code / sizeof *code, code};
  struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_DGRAM, 0), sender = socket(AF_INET, SOCK_DGRAM, 0);
  CHECK_OK(bind(fd, (struct sockaddr*)&name, sizeof name));
  name = Name(fd);
  CHECK_OK(connect(sender, (struct sockaddr*)&name, sizeof name));
  CHECK_EQ(send(sender, "x early", 7, 0), 7);
  CHECK_OK(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
  GuestSnapshot();
  struct sock_filter shown[4];
  socklen_t count = 4;
  CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, shown, &count));
  CHECK_EQ(count, 4);
  CHECK_EQ(memcmp(shown, code, sizeof code), 0);
  CHECK_EQ(send(sender, "x late", 6, 0), 6);
  CHECK_EQ(send(sender, "y", 1, 0), 1);
  int none[8];
  for (int i = 0; i < 3; i++) Receive(fd, 16, none);
  CHECK_OK(close(fd));
  CHECK_OK(close(sender));
  Say("filter");
}

int main(void) {
  TestPairs();
  TestEmptyMessages();
  TestCredentials();
  TestShutdown();
  TestUnix();
  TestDeserted();
  TestInternet();
  TestFilter();
  if (!GuestInjected()) TestLost();
  return 0;
}
