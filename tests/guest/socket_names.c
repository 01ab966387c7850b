// variants: dynamic static
// Names: UNIX paths of every length and through /proc, abstract ones, interfaces, netlink,
// getaddrinfo; options with other than plain values.
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/guest/guest.h"

static struct sockaddr_un Name(const char* path) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  CHECK(strlen(path) <= sizeof name.sun_path);
  memcpy(name.sun_path, path, strlen(path));
  return name;
}

static int Bound(const char* path) {
  int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  struct sockaddr_un name = Name(path);
  CHECK_OK(fd);
  socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
  CHECK_OK(bind(fd, (struct sockaddr*)&name, size));
  return fd;
}

static void SayName(const char* what, int (*get)(int, struct sockaddr*, socklen_t*), int fd) {
  char bytes[200];
  memset(bytes, '#', sizeof bytes);
  socklen_t size = sizeof bytes;
  if (get(fd, (struct sockaddr*)bytes, &size) != 0) {
    Say("%s: errno %d", what, errno);
    return;
  }
  int length = (int)size - 2;
  Say("%s: %d %.*s then %c", what, size, length > 0 ? length : 0, bytes + 2, bytes[size]);
}

static void Exchange(int server, const char* path) {
  struct sockaddr_un to = Name(path);
  int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  char byte;
  CHECK_EQ(sendto(fd, "1", 1, 0, (struct sockaddr*)&to, sizeof to), 1);
  CHECK_EQ(recv(server, &byte, 1, MSG_DONTWAIT), 1);
  CHECK_OK(connect(fd, (struct sockaddr*)&to, sizeof to));
  CHECK_EQ(send(fd, "2", 1, 0), 1);
  CHECK_EQ(recv(server, &byte, 1, MSG_DONTWAIT), 1);
  CHECK_OK(close(fd));
}

static void TestPaths(void) {
  char path[200] = "/proc/self/cwd/in-cwd";
  CHECK_OK(mkdir("directory", 0700));
  int server = Bound("short");
  SayName("short", getsockname, server);
  Exchange(server, "short");
  Exchange(server, "./directory/../short");
  Exchange(server, "/proc/self/cwd/short");
  Exchange(server, "/proc/thread-self/cwd/short");
  CHECK_OK(symlink("/proc/self/cwd", "link"));
  Exchange(server, "link/short");
  int path_fd = open("short", O_PATH);
  snprintf(path, sizeof path, "/proc/self/fd/%d", path_fd);
  Exchange(server, path);
  CHECK_OK(symlink(path, "socket-link"));
  Exchange(server, "socket-link");
  CHECK_OK(close(path_fd));
  CHECK_OK(close(server));

  // As long as there is room for, with no end.
  memset(path, 'p', sizeof path);
  path[108] = 0;
  server = Bound(path);
  SayName("longest", getsockname, server);
  CHECK_OK(close(server));

  // A directory that the program has open under a number of its own.
  int fd = open("directory", O_PATH | O_DIRECTORY), other = 40;
  CHECK_EQ(dup2(fd, other), other);
  server = Bound("/proc/self/fd/40/far");
  SayName("far", getsockname, server);
  Exchange(server, "directory/far");
  Exchange(server, "/proc/self/fd/40/far");
  Exchange(server, "/dev/fd/40/far");
  CHECK_OK(access("directory/far", F_OK));
  // Who it comes from.
  int client = Bound("client");
  struct sockaddr_un to = Name("client"), from = {0};
  socklen_t size = sizeof from;
  char byte;
  CHECK_EQ(sendto(server, "x", 1, 0, (struct sockaddr*)&to, sizeof to), 1);
  CHECK_EQ(recvfrom(client, &byte, 1, 0, (struct sockaddr*)&from, &size), 1);
  Say("from %d %s", size, from.sun_path);
  to = Name("/proc/self/fd/40/far");
  CHECK_OK(connect(client, (struct sockaddr*)&to, sizeof to));
  SayName("peer", getpeername, client);
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_name = &from, .msg_namelen = 9};
  memset(&from, '#', sizeof from);
  CHECK_EQ(send(server, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL), -1);
  CHECK_EQ(sendto(server, "x", 1, 0, (struct sockaddr*)&(struct sockaddr_un){AF_UNIX, "client"}, 9),
           1);
  CHECK_EQ(recvmsg(client, &message, 0), 1);
  Say("message from %d %.9s", message.msg_namelen, (char*)&from + 2);
  CHECK_OK(close(client));
  CHECK_OK(close(server));

  static const char* kBad[] = {
      "none/x", "short/x", "/proc/self/fd/99/x", "/proc/self/fd/0/x", "short", "directory/", "/"};
  for (size_t i = 0; i < sizeof kBad / sizeof *kBad; i++) {
    struct sockaddr_un name = Name(kBad[i]);
    fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    errno = 0;
    int result = bind(fd, (struct sockaddr*)&name, sizeof name), bind_error = errno;
    errno = 0;
    int connected = connect(fd, (struct sockaddr*)&name, sizeof name);
    Say("%s: %d %d, %d %d", kBad[i], result, bind_error, connected, errno);
    CHECK_OK(close(fd));
  }
}

static void TestAbstract(void) {
  int fds[2] = {socket(AF_UNIX, SOCK_SEQPACKET, 0), socket(AF_UNIX, SOCK_SEQPACKET, 0)};
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  snprintf(name.sun_path, sizeof name.sun_path, "%ckm-test-%d/proc/self", 0, getpid());
  CHECK_OK(bind(fds[0], (struct sockaddr*)&name, 30));
  CHECK_OK(listen(fds[0], 1));
  CHECK_OK(connect(fds[1], (struct sockaddr*)&name, 30));
  struct sockaddr_un peer;
  socklen_t size = sizeof peer;
  CHECK_OK(getpeername(fds[1], (struct sockaddr*)&peer, &size));
  CHECK_EQ(size, 30);
  CHECK(memcmp(&peer, &name, 30) == 0);
  int accepted = accept(fds[0], (struct sockaddr*)&peer, &size);
  CHECK_EQ(size, 2);
  CHECK_OK(close(accepted));
  size = (socklen_t)-1;
  CHECK_ERRNO(getsockname(fds[0], (struct sockaddr*)&peer, &size), EINVAL);
  size = 4;
  CHECK_OK(getsockname(fds[0], (struct sockaddr*)&peer, &size));
  CHECK_EQ(size, 30);
  CHECK_ERRNO(getsockname(fds[0], NULL, &size), EFAULT);
  CHECK_OK(close(fds[0]));
  CHECK_OK(close(fds[1]));
  Say("abstract");
}

static void TestInterfaces(void) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0), count = 0;
  struct ifconf list = {0};
  CHECK_OK(ioctl(fd, SIOCGIFCONF, &list));
  CHECK(list.ifc_len > 0 && list.ifc_len % sizeof(struct ifreq) == 0);
  list.ifc_buf = malloc((size_t)list.ifc_len);
  CHECK_OK(ioctl(fd, SIOCGIFCONF, &list));
  for (size_t i = 0; i < (size_t)list.ifc_len / sizeof(struct ifreq); i++) {
    count += strcmp(list.ifc_req[i].ifr_name, "lo") == 0;
  }
  Say("SIOCGIFCONF: %d lo", count);
  struct ifreq request = {.ifr_name = "lo"};
  CHECK_OK(ioctl(fd, SIOCGIFADDR, &request));
  Say("%s", inet_ntoa(((struct sockaddr_in*)&request.ifr_addr)->sin_addr));
  CHECK_OK(ioctl(fd, SIOCGIFFLAGS, &request));
  CHECK((request.ifr_flags & (IFF_UP | IFF_LOOPBACK)) == (IFF_UP | IFF_LOOPBACK));
  CHECK_OK(ioctl(fd, SIOCGIFINDEX, &request));
  CHECK_EQ(request.ifr_ifindex, if_nametoindex("lo"));
  CHECK_OK(ioctl(fd, SIOCGIFNAME, &request));
  CHECK(strcmp(request.ifr_name, "lo") == 0);
  CHECK_OK(ioctl(fd, SIOCGIFMTU, &request));
  CHECK_OK(ioctl(fd, SIOCGIFHWADDR, &request));
  CHECK_OK(ioctl(fd, SIOCGIFNETMASK, &request));
  strcpy(request.ifr_name, "no-such");
  CHECK_ERRNO(ioctl(fd, SIOCGIFADDR, &request), ENODEV);
  CHECK_ERRNO(ioctl(fd, SIOCGIFADDR, 8), EFAULT);
  CHECK_ERRNO(ioctl(fd, SIOCGIFCONF, 8), EFAULT);
  CHECK_ERRNO(ioctl(0, SIOCGIFCONF, &list), ENOTTY);
  CHECK_OK(close(fd));

  struct ifaddrs* all;
  CHECK_OK(getifaddrs(&all));
  count = 0;
  for (struct ifaddrs* at = all; at != NULL; at = at->ifa_next) {
    if (at->ifa_addr == NULL || at->ifa_addr->sa_family != AF_INET) continue;
    count += ((struct sockaddr_in*)at->ifa_addr)->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
  }
  Say("getifaddrs: %d loopback", count);
  freeifaddrs(all);
}

static void TestNetlink(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  CHECK_OK(fd);
  struct sockaddr_nl name = {.nl_family = AF_NETLINK};
  socklen_t size = sizeof name;
  CHECK_OK(bind(fd, (struct sockaddr*)&name, size));
  CHECK_OK(getsockname(fd, (struct sockaddr*)&name, &size));
  CHECK_EQ(name.nl_pid, getpid());
  struct {
    struct nlmsghdr head;
    struct rtgenmsg body;
  } ask = {{sizeof ask, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 7, 0}, {AF_UNSPEC}};
  for (int way = 0; way < 3; way++) {
    ask.head.nlmsg_type = way == 0 ? RTM_GETLINK : way == 1 ? RTM_GETADDR : RTM_GETROUTE;
    CHECK_EQ(send(fd, &ask, sizeof ask, 0), sizeof ask);
    static char answer[65536] __attribute__((aligned(8)));
    for (int done = 0; !done;) {
      int length = (int)recv(fd, answer, sizeof answer, 0);
      CHECK(length > 0);
      struct nlmsghdr* head = (struct nlmsghdr*)answer;
      for (; NLMSG_OK(head, (unsigned)length); head = NLMSG_NEXT(head, length)) {
        CHECK(head->nlmsg_type != NLMSG_ERROR);
        CHECK_EQ(head->nlmsg_pid, getpid());
        done |= head->nlmsg_type == NLMSG_DONE;
      }
    }
  }
  CHECK_OK(close(fd));
  Say("netlink");
}

static void TestResolver(void) {
  struct addrinfo hints = {.ai_family = AF_INET,
                           .ai_socktype = SOCK_STREAM,
                           .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV},
                  *found;
  CHECK_ZERO(getaddrinfo("127.0.0.1", "80", &hints, &found));
  CHECK(found->ai_next == NULL);
  Say("%s", inet_ntoa(((struct sockaddr_in*)found->ai_addr)->sin_addr));
  freeaddrinfo(found);
}

static void TestOptions(void) {
  int fds[2], tcp = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0);
  CHECK_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds));
  // Only what begins with an A.
  struct sock_filter code[] = {
      {BPF_LD | BPF_B | BPF_ABS, 0, 0, 0},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 'A'},
      {BPF_RET | BPF_K, 0, 0, 0xffff},
      {BPF_RET | BPF_K, 0, 0, 0},
  };
  struct sock_fprog program = {4, code};
  CHECK_OK(setsockopt(fds[1], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
  send(fds[0], "Bad", 3, 0);
  CHECK_EQ(send(fds[0], "All", 3, 0), 3);
  char bytes[8];
  CHECK_EQ(recv(fds[1], bytes, 8, MSG_DONTWAIT), 3);
  CHECK(memcmp(bytes, "All", 3) == 0);
  struct sock_filter back[4];
  socklen_t size = 4;
  CHECK_OK(getsockopt(fds[1], SOL_SOCKET, SO_GET_FILTER, back, &size));
  CHECK_EQ(size, 4);
  CHECK(memcmp(code, back, sizeof back) == 0);
  CHECK_OK(setsockopt(fds[1], SOL_SOCKET, SO_DETACH_FILTER, &size, sizeof size));
  CHECK_ERRNO(setsockopt(fds[1], SOL_SOCKET, SO_DETACH_FILTER, &size, sizeof size), ENOENT);
  program.filter = (void*)8;
  CHECK_ERRNO(setsockopt(fds[1], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), EFAULT);
  CHECK_ERRNO(setsockopt(fds[1], SOL_SOCKET, SO_ATTACH_FILTER, &program, 8), EINVAL);
  char name[32];
  size = sizeof name;
  CHECK_OK(getsockopt(tcp, IPPROTO_TCP, TCP_CONGESTION, name, &size));
  struct tcp_info info;
  size = sizeof info;
  CHECK_OK(getsockopt(tcp, IPPROTO_TCP, TCP_INFO, &info, &size));
  Say("state %d", info.tcpi_state);
  size = 0x7fffffff;
  int value = -1;
  CHECK_OK(getsockopt(udp, SOL_SOCKET, SO_TYPE, &value, &size));
  Say("type %d size %d", value, size);
  size = (socklen_t)-1;
  CHECK_ERRNO(getsockopt(udp, SOL_SOCKET, SO_TYPE, &value, &size), EINVAL);
  CHECK_ERRNO(getsockopt(udp, SOL_SOCKET, 9999, &value, &size), EINVAL);
  size = sizeof value;
  CHECK_ERRNO(getsockopt(udp, SOL_SOCKET, 9999, &value, &size), ENOPROTOOPT);
  CHECK_OK(close(tcp));
  CHECK_OK(close(udp));
  int v6 = socket(AF_INET6, SOCK_DGRAM, 0);
  if (v6 >= 0) {
    static const int kNames[] = {IPV6_RECVPKTINFO, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS, IPV6_TCLASS};
    for (int i = 0; i < 4; i++) {
      value = 1;
      CHECK_OK(setsockopt(v6, IPPROTO_IPV6, kNames[i], &value, sizeof value));
      CHECK_OK(getsockopt(v6, IPPROTO_IPV6, kNames[i], &value, &size));
      CHECK_EQ(value, 1);
    }
    CHECK_OK(close(v6));
  }
  Say("options");
}

int main(void) {
  TestPaths();
  TestAbstract();
  TestInterfaces();
  TestNetlink();
  TestResolver();
  TestOptions();
  return 0;
}
