// Sockets, but for their options and messages.
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "km/files/host_path.h"
#include "km/files/socket_unshown.h"
#include "km/process/clock.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/sockets.h"
#include "km/syscalls/transfer.h"

namespace km {
namespace {

// Other families' addresses, options and ioctls hold what means something else to the host:
// pointers, descriptors, devices. 0 or what Linux says of a family or a protocol that it lacks.
int CheckFamily(int family, int protocol) {
  switch (family) {
    case AF_UNIX:
    case AF_INET:
    case AF_INET6:
      return 0;
    case AF_NETLINK:
      // Interfaces, addresses and routes; sockets of the network; devices that come and go;
      // programs among themselves. The others are the host's business, or name its processes and
      // descriptors.
      return protocol == NETLINK_ROUTE || protocol == NETLINK_USERSOCK ||
                     protocol == NETLINK_SOCK_DIAG || protocol == NETLINK_KOBJECT_UEVENT
                 ? 0
                 : -EPROTONOSUPPORT;
    default:
      return -EAFNOSUPPORT;
  }
}

// `options`: see FileDescription::socket_options.
std::shared_ptr<OpenFile> SocketOf(int host_fd, uint64_t options) {
  auto file = OpenFile::Of(host_fd, FileKind::kSocket, HostPathOf(host_fd));
  file->description->socket_options = options;
  return file;
}

int AddSocket(Call& call, int host_fd, int flags) {
  return call.process.files().Install(SocketOf(host_fd, 0), (flags & SOCK_CLOEXEC) != 0);
}

int64_t NameOf(Call& call, long number) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  SocketName name;
  name.length = sizeof(name.bytes);
  int64_t result = HostResult(syscall(number, file->host.get(), &name.bytes, &name.length));
  if (result != 0) return result;
  // A connection that a resume made anew has no name on the host.
  const SocketNames* shown = file->description->socket_names.get();
  if (shown != nullptr && name.length <= sizeof(sa_family_t)) {
    const std::vector<uint8_t>& bytes = number == SYS_getsockname ? shown->own : shown->peer;
    if (!bytes.empty() && bytes.size() <= sizeof(name.bytes)) {
      std::memcpy(&name.bytes, bytes.data(), bytes.size());
      name.length = static_cast<socklen_t>(bytes.size());
    }
  }
  return CopyNameOut(call, name, call.Addr(1), call.Addr(2));
}

int64_t AcceptWith(Call& call, int flags) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  // Without a number the connection stays in the queue.
  ReservedFd reserved(call.process.files());
  if ((flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) == 0 && reserved.error() != 0) {
    return reserved.error();
  }
  SocketName peer;
  int64_t fd = WaitOnSocket(call, file, kReceiveWait, [&] {
    peer.length = sizeof(peer.bytes);
    // Other flags are for the host to refuse.
    return call.thread.Block(SYS_accept4, HostFd(file), reinterpret_cast<uint64_t>(&peer.bytes),
                             reinterpret_cast<uint64_t>(&peer.length),
                             static_cast<uint32_t>(flags | SOCK_CLOEXEC));
  });
  if (fd < 0) return fd;
  OwnedFd host_fd(static_cast<int>(fd));
  call.process.files().CountAccepted();
  if (!call.Addr(1).null()) {
    if (int error = CopyNameOut(call, peer, call.Addr(1), call.Addr(2)); error != 0) return error;
  }
  // Its options are those that the listener had.
  auto connection = SocketOf(host_fd.Release(), file->description->socket_options);
  return reserved.Fill(std::move(connection), (flags & SOCK_CLOEXEC) != 0);
}

int64_t TimeoutOf(const OpenFile& socket, int option) {
  timeval timeout = {};
  socklen_t size = sizeof(timeout);
  if (getsockopt(socket.host.get(), SOL_SOCKET, option, &timeout, &size) != 0) return 0;
  return timeout.tv_sec * kNanosecondsPerSecond + timeout.tv_usec * 1000;
}

// Waits for what the call waits for until its deadline: the host would begin the whole of its
// timeout anew. 0 when the call is to be made.
int64_t WaitForRest(Call& call, const OpenFile& socket, const SocketWait& wait) {
  int64_t left = *call.thread.deadline_ns - call.process.clock().Monotonic();
  timespec timeout = ToTimespec(std::max<int64_t>(left, 0));
  pollfd poll = {socket.host.get(), wait.events, 0};
  int64_t ready = call.thread.Block(SYS_ppoll, reinterpret_cast<uint64_t>(&poll), 1,
                                    reinterpret_cast<uint64_t>(&timeout));
  return ready == 0 ? -wait.timed_out : std::min<int64_t>(ready, 0);
}

int64_t BindHost(const OpenFile& socket, const SocketName& name) {
  return HostResult(syscall(SYS_bind, socket.host.get(), &name.bytes, name.length));
}

// The kernel gives a netlink socket without a port the id of its process: that is the program's,
// which the host may know by another.
int64_t BindNetlink(Call& call, const OpenFile& socket, SocketName* name) {
  auto* address = reinterpret_cast<sockaddr_nl*>(&name->bytes);
  if (address->nl_pid != 0 || PidToHost(call).from == getpid()) return BindHost(socket, *name);
  address->nl_pid = call.process.identity().pid;
  int64_t result = BindHost(socket, *name);
  if (result != -EADDRINUSE) return result;
  address->nl_pid = 0;
  return BindHost(socket, *name);
}

// A snapshot has to know where the socket sends to, which the host does not always show.
void NotePeer(const OpenFile& file, const SocketName& name) {
  const int family = name.bytes.ss_family;
  const auto& in = reinterpret_cast<const sockaddr_in&>(name.bytes);  // the port of both families
  const bool shown =
      (family != AF_INET && family != AF_INET6) || in.sin_port != 0 || family != SocketFamily(file);
  std::shared_ptr<SocketUnshown> unshown = file.description->unshown();
  if (shown && unshown == nullptr) return;
  const auto* bytes = reinterpret_cast<const uint8_t*>(&name.bytes);
  file.description->MakeUnshown()->NotePeer({bytes, shown ? 0 : name.length});
}

}  // namespace

IdPair PidToHost(const Call& call) {
  return {static_cast<int32_t>(call.process.identity().pid), getpid()};
}

IdPair PidToGuest(const Call& call) {
  return {getpid(), static_cast<int32_t>(call.process.identity().pid)};
}

int64_t WaitOnSocket(Call& call, const std::shared_ptr<OpenFile>& file, const SocketWait& wait,
                     absl::FunctionRef<int64_t()> make) {
  std::optional<int64_t>& deadline = call.thread.deadline_ns;
  if (deadline.has_value()) {
    int64_t result = WaitForRest(call, *file, wait);
    if (result == 0) result = make();
    return result == kRestart ? kRestartNoHandler : result;
  }
  int64_t begin = call.process.clock().Monotonic();
  int64_t result = make();
  // Not even begun: it is as if it came later.
  if (result != kRestart || call.thread.kicked_before) return result;
  int64_t timeout = TimeoutOf(*file, wait.option);
  if (timeout == 0) return kRestart;
  deadline = SaturatingAdd(begin, timeout);
  return kRestartNoHandler;
}

int64_t MoveOnSocket(Call& call, const std::shared_ptr<OpenFile>& file, const SocketWait& wait,
                     uint64_t asked, absl::FunctionRef<bool()> whole,
                     absl::FunctionRef<int64_t()> make) {
  Thread& thread = call.thread;
  const int64_t begin = call.process.clock().Monotonic();
  auto waited = [&] { return WaitOnSocket(call, file, wait, make); };
  const int64_t result = wait.option == SO_SNDTIMEO ? WriteAll(call, *file, asked, whole, waited)
                                                    : MoveAll(call, asked, whole, waited);
  // Its time has begun with the first byte.
  if (result != kRestart || thread.done == 0 || thread.deadline_ns.has_value()) return result;
  const int64_t timeout = TimeoutOf(*file, wait.option);
  if (timeout == 0) return kRestart;
  thread.deadline_ns = SaturatingAdd(begin, timeout);
  return kRestartNoHandler;
}

SyscallResult Socket(Call& call) {
  if (int error = CheckFamily(call.Int(0), call.Int(2)); error != 0) return error;
  int64_t fd =
      HostResult(syscall(SYS_socket, call.Int(0), call.Int(1) | SOCK_CLOEXEC, call.Int(2)));
  return fd < 0 ? fd : AddSocket(call, static_cast<int>(fd), call.Int(1));
}

SyscallResult Socketpair(Call& call) {
  int host[2], fds[2];
  int64_t result = CheckFamily(call.Int(0), call.Int(2));
  if (result == 0) {
    result = HostResult(
        syscall(SYS_socketpair, call.Int(0), call.Int(1) | SOCK_CLOEXEC, call.Int(2), host));
  }
  // Linux writes the numbers first.
  bool writable = call.memory().CopyIn(fds, call.Addr(3), sizeof(fds)) == 0 &&
                  call.memory().CopyOut(call.Addr(3), fds, sizeof(fds)) == 0;
  if (result != 0) return writable ? result : -EFAULT;
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
  if (int error = CheckSocket(*file); error != 0) return error;
  SocketName name;
  if (int error = name.CopyIn(call, call.Addr(1), call.Int(2)); error != 0) return error;
  if (name.bytes.ss_family == AF_NETLINK && name.length >= sizeof(sockaddr_nl)) {
    return BindNetlink(call, *file, &name);
  }
  std::string path = UnixPath(name, *file);
  if (int64_t error = BindPath(call, *file, &name); error != 0) return error;
  int64_t result = BindHost(*file, name);
  // With the family alone the kernel names a UNIX socket.
  if (result == 0 && name.length > sizeof(sa_family_t)) file->description->bound = true;
  if (result == 0 && name.pinned.valid()) {
    auto bound = std::make_shared<BoundName>();
    bound->path = std::move(path);
    bound->host_path = UnixPath(name, *file);
    bound->directory = std::move(name.pinned);
    file->description->SetBoundName(std::move(bound));
  }
  return result;
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
  if (file == nullptr || file->description->kind == FileKind::kPath) return -EBADF;
  // Here Linux takes the address before it asks whether this is a socket.
  SocketName name;
  if (int error = name.CopyIn(call, call.Addr(1), call.Int(2)); error != 0) return error;
  if (int error = CheckSocket(*file); error != 0) return error;
  if (int64_t error = name.PinPath(call, *file); error != 0) return error;
  int64_t result = WaitOnSocket(call, file, kConnectWait, [&] {
    return call.thread.Block(SYS_connect, HostFd(file), reinterpret_cast<uint64_t>(&name.bytes),
                             name.length);
  });
  if (result == 0) NotePeer(*file, name);
  return result;
}

SyscallResult Getsockname(Call& call) { return NameOf(call, SYS_getsockname); }
SyscallResult Getpeername(Call& call) { return NameOf(call, SYS_getpeername); }

SyscallResult Shutdown(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return HostResult(syscall(SYS_shutdown, file->host.get(), call.Int(1)));
}

}  // namespace km
