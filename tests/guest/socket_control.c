// variants: dynamic static
// Control messages: descriptors, credentials, timestamps, packet information, and what happens
// where there is no room for them.
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/guest/guest.h"

typedef union {
  struct cmsghdr align;
  char bytes[512];
} Control;

static struct msghdr Message(struct iovec* part, void* control, size_t size) {
  return (struct msghdr){
      .msg_iov = part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = size};
}

static long SendFds(int socket, const int* fds, size_t count) {
  Control control = {0};
  struct iovec part = {"x", 1};
  struct msghdr message = Message(&part, &control, CMSG_SPACE(count * sizeof(int)));
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  *header = (struct cmsghdr){CMSG_LEN(count * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
  memcpy(CMSG_DATA(header), fds, count * sizeof(int));
  return sendmsg(socket, &message, 0);
}

// Prints what came, descriptors by number. Closes nothing.
static struct msghdr Receive(const char* what, int socket, size_t size, int flags, int* fds) {
  static Control control;
  static char byte[4];
  static struct iovec part;
  memset(&control, 0x55, sizeof control);
  part = (struct iovec){byte, sizeof byte};
  struct msghdr message = Message(&part, &control, size);
  long result = recvmsg(socket, &message, flags);
  printf("%s: %ld flags %#x controllen %zu", what, result, message.msg_flags,
         message.msg_controllen);
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  for (; header != NULL; header = CMSG_NXTHDR(&message, header)) {
    printf(" [len %zu level %d type %d]", header->cmsg_len, header->cmsg_level, header->cmsg_type);
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(fds, CMSG_DATA(header), count * sizeof(int));
    for (size_t i = 0; i < count; i++) {
      printf(" %d%s", fds[i], fcntl(fds[i], F_GETFD) == FD_CLOEXEC ? "c" : "");
    }
  }
  putchar(10);
  fflush(stdout);
  return message;
}

static void CloseAll(const int* fds, int count) {
  for (int i = 0; i < count; i++) CHECK_OK(close(fds[i]));
}

static void TestRights(void) {
  int pair[2], got[64], file = PatternFile("file", 100);
  CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
  int sent[4] = {file, file, pair[0], 1};
  CHECK_EQ(SendFds(pair[0], sent, 4), 1);
  Receive("four", pair[1], 512, 0, got);
  // One description: they move together.
  CHECK_EQ(lseek(got[0], 42, SEEK_SET), 42);
  CHECK_EQ(lseek(file, 0, SEEK_CUR), 42);
  CHECK(GuestSameFile(got[2], pair[0]));
  CHECK_EQ(write(got[2], "self", 4), 4);
  CHECK_EQ(read(pair[1], (char[4]){0}, 4), 4);
  CloseAll(got, 4);

  CHECK_EQ(SendFds(pair[0], sent, 2), 1);
  Receive("cloexec", pair[1], 512, MSG_CMSG_CLOEXEC, got);
  CloseAll(got, 2);
  CHECK_EQ(SendFds(pair[0], sent, 2), 1);
  Receive("peek", pair[1], 512, MSG_PEEK, got);
  Receive("peeked", pair[1], 512, 0, got + 2);
  CloseAll(got, 4);
  // The sender's own may be gone by then.
  int copy = dup(file);
  CHECK_EQ(SendFds(pair[0], &copy, 1), 1);
  CHECK_OK(close(copy));
  Receive("late", pair[1], 512, 0, got);
  CHECK_EQ(lseek(got[0], 0, SEEK_CUR), 42);
  CHECK_OK(close(got[0]));
  // Read by a call that does not know of them.
  CHECK_EQ(SendFds(pair[0], sent, 2), 1);
  CHECK_EQ(read(pair[1], got, 1), 1);
  // A socket inside itself.
  CHECK_EQ(SendFds(pair[0], &pair[1], 1), 1);
  Receive("itself", pair[1], 512, 0, got);
  CHECK_OK(close(got[0]));

  int bad[2] = {file, 999};
  CHECK_ERRNO(SendFds(pair[0], bad, 2), EBADF);
  CHECK_ERRNO(SendFds(pair[0], (int[]){-1}, 1), EBADF);
  CHECK_ERRNO(recv(pair[1], got, 1, MSG_DONTWAIT), EAGAIN);
  CHECK_OK(close(pair[0]));
  CHECK_OK(close(pair[1]));
  CHECK_OK(close(file));
}

static void TestRoom(void) {
  int pair[2], got[64];
  CHECK_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  int sent[3] = {pair[0], pair[1], 1};
  static const size_t kSizes[] = {0, 8, 15, 16, 17, 19, 20, 21, 23, 24, 27, 28, 31, 32, 33, 512};
  for (size_t i = 0; i < sizeof kSizes / sizeof *kSizes; i++) {
    CHECK_EQ(SendFds(pair[0], sent, 3), 1);
    char what[32];
    snprintf(what, sizeof what, "room %zu", kSizes[i]);
    struct msghdr message = Receive(what, pair[1], kSizes[i], 0, got);
    if (message.msg_controllen >= 20) {
      struct cmsghdr* header = message.msg_control;
      CloseAll(got, (int)(header->cmsg_len - 16) / 4);
    }
  }
  // No memory behind it.
  CHECK_EQ(SendFds(pair[0], sent, 3), 1);
  char byte;
  struct iovec part = {&byte, 1};
  struct msghdr message = Message(&part, (void*)8, 512);
  CHECK_EQ(recvmsg(pair[1], &message, 0), 1);
  Say("unmapped: flags %#x controllen %zu", message.msg_flags, message.msg_controllen);
  CHECK_EQ(SendFds(pair[0], sent, 3), 1);
  message = Message(&part, NULL, 512);
  CHECK_EQ(recvmsg(pair[1], &message, 0), 1);
  Say("null: flags %#x controllen %zu", message.msg_flags, message.msg_controllen);

  // As many descriptors as are allowed.
  struct rlimit old, limit;
  CHECK_OK(getrlimit(RLIMIT_NOFILE, &old));
  limit = old;
  limit.rlim_cur = (rlim_t)pair[1] + 3;
  CHECK_OK(setrlimit(RLIMIT_NOFILE, &limit));
  CHECK_EQ(SendFds(pair[0], sent, 3), 1);
  Receive("limit", pair[1], 512, 0, got);
  CHECK_EQ(SendFds(pair[0], sent, 3), 1);
  Receive("full", pair[1], 512, 0, got + 2);
  CHECK_OK(setrlimit(RLIMIT_NOFILE, &old));
  CloseAll(got, 2);
  int next = dup(0);
  Say("next %d", next);
  CHECK_OK(close(next));
  CHECK_OK(close(pair[0]));
  CHECK_OK(close(pair[1]));
}

static void TestMalformed(void) {
  int pair[2], got[64];
  CHECK_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  Control control = {0};
  struct iovec part = {"y", 1};
  static const struct {
    size_t length, controllen;
    int level, type;
  } kCases[] = {
      {0, 16, SOL_SOCKET, SCM_RIGHTS},
      {15, 16, SOL_SOCKET, SCM_RIGHTS},
      {16, 16, SOL_SOCKET, SCM_RIGHTS},
      {17, 24, SOL_SOCKET, SCM_RIGHTS},
      {19, 24, SOL_SOCKET, SCM_RIGHTS},
      {25, 24, SOL_SOCKET, SCM_RIGHTS},
      {(size_t)-1, 24, SOL_SOCKET, SCM_RIGHTS},
      {20, 24, SOL_SOCKET, 99},
      {20, 24, IPPROTO_IP, IP_TTL},
      {20, 15, SOL_SOCKET, SCM_RIGHTS},
      {20, 24, SOL_SOCKET, SCM_CREDENTIALS},
      {20, 24, SOL_SOCKET, 3 /* SCM_SECURITY */},
  };
  for (size_t i = 0; i < sizeof kCases / sizeof *kCases; i++) {
    control.align = (struct cmsghdr){kCases[i].length, kCases[i].level, kCases[i].type};
    memset(CMSG_DATA(&control.align), 0, 16);
    struct msghdr message = Message(&part, &control, kCases[i].controllen);
    long result = sendmsg(pair[0], &message, 0);
    Say("malformed %zu: %ld errno %d", i, result, result < 0 ? errno : 0);
    if (result < 0) continue;
    struct msghdr in = Receive("  got", pair[1], 512, 0, got);
    if (in.msg_controllen != 0) CHECK_OK(close(got[0]));
  }
  int many[254];
  for (int i = 0; i < 254; i++) many[i] = 1;
  static char large[CMSG_SPACE(sizeof many)] __attribute__((aligned(8)));
  struct msghdr message = Message(&part, large, sizeof large);
  *(struct cmsghdr*)large = (struct cmsghdr){CMSG_LEN(sizeof many), SOL_SOCKET, SCM_RIGHTS};
  memcpy(large + 16, many, sizeof many);
  CHECK_ERRNO(sendmsg(pair[0], &message, 0), EINVAL);
  message = Message(&part, (void*)8, 24);
  CHECK_ERRNO(sendmsg(pair[0], &message, 0), EFAULT);
  message = Message(&part, NULL, (size_t)1 << 40);
  CHECK_ERRNO(sendmsg(pair[0], &message, 0), ENOBUFS);
  CHECK_OK(close(pair[0]));
  CHECK_OK(close(pair[1]));
}

static void TestCredentials(void) {
  int pair[2], got[8], one = 1;
  CHECK_OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
  CHECK_OK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one));
  for (int explicit = 0; explicit < 2; explicit ++) {
    Control control = {0};
    struct iovec part = {"c", 1};
    struct msghdr message = Message(&part, &control, CMSG_SPACE(sizeof(struct ucred)));
    control.align = (struct cmsghdr){CMSG_LEN(sizeof(struct ucred)), SOL_SOCKET, SCM_CREDENTIALS};
    *(struct ucred*)CMSG_DATA(&control.align) = (struct ucred){getpid(), getuid(), getgid()};
    if (!explicit) message.msg_controllen = 0;
    CHECK_EQ(sendmsg(pair[0], &message, 0), 1);
    struct msghdr in = Receive("credentials", pair[1], 512, 0, got);
    struct ucred* from = (struct ucred*)CMSG_DATA((struct cmsghdr*)in.msg_control);
    CHECK_EQ(from->pid, getpid());
    CHECK_EQ(from->uid, getuid());
    CHECK_EQ(from->gid, getgid());
  }
  // Half an id.
  CHECK_EQ(send(pair[0], "z", 1, 0), 1);
  struct msghdr in = Receive("half", pair[1], 18, 0, got);
  pid_t pid = getpid();
  CHECK(memcmp(CMSG_DATA((struct cmsghdr*)in.msg_control), &pid, 2) == 0);
  // Both kinds in one message.
  CHECK_EQ(SendFds(pair[0], pair, 2), 1);
  Receive("both", pair[1], 512, 0, got);
  CloseAll(got, 2);
  CHECK_EQ(SendFds(pair[0], pair, 2), 1);
  Receive("both, cut", pair[1], 52, 0, got);
  CloseAll(got, 1);
  struct ucred peer;
  socklen_t size = sizeof peer;
  CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &size));
  CHECK_EQ(peer.pid, getpid());
  CHECK_EQ(peer.uid, getuid());
  size = 3;
  CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &peer, &size));
  CHECK_EQ(size, 3);
  CHECK_OK(close(pair[0]));
  CHECK_OK(close(pair[1]));
}

static void TestInternet(void) {
  int got[8], one = 1, fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in name = {.sin_family = AF_INET};
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof name;
  CHECK_OK(bind(fd, (struct sockaddr*)&name, size));
  CHECK_OK(getsockname(fd, (struct sockaddr*)&name, &size));
  CHECK_OK(setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof one));
  CHECK_OK(setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &one, sizeof one));
  CHECK_OK(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one));
  // Descriptors mean nothing here: even bad ones.
  Control control = {0};
  struct iovec part = {"udp", 3};
  struct msghdr message = Message(&part, &control, 48);
  message.msg_name = &name;
  message.msg_namelen = sizeof name;
  control.align = (struct cmsghdr){20, SOL_SOCKET, SCM_RIGHTS};
  *(int*)CMSG_DATA(&control.align) = 777;
  struct cmsghdr* second = (struct cmsghdr*)(control.bytes + 24);
  *second = (struct cmsghdr){20, IPPROTO_IP, IP_TTL};
  *(int*)CMSG_DATA(second) = 33;
  CHECK_EQ(sendmsg(fd, &message, 0), 3);
  struct msghdr in = Receive("udp", fd, 512, 0, got);
  for (struct cmsghdr* h = CMSG_FIRSTHDR(&in); h != NULL; h = CMSG_NXTHDR(&in, h)) {
    if (h->cmsg_type == IP_TTL && h->cmsg_level == IPPROTO_IP) Say("ttl %d", *(int*)CMSG_DATA(h));
    if (h->cmsg_type != IP_PKTINFO || h->cmsg_level != IPPROTO_IP) continue;
    CHECK_EQ(((struct in_pktinfo*)CMSG_DATA(h))->ipi_addr.s_addr, name.sin_addr.s_addr);
  }
  // One send, several datagrams.
  char bytes[10] = "123456789";
  part = (struct iovec){bytes, 10};
  message.msg_controllen = 24;
  control.align = (struct cmsghdr){CMSG_LEN(2), SOL_UDP, UDP_SEGMENT};
  *(uint16_t*)CMSG_DATA(&control.align) = 4;
  CHECK_EQ(sendmsg(fd, &message, 0), 10);
  int lengths[3];
  for (int i = 0; i < 3; i++) CHECK_OK(lengths[i] = (int)recv(fd, bytes, 10, MSG_DONTWAIT));
  Say("segments %d %d %d", lengths[0], lengths[1], lengths[2]);
  CHECK_OK(close(fd));
}

int main(void) {
  TestRights();
  TestRoom();
  TestMalformed();
  TestCredentials();
  TestInternet();
  return 0;
}
