// Sockets of a snapshot, made anew: what they are bound and connected to, their options, and what
// waits in them. A TCP connection was reset after a resume, unless it is kept (tcp_connection.h).
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "km/base/log.h"
#include "km/base/status.h"
#include "km/files/kind.h"
#include "km/files/socket_filter.h"
#include "km/files/socket_lost.h"
#include "km/files/socket_state.h"
#include "km/files/socket_unshown.h"

namespace km {
namespace {

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_ASSIGN_OR_RETURN(SocketState state, DecodeSocket(record));
  static constexpr const char* kConditions[] = {"", ", listening", ", one of a pair",
                                                ", its connection reset"};
  std::string text = absl::StrCat(SocketFamilyName(state.family), " ", SocketTypeName(state.type),
                                  kConditions[state.condition]);
  if (state.tcp.has_value()) absl::StrAppend(&text, " without --tcp=keep");
  if (const std::string name = SocketPlaceText(state); !name.empty()) {
    absl::StrAppend(&text, " at ", name);
  }
  if (state.tcp.has_value()) absl::StrAppend(&text, " to ", SocketAddressText(state.peer));
  if (state.condition == KM_SOCKET_PAIRED) absl::StrAppend(&text, " (", state.pair, ")");
  if (!state.messages.empty()) {
    absl::StrAppend(&text, ", ", state.messages.size(), " messages in it");
  }
  return text;
}

absl::StatusOr<OwnedFd> NewSocket(const SocketState& state) {
  OwnedFd fd(socket(state.family, state.type | SOCK_CLOEXEC, state.protocol));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot make a socket");
  return fd;
}

absl::Status BindTo(int fd, const SocketState& state, FileRestorer& restorer) {
  if (state.name.empty()) return absl::OkStatus();
  // The connections of the process as it was may still hold the port.
  const int one = 1;
  int reuse = 0;
  socklen_t size = sizeof(reuse);
  getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, &size);
  if (IsTcp(state)) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  // It is in the way of the one that takes its place.
  const std::string path = SocketPath(state.name);
  if (!path.empty()) RemoveDeadSocket(path, state.type);
  int result = 0;
  if (state.file.has_value() && !path.empty()) {
    KM_ASSIGN_OR_RETURN(const int error,
                        BindSocketFile(fd, state.type, state.name, *state.file, restorer));
    result = error == 0 ? 0 : -1;
    errno = error;
  } else {
    result = bind(fd, Sockaddr(state.name), Length(state.name));
  }
  if (result != 0 && state.family == AF_NETLINK) {
    // The port is a matter of chance.
    SocketAddress any = state.name;
    reinterpret_cast<sockaddr_nl*>(any.data())->nl_pid = 0;
    result = bind(fd, Sockaddr(any), Length(any));
  }
  if (result != 0 && errno == EADDRINUSE && state.port_chosen && state.family == AF_UNIX) {
    // So is a name that nobody gave: the process as it was may go on, and still have it.
    result = bind(fd, Sockaddr(state.name), sizeof(sa_family_t));
  }
  // An address that came with the connection, and that this host does not have.
  if (result != 0 && errno == EADDRNOTAVAIL && state.type != SOCK_STREAM && !state.peer.empty()) {
    result = 0;
  }
  if (result != 0) {
    return ErrnoStatus(
        errno, absl::StrCat("cannot bind a socket to ", SocketPlaceText(state), ", where it was"));
  }
  if (IsTcp(state)) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse));
  return absl::OkStatus();
}

// Whether connect(2) or send(2) bound it.
bool IsBoundByUse(const SocketState& state) {
  return state.port_chosen && IsInet(state) && state.type != SOCK_STREAM && !state.name.empty();
}

// To all addresses, as they do: connect(2) chooses one then, and no other until the socket is
// connected elsewhere, or nowhere. bind(2) to that one would fix it, and of IPv6 set IPV6_V6ONLY.
// All addresses of a port are more than the program had, so that others come first that it gave one
// of them; and the process as it was may go on, and still have it. The port is a matter of chance
// then.
absl::Status BindByUse(int fd, SocketAddress name) {
  ToAnyAddress(&name);
  if (bind(fd, Sockaddr(name), Length(name)) == 0) return absl::OkStatus();
  if (errno == EADDRINUSE) {
    reinterpret_cast<sockaddr_in*>(name.data())->sin_port = 0;  // where it is in both families
    if (bind(fd, Sockaddr(name), Length(name)) == 0) return absl::OkStatus();
  }
  return ErrnoStatus(errno, "cannot bind a socket to a port");
}

// It stands still until all is restored.
absl::StatusOr<OwnedFd> KeptTcp(const SocketState& state) {
  KM_ASSIGN_OR_RETURN(OwnedFd fd, NewSocket(state));
  KM_RETURN_IF_ERROR(SetSocketOptions(fd.get(), state, kOptionsForName | kOptionsBarring));
  absl::Span<const uint8_t> received;
  if (!state.messages.empty()) received = state.messages.front().bytes;
  KM_RETURN_IF_ERROR(RestoreTcpConnection(fd.get(), *state.tcp, state.name, state.peer, received));
  // The end of what is received stands behind it, whether it was sent or asked for. Its number is
  // counted already.
  if ((state.shut & 1) != 0) shutdown(fd.get(), SHUT_RD);
  return fd;
}

// An end of a pair; the first that is restored makes both. Where the other one is not restored, it
// is closed when all is done.
absl::StatusOr<OwnedFd> PairEnd(const SocketState& state, FileRestorer& restorer) {
  std::array<OwnedFd, 2>& ends = restorer.Held(state.pair);
  if (!ends[0].valid()) {
    int fds[2];
    if (socketpair(state.family, state.type | SOCK_CLOEXEC, state.protocol, fds) != 0) {
      return ErrnoStatus(errno, "cannot make a pair of sockets");
    }
    ends = {OwnedFd(fds[0]), OwnedFd(fds[1])};
  }
  OwnedFd fd(fcntl(ends[state.end].get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot duplicate a descriptor");
  return fd;
}

bool IsKept(const SocketState& state, const FileRestorer& restorer) {
  return state.tcp.has_value() && restorer.keep_tcp();
}

constexpr unsigned kBeforeName = kOptionsForName | kOptionsBarring | kOptionsOther;

absl::StatusOr<OwnedFd> Make(const SocketState& state, FileRestorer& restorer) {
  if (IsKept(state, restorer)) return KeptTcp(state);
  if (state.condition == KM_SOCKET_LOST) {
    return IsInet(state) ? LostTcp(state) : LostUnix(state, restorer);
  }
  if (state.condition == KM_SOCKET_PAIRED) {
    KM_ASSIGN_OR_RETURN(OwnedFd fd, PairEnd(state, restorer));
    KM_RETURN_IF_ERROR(SetSocketOptions(fd.get(), state, kBeforeName));
    if (state.type == SOCK_DGRAM) KM_RETURN_IF_ERROR(BindTo(fd.get(), state, restorer));
    return fd;
  }
  KM_ASSIGN_OR_RETURN(OwnedFd fd, NewSocket(state));
  KM_RETURN_IF_ERROR(SetSocketOptions(fd.get(), state, kBeforeName));
  if (IsBoundByUse(state)) {
    restorer.WhenMade([number = fd.get(), name = state.name] { return BindByUse(number, name); });
    return fd;
  }
  KM_RETURN_IF_ERROR(BindTo(fd.get(), state, restorer));
  if (state.condition == KM_SOCKET_LISTENING) {
    if (listen(fd.get(), static_cast<int>(state.backlog)) != 0) {
      return ErrnoStatus(errno, "cannot listen on a socket");
    }
    ResetWaiting(state);
  }
  return fd;
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer& restorer) {
  KM_ASSIGN_OR_RETURN(SocketState state, DecodeSocket(record));
  KM_ASSIGN_OR_RETURN(OwnedFd fd, Make(state, restorer));
  NoteSocketName(fd.get(), state, restorer);
  const int flags = static_cast<int>(record.flags) & (O_NONBLOCK | O_ASYNC);
  if (fcntl(fd.get(), F_SETFL, flags) != 0) return ErrnoStatus(errno, "fcntl(F_SETFL)");
  return fd;
}

absl::Status Finish(const FileRecord& record, const OpenFile& file, FileRestorer& restorer) {
  KM_ASSIGN_OR_RETURN(SocketState state, DecodeSocket(record));
  const int fd = file.host.get();
  if (IsKept(state, restorer)) {
    const bool reuse =
        std::any_of(state.options.begin(), state.options.end(), [](const SocketOption& option) {
          return option.level == SOL_SOCKET && option.name == SO_REUSEADDR && option.value[0] != 0;
        });
    restorer.AtLast([fd, state, reuse] {
      KM_RETURN_IF_ERROR(GoOn(fd, *state.tcp, reuse));
      // With the number that it had: an end that knows of it only acknowledges it.
      if ((state.shut & 2) != 0) shutdown(fd, SHUT_WR);
      // Behind what is sent once more, for which buffers as they were may be too small.
      return SetSocketOptions(fd, state, kOptionsOther);
    });
  } else if (state.condition != KM_SOCKET_LOST) {
    KM_RETURN_IF_ERROR(FillSocketQueue(fd, state, restorer));
  }
  // Behind what came before it, which it may not let through.
  if (!state.filter.empty() && !SetSocketFilter(fd, state.filter)) {
    return ErrnoStatus(errno, "cannot give a socket its packet filter");
  }
  KM_RETURN_IF_ERROR(FinishSocketOptions(file, state));
  file.description->bound = !state.port_chosen;
  if (state.condition == KM_SOCKET_LOST) return absl::OkStatus();
  // The other half follows from the other end's.
  if (state.condition == KM_SOCKET_PAIRED && (state.shut & 1) != 0) shutdown(fd, SHUT_RD);
  if (state.condition == KM_SOCKET_PAIRED && state.type != SOCK_DGRAM) {
    // A name may be that of a listener, which no other socket can be bound to.
    if (!state.name.empty() || !state.peer.empty()) {
      file.description->socket_names =
          std::make_shared<const SocketNames>(SocketNames{state.name, state.peer});
    }
    return absl::OkStatus();
  }
  if (state.peer.empty()) return absl::OkStatus();
  const SocketAddress peer = NameNow(state.peer, state, restorer);
  if (connect(fd, Sockaddr(peer), Length(peer)) != 0) {
    Log(LogLevel::kWarning, absl::StrCat("a datagram socket is not connected any more: ",
                                         ErrnoStatus(errno, "connect").message()));
  }
  return absl::OkStatus();
}

}  // namespace

const FileKindRow kSocketKind = {FileKind::kSocket, "socket", Describe,
                                 SaveSocket,        Restore,  Finish};

}  // namespace km
