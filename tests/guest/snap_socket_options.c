// variants: dynamic static
// What programs set of sockets across snapshots: interfaces, multicast groups, options in an order
// that matters, those of connections; IPv6.
#include <arpa/inet.h>
#include <linux/net_tstamp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/guest/sockets.h"

static struct sockaddr_in Loopback(void) {
  return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static struct sockaddr_in6 Name6(int fd) {
  struct sockaddr_in6 name;
  socklen_t size = sizeof name;
  CHECK_OK(getsockname(fd, (struct sockaddr*)&name, &size));
  return name;
}

// What has come within a while; nothing is "nothing".
static void Receive(int fd, const char* from) {
  char bytes[32] = "nothing";
  struct pollfd look = {fd, POLLIN, 0};
  if (poll(&look, 1, 200) == 1) {
    memset(bytes, 0, sizeof bytes);
    CHECK_OK(recv(fd, bytes, sizeof bytes - 1, 0));
  }
  Say("%s: %s", from, bytes);
}

static void TestInterface(void) {
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  CHECK_OK(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
  SetInt(fd, IPPROTO_IP, IP_TOS, 0x10);
  SetInt(fd, SOL_SOCKET, SO_PRIORITY, 3);
  for (int round = 0; round < 2; round++) GuestSnapshot();
  char name[IF_NAMESIZE] = "";
  socklen_t size = sizeof name;
  CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &size));
  Say("on %s, service %#x, priority %d", name, Int(fd, IPPROTO_IP, IP_TOS),
      Int(fd, SOL_SOCKET, SO_PRIORITY));
  CHECK_OK(close(fd));
}

static void SendTo(int fd, const char* group, uint16_t port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = port};
  CHECK_EQ(inet_pton(AF_INET, group, &to.sin_addr), 1);
  CHECK_EQ(sendto(fd, group, strlen(group), 0, (struct sockaddr*)&to, sizeof to), strlen(group));
}

static void TestGroups(void) {
  struct sockaddr_in any = {.sin_family = AF_INET};
  struct in_addr own = {htonl(INADDR_LOOPBACK)};
  int receiver = socket(AF_INET, SOCK_DGRAM, 0), sender = socket(AF_INET, SOCK_DGRAM, 0);
  CHECK_OK(bind(receiver, (struct sockaddr*)&any, sizeof any));
  SetInt(receiver, IPPROTO_IP, IP_MULTICAST_ALL, 0);
  uint16_t port = Name(receiver).sin_port;
  CHECK_OK(setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, &own, sizeof own));
  struct ip_mreqn by_index = {.imr_ifindex = (int)if_nametoindex("lo")};
  inet_pton(AF_INET, "239.77.0.1", &by_index.imr_multiaddr);
  CHECK_OK(setsockopt(receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_index, sizeof by_index));
  struct ip_mreq by_address = {.imr_interface = own};
  inet_pton(AF_INET, "239.77.0.2", &by_address.imr_multiaddr);
  CHECK_OK(setsockopt(receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_address, sizeof by_address));
  struct ip_mreq_source source = {.imr_interface = own, .imr_sourceaddr = own};
  inet_pton(AF_INET, "239.77.0.3", &source.imr_multiaddr);
  CHECK_OK(setsockopt(receiver, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, &source, sizeof source));
  // One that it has left, and one where it will not hear itself.
  by_index.imr_multiaddr.s_addr = by_address.imr_multiaddr.s_addr = inet_addr("239.77.0.4");
  CHECK_OK(setsockopt(receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_address, sizeof by_address));
  CHECK_OK(setsockopt(receiver, IPPROTO_IP, IP_DROP_MEMBERSHIP, &by_index, sizeof by_index));
  by_address.imr_multiaddr.s_addr = source.imr_multiaddr.s_addr = inet_addr("239.77.0.5");
  CHECK_OK(setsockopt(receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_address, sizeof by_address));
  CHECK_OK(setsockopt(receiver, IPPROTO_IP, IP_BLOCK_SOURCE, &source, sizeof source));
  for (int round = 0; round < 2; round++) GuestSnapshot();
  static const char* const kGroups[] = {"239.77.0.1", "239.77.0.2", "239.77.0.3", "239.77.0.4",
                                        "239.77.0.5"};
  for (int i = 0; i < 5; i++) {
    SendTo(sender, kGroups[i], port);
    Receive(receiver, kGroups[i]);
  }
  // It is a member as before: it can leave, once.
  CHECK_ERRNO(setsockopt(receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_address, sizeof by_address),
              EADDRINUSE);
  CHECK_OK(setsockopt(receiver, IPPROTO_IP, IP_DROP_MEMBERSHIP, &by_address, sizeof by_address));
  CHECK_ERRNO(setsockopt(receiver, IPPROTO_IP, IP_DROP_MEMBERSHIP, &by_address, sizeof by_address),
              EADDRNOTAVAIL);
  // What is no such request.
  CHECK_ERRNO(setsockopt(receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, &by_address, 4), EINVAL);
  CHECK_ERRNO(setsockopt(receiver, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, NULL, 300), EINVAL);
  CHECK_ERRNO(setsockopt(receiver, IPPROTO_IP, IP_DROP_MEMBERSHIP, NULL, sizeof by_address),
              EFAULT);
  CHECK_OK(close(receiver));
  CHECK_OK(close(sender));
}

// Its port is the kernel's choice: it need not be the same across a snapshot.
static void TestClient(void) {
  struct sockaddr_in name = Loopback();
  int server = socket(AF_INET, SOCK_DGRAM, 0), client = socket(AF_INET, SOCK_DGRAM, 0);
  CHECK_OK(bind(server, (struct sockaddr*)&name, sizeof name));
  name = Name(server);
  CHECK_OK(connect(client, (struct sockaddr*)&name, sizeof name));
  CHECK_EQ(send(client, "before", 6, 0), 6);
  for (int round = 0; round < 2; round++) GuestSnapshot();
  CHECK_EQ(send(client, "behind", 6, 0), 6);
  Receive(server, "client");
  Receive(server, "client");
  name = Name(client);
  CHECK_OK(connect(server, (struct sockaddr*)&name, sizeof name));
  CHECK_EQ(send(server, "answer", 6, 0), 6);
  Receive(client, "server");
  CHECK_OK(close(server));
  CHECK_OK(close(client));
}

// Only a connection takes the one, and the other lets nothing come from nearby.
static void TestConnection(void) {
  int stamps = SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID;
  struct sockaddr_in name = Loopback();
  int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_OK(bind(listener, (struct sockaddr*)&name, sizeof name));
  CHECK_OK(listen(listener, 5));
  SetInt(listener, SOL_SOCKET, SO_KEEPALIVE, 1);  // whoever is accepted has it, too
  name = Name(listener);
  CHECK_OK(connect(fd, (struct sockaddr*)&name, sizeof name));
  int accepted = accept(listener, NULL, NULL);
  CHECK_OK(accepted);
  CHECK_EQ(write(accepted, "in flight", 9), 9);
  SetInt(fd, SOL_SOCKET, SO_TIMESTAMPING, stamps);
  SetInt(fd, IPPROTO_IP, IP_MINTTL, 255);
  for (int round = 0; round < 2; round++) GuestSnapshot();
  CHECK_EQ(Int(fd, SOL_SOCKET, SO_TIMESTAMPING), stamps);
  CHECK_EQ(Int(fd, IPPROTO_IP, IP_MINTTL), 255);
  CHECK_EQ(Int(listener, SOL_SOCKET, SO_KEEPALIVE), 1);
  CHECK_EQ(Int(accepted, SOL_SOCKET, SO_KEEPALIVE), 1);
  Receive(fd, "connection");
  CHECK_OK(close(fd));
  CHECK_OK(close(accepted));
  CHECK_OK(close(listener));
}

static void TestOptions6(int udp, int listener, int server) {
  CHECK_EQ(Int(udp, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 33);
  CHECK_EQ(Int(udp, IPPROTO_IPV6, IPV6_RECVPKTINFO), 1);
  CHECK_EQ(Int(udp, IPPROTO_IPV6, IPV6_TCLASS), 0x20);
  CHECK_EQ(Int(udp, IPPROTO_IPV6, IPV6_MINHOPCOUNT), 5);
  CHECK_EQ(Int(udp, IPPROTO_IPV6, IPV6_MULTICAST_ALL), 0);
  CHECK_EQ(Int(listener, IPPROTO_IPV6, IPV6_V6ONLY), 1);
  CHECK_EQ(Int(listener, SOL_SOCKET, SO_ACCEPTCONN), 1);
  CHECK_EQ(Int(server, IPPROTO_IPV6, IPV6_V6ONLY), 0);
}

static void TestIpv6(void) {
  struct sockaddr_in6 name = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback}, from;
  int listener = socket(AF_INET6, SOCK_STREAM, 0), udp = socket(AF_INET6, SOCK_DGRAM, 0);
  int server = socket(AF_INET6, SOCK_DGRAM, 0), own = socket(AF_INET6, SOCK_DGRAM, 0);
  if (listener < 0 || bind(own, (struct sockaddr*)&name, sizeof name) != 0) {
    Say("no IPv6 here");
    return;
  }
  SetInt(listener, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  CHECK_OK(bind(listener, (struct sockaddr*)&name, sizeof name));
  CHECK_OK(listen(listener, 5));
  name.sin6_addr = in6addr_any;
  CHECK_OK(bind(server, (struct sockaddr*)&name, sizeof name));
  struct ipv6_mreq group = {.ipv6mr_interface = if_nametoindex("lo")};
  CHECK_EQ(inet_pton(AF_INET6, "ff15::77", &group.ipv6mr_multiaddr), 1);
  CHECK_OK(setsockopt(server, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &group, sizeof group));
  name = Name6(server);
  name.sin6_addr = in6addr_loopback;
  CHECK_OK(connect(udp, (struct sockaddr*)&name, sizeof name));
  SetInt(udp, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 33);
  SetInt(udp, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  SetInt(udp, IPPROTO_IPV6, IPV6_TCLASS, 0x20);
  SetInt(udp, IPPROTO_IPV6, IPV6_MINHOPCOUNT, 5);
  SetInt(udp, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
  struct sockaddr_in6 listens = Name6(listener), bound = Name6(server);
  CHECK_EQ(send(udp, "before", 6, 0), 6);
  for (int round = 0; round < 2; round++) GuestSnapshot();
  TestOptions6(udp, listener, server);

  struct sockaddr_in6 now = Name6(listener);
  CHECK_EQ(memcmp(&now, &listens, sizeof now), 0);
  CHECK_EQ(Name6(server).sin6_port, bound.sin6_port);
  socklen_t size = sizeof from;
  CHECK_OK(getpeername(udp, (struct sockaddr*)&from, &size));
  CHECK_EQ(from.sin6_port, bound.sin6_port);
  CHECK_EQ(send(udp, "behind", 6, 0), 6);
  Receive(server, "IPv6");
  Receive(server, "IPv6");
  // Not every loopback interface lets multicast through; who is a member is known all the same.
  CHECK_ERRNO(setsockopt(server, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &group, sizeof group),
              EADDRINUSE);
  if (!GuestInjected()) {  // which could reset the connection
    int client = socket(AF_INET6, SOCK_STREAM, 0);
    CHECK_OK(connect(client, (struct sockaddr*)&listens, sizeof listens));
    CHECK_OK(close(accept(listener, NULL, NULL)));
    CHECK_OK(close(client));
  }
  int all[] = {listener, udp, server, own};
  for (int i = 0; i < 4; i++) CHECK_OK(close(all[i]));
}

// What the kernel chose it may choose again, beside a process that has it still.
static void TestChosenNames(void) {
  int named = socket(AF_UNIX, SOCK_DGRAM, 0), follower = socket(AF_UNIX, SOCK_DGRAM, 0);
  int udp = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  CHECK_OK(bind(named, (struct sockaddr*)&name, sizeof name.sun_family));
  socklen_t size = sizeof name;
  CHECK_OK(getsockname(named, (struct sockaddr*)&name, &size));
  CHECK_OK(connect(follower, (struct sockaddr*)&name, size));
  struct sockaddr_in to = Loopback();
  to.sin_port = htons(9);
  CHECK_OK(connect(udp, (struct sockaddr*)&to, sizeof to));
  CHECK_EQ(send(follower, "before", 6, 0), 6);
  for (int round = 0; round < 2; round++) GuestSnapshot();
  CHECK_EQ(send(follower, "behind", 6, 0), 6);
  Receive(named, "of a chosen name");
  Receive(named, "of a chosen name");
  size = sizeof name;
  CHECK_OK(getsockname(named, (struct sockaddr*)&name, &size));
  Say("a name of %u characters", (unsigned)(size - sizeof name.sun_family - 1));
  Say("connected, from %#x", ntohl(Name(udp).sin_addr.s_addr));
  struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
  CHECK_OK(connect(udp, &nowhere, sizeof nowhere));
  Say("led nowhere, from %#x", ntohl(Name(udp).sin_addr.s_addr));
  int all[] = {named, follower, udp};
  for (int i = 0; i < 3; i++) CHECK_OK(close(all[i]));
}

int main(void) {
  TestInterface();
  TestChosenNames();
  TestGroups();
  TestClient();
  TestIpv6();
  if (!GuestInjected()) TestConnection();
  return 0;
}
