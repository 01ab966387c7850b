#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

#include "km/syscalls/call.h"
#include "km/syscalls/trace_format.h"

namespace km {
namespace {

// The test's own memory stands for the program's.
bool ReadOwn(void* to, uint64_t from, size_t size) {
  if (from < 4096) return false;
  std::memcpy(to, reinterpret_cast<const void*>(from), size);
  return true;
}

template <typename T>
uint64_t At(const T* object) {
  return reinterpret_cast<uint64_t>(object);
}

std::string Trace(uint64_t number, const CallArguments& arguments, int64_t result) {
  const SyscallRow* row = FindSyscall(number);
  TraceLine line = BeginTraceLine(row, arguments, ReadOwn);
  std::string text = EndTraceLine("", line, number, arguments, result, ReadOwn);
  size_t equals = text.rfind(" = ");
  return text.substr(0, text.find_last_not_of(' ', equals) + 1) + text.substr(equals);
}

std::string Address(const void* address, socklen_t size) {
  std::string text = Trace(SYS_bind, {3, At(address), size}, 0);
  return text.substr(8, text.rfind(", ") - 8);
}

TEST(TraceSockets, Addresses) {
  sockaddr_in in = {};
  in.sin_family = AF_INET;
  in.sin_port = htons(80);
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(Address(&in, sizeof(in)),
            "{sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr(\"127.0.0.1\")}");
  sockaddr_in6 in6 = {};
  in6.sin6_family = AF_INET6;
  in6.sin6_addr = in6addr_loopback;
  in6.sin6_scope_id = 2;
  EXPECT_EQ(Address(&in6, sizeof(in6)),
            "{sa_family=AF_INET6, sin6_port=htons(0), sin6_flowinfo=htonl(0), "
            "inet_pton(AF_INET6, \"::1\", &sin6_addr), sin6_scope_id=2}");
  sockaddr_un un = {AF_UNIX, "/run/x"};
  EXPECT_EQ(Address(&un, sizeof(un)), "{sa_family=AF_UNIX, sun_path=\"/run/x\"}");
  EXPECT_EQ(Address(&un, 5), "{sa_family=AF_UNIX, sun_path=\"/ru\"}");
  EXPECT_EQ(Address(&un, 2), "{sa_family=AF_UNIX}");
  un.sun_path[0] = '\0';
  EXPECT_EQ(Address(&un, 8), "{sa_family=AF_UNIX, sun_path=@\"run/x\"}");
  EXPECT_EQ(Address(&in, 7), "{sa_family=AF_INET, sa_data=\"\\0P\\177\\0\\0\"}");
  EXPECT_EQ(Address(&in, 1), "\"\\2\"");
  EXPECT_EQ(Address(&in, 0).substr(0, 2), "0x");
  EXPECT_EQ(Address(nullptr, 16), "NULL");
  socklen_t size = sizeof(in);
  EXPECT_EQ(Trace(SYS_accept, {3, At(&in), At(&size)}, 4),
            "accept(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr(\"127.0.0.1\")}, "
            "[16]) = 4");
}

TEST(TraceSockets, Messages) {
  char hello[] = "hello", world[] = "world";
  iovec parts[2] = {{hello, 5}, {world, 5}};
  alignas(cmsghdr) char control[CMSG_SPACE(8) + CMSG_SPACE(12)] = {};
  auto* rights = reinterpret_cast<cmsghdr*>(control);
  rights->cmsg_len = CMSG_LEN(8);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  const int fds[2] = {3, 4};
  std::memcpy(CMSG_DATA(rights), fds, sizeof(fds));
  auto* who = reinterpret_cast<cmsghdr*>(control + CMSG_SPACE(8));
  who->cmsg_len = CMSG_LEN(12);
  who->cmsg_level = SOL_SOCKET;
  who->cmsg_type = SCM_CREDENTIALS;
  const ucred credentials = {1, 2, 3};
  std::memcpy(CMSG_DATA(who), &credentials, sizeof(credentials));
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const std::string shown =
      "{msg_name=NULL, msg_namelen=0, msg_iov=[{iov_base=\"hello\", iov_len=5}, "
      "{iov_base=\"wo\", iov_len=5}], msg_iovlen=2, msg_control=[{cmsg_len=24, "
      "cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[3, 4]}, {cmsg_len=28, "
      "cmsg_level=SOL_SOCKET, cmsg_type=SCM_CREDENTIALS, cmsg_data={pid=1, uid=2, gid=3}}], "
      "msg_controllen=56, msg_flags=0}";
  EXPECT_EQ(Trace(SYS_recvmsg, {5, At(&message), MSG_CMSG_CLOEXEC}, 7),
            "recvmsg(5, " + shown + ", MSG_CMSG_CLOEXEC) = 7");
  mmsghdr many = {};
  many.msg_hdr = message;
  many.msg_len = 7;
  EXPECT_EQ(Trace(SYS_recvmmsg, {5, At(&many), 1, 0, 0}, 1),
            "recvmmsg(5, [{msg_hdr=" + shown + ", msg_len=7}], 1, 0, NULL) = 1");
  message.msg_controllen = 0;
  message.msg_iovlen = 0;
  EXPECT_EQ(Trace(SYS_sendmsg, {5, At(&message), 0}, -EBADF),
            "sendmsg(5, {msg_name=NULL, msg_namelen=0, msg_iov=[], msg_iovlen=0, "
            "msg_controllen=0, msg_flags=0}, 0) = -1 EBADF (Bad file descriptor)");
}

TEST(TraceSockets, Options) {
  const int one = 1;
  EXPECT_EQ(Trace(SYS_setsockopt, {3, SOL_SOCKET, SO_REUSEADDR, At(&one), 4}, 0),
            "setsockopt(3, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0");
  EXPECT_EQ(Trace(SYS_setsockopt, {3, IPPROTO_TCP, TCP_NODELAY, At(&one), 4}, 0),
            "setsockopt(3, SOL_TCP, TCP_NODELAY, [1], 4) = 0");
  const linger wait = {1, 5};
  EXPECT_EQ(Trace(SYS_setsockopt, {3, SOL_SOCKET, SO_LINGER, At(&wait), sizeof(wait)}, 0),
            "setsockopt(3, SOL_SOCKET, SO_LINGER, {l_onoff=1, l_linger=5}, 8) = 0");
  const char name[] = "cubic";
  const socklen_t size = 5;
  EXPECT_EQ(Trace(SYS_getsockopt, {3, IPPROTO_TCP, TCP_CONGESTION, At(name), At(&size)}, 0),
            "getsockopt(3, SOL_TCP, TCP_CONGESTION, \"cubic\", [5]) = 0");
  EXPECT_EQ(Trace(SYS_setsockopt, {3, 77, 0x99, At(&one), 4}, -ENOPROTOOPT),
            "setsockopt(3, 0x4d, 0x99, [1], 4) = -1 ENOPROTOOPT (Protocol not available)");
}

}  // namespace
}  // namespace km
