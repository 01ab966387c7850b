// Sockets, but for their messages.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "km/files/host_path.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/sockets.h"

namespace km {
namespace {

// Other families' options hold addresses, which would be the monitor's.
bool KnownFamily(int family) {
  return family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK;
}

int AddSocket(Call& call, int host_fd, int flags) {
  return call.process.files().Add(host_fd, FileKind::kSocket, HostPathOf(host_fd),
                                  (flags & SOCK_CLOEXEC) != 0);
}

// A call on a descriptor that never blocks, with an address and its length as an int in memory.
int64_t NameOf(Call& call, long number) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return HostResult(syscall(number, file->host.get(), call.HostArg(1, sizeof(sockaddr_storage)),
                            call.HostArg(2, sizeof(socklen_t))));
}

int64_t AcceptWith(Call& call, int flags) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  // Other flags are for the host to refuse.
  int64_t fd = call.thread.Block(
      SYS_accept4, HostFd(file), call.HostArg(1, sizeof(sockaddr_storage)),
      call.HostArg(2, sizeof(socklen_t)), static_cast<uint32_t>(flags | SOCK_CLOEXEC));
  if (fd < 0) return AfterSocketWait(file, SO_RCVTIMEO, fd);
  return AddSocket(call, static_cast<int>(fd), flags);
}

// Whether an option's value is plain bytes: no addresses, no descriptors, and no length but in
// bytes.
bool PlainOption(int level, int name) {
  constexpr int kPassPidFd = 76, kPeerPidFd = 77;  // of newer headers
  constexpr int kFilterTables = 64;  // IPT_BASE_CTL, IP6T_BASE_CTL: of the kernel's packet filters
  switch (level) {
    case SOL_SOCKET:
      return name != SO_ATTACH_FILTER && name != SO_ATTACH_BPF &&
             name != SO_ATTACH_REUSEPORT_CBPF && name != SO_ATTACH_REUSEPORT_EBPF &&
             name != kPassPidFd && name != kPeerPidFd;
    case IPPROTO_IP:
      return name < kFilterTables;
    case IPPROTO_IPV6:
      return name != kFilterTables && name != kFilterTables + 1;
    case IPPROTO_TCP:
      return name != TCP_ZEROCOPY_RECEIVE;
    case IPPROTO_ICMPV6:
    case IPPROTO_UDP:
    case IPPROTO_RAW:
    case SOL_NETLINK:
      return true;
    default:
      return false;
  }
}

}  // namespace

int64_t AfterSocketWait(const std::shared_ptr<OpenFile>& file, int option, int64_t result) {
  if (result != kRestart) return result;
  timeval timeout = {};
  socklen_t size = sizeof(timeout);
  int error = getsockopt(file->host.get(), SOL_SOCKET, option, &timeout, &size);
  bool timed = error == 0 && (timeout.tv_sec != 0 || timeout.tv_usec != 0);
  return timed ? kRestartNoHandler : kRestart;
}

SyscallResult Socket(Call& call) {
  if (!KnownFamily(call.Int(0))) return -EAFNOSUPPORT;
  int64_t fd =
      HostResult(syscall(SYS_socket, call.Int(0), call.Int(1) | SOCK_CLOEXEC, call.Int(2)));
  return fd < 0 ? fd : AddSocket(call, static_cast<int>(fd), call.Int(1));
}

SyscallResult Socketpair(Call& call) {
  if (!KnownFamily(call.Int(0))) return -EAFNOSUPPORT;
  int host[2], fds[2];
  if (socketpair(call.Int(0), call.Int(1) | SOCK_CLOEXEC, call.Int(2), host) != 0) return -errno;
  OwnedFd second(host[1]);
  fds[0] = AddSocket(call, host[0], call.Int(1));
  if (fds[0] < 0) return fds[0];
  fds[1] = AddSocket(call, second.Release(), call.Int(1));
  int error = fds[1] < 0 ? fds[1] : call.memory().CopyOut(call.Addr(3), fds);
  if (error == 0) return 0;
  call.process.files().Close(static_cast<uint64_t>(fds[0]));
  if (fds[1] >= 0) call.process.files().Close(static_cast<uint64_t>(fds[1]));
  return error;
}

SyscallResult Bind(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return HostResult(
      syscall(SYS_bind, file->host.get(), SocketAddressArg(call, 1, call.Uint(2)), call.Int(2)));
}

SyscallResult Listen(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return HostResult(syscall(SYS_listen, file->host.get(), call.Int(1)));
}

SyscallResult Accept(Call& call) { return AcceptWith(call, 0); }
SyscallResult Accept4(Call& call) { return AcceptWith(call, call.Int(3)); }

// Made again, it waits for the connection that the first one began: the host sees to that itself.
SyscallResult Connect(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  int64_t result = call.thread.Block(SYS_connect, HostFd(file),
                                     SocketAddressArg(call, 1, call.Uint(2)), call.arguments[2]);
  return AfterSocketWait(file, SO_SNDTIMEO, result);
}

SyscallResult Getsockname(Call& call) { return NameOf(call, SYS_getsockname); }
SyscallResult Getpeername(Call& call) { return NameOf(call, SYS_getpeername); }

SyscallResult Shutdown(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return HostResult(syscall(SYS_shutdown, file->host.get(), call.Int(1)));
}

SyscallResult Setsockopt(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (!PlainOption(call.Int(1), call.Int(2))) return -ENOPROTOOPT;
  return HostResult(syscall(SYS_setsockopt, file->host.get(), call.Int(1), call.Int(2),
                            call.HostArg(3, call.Uint(4)), call.Int(4)));
}

SyscallResult Getsockopt(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (!PlainOption(call.Int(1), call.Int(2))) return -ENOPROTOOPT;
  // A length of our own: the program's could grow after the buffer was looked at.
  socklen_t length = 0;
  if (int error = call.memory().CopyIn(&length, call.Addr(4)); error != 0) return error;
  int64_t result = HostResult(syscall(SYS_getsockopt, file->host.get(), call.Int(1), call.Int(2),
                                      call.HostArg(3, length), &length));
  // Some write what they would have needed, and fail.
  int error = call.memory().CopyOut(call.Addr(4), length);
  return error != 0 && result == 0 ? error : result;
}

}  // namespace km
