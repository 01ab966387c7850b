// Sockets: what they are bound and connected to, their options, and what waits in them. A TCP
// connection was reset after a resume, unless it is kept (tcp_connection.h).
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
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
#include <initializer_list>

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

bool IsInet(const SocketState& state) {
  return state.family == AF_INET || state.family == AF_INET6;
}
bool IsTcp(const SocketState& state) {
  return IsInet(state) && state.type == SOCK_STREAM && state.protocol == IPPROTO_TCP;
}

const sockaddr* Sockaddr(const SocketAddress& address) {
  return reinterpret_cast<const sockaddr*>(address.data());
}
socklen_t Length(const SocketAddress& address) { return static_cast<socklen_t>(address.size()); }

template <typename T>
T Option(int fd, int level, int name) {
  T value = {};
  socklen_t size = sizeof(value);
  return getsockopt(fd, level, name, &value, &size) == 0 ? value : T{};
}

bool HasError(int fd) {
  pollfd look = {fd, 0, 0};
  return poll(&look, 1, 0) == 1 && (look.revents & POLLERR) != 0;
}

// ---- Save ----

// A name that was chosen or given: not the unnamed socket's, not a port that is none yet.
SocketAddress BoundTo(int fd, const SocketState& state,
                      int (*get)(int, sockaddr*, socklen_t*) = nullptr) {
  SocketAddress name(sizeof(sockaddr_storage));
  socklen_t size = Length(name);
  auto* to = reinterpret_cast<sockaddr*>(name.data());
  int result = get != nullptr ? get(fd, to, &size) : getsockname(fd, to, &size);
  name.resize(result == 0 ? std::min<size_t>(size, name.size()) : 0);
  bool bound = name.size() > sizeof(sa_family_t);
  if (!bound) return {};
  if (state.family == AF_INET || state.family == AF_INET6) {
    // Port and address stand at the same place in both.
    auto* in = reinterpret_cast<const sockaddr_in*>(name.data());
    auto* in6 = reinterpret_cast<const sockaddr_in6*>(name.data());
    bool any = state.family == AF_INET ? in->sin_addr.s_addr == INADDR_ANY
                                       : IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
    bound = in->sin_port != 0 || !any;
  }
  if (state.family == AF_NETLINK) {
    auto* nl = reinterpret_cast<const sockaddr_nl*>(name.data());
    bound = nl->nl_pid != 0 || nl->nl_groups != 0;
  }
  return bound ? name : SocketAddress();
}

// Of a connection. The socket itself may be one of socketpair(2) by now.
void SaveNames(const OpenFile& file, SocketState* state) {
  state->peer = BoundTo(file.host.get(), *state, getpeername);
  const SocketNames* shown = file.description->socket_names.get();
  if (shown == nullptr) return;
  if (state->name.empty()) state->name = shown->own;
  if (state->peer.empty()) state->peer = shown->peer;
}

// Who waits to be accepted is reset, as all connections to others are.
absl::Status SaveUnixListener(dev_t sockets, const UnixSocketInfo& info, FileSaver& saver,
                              SocketState* state) {
  state->condition = KM_SOCKET_LISTENING;
  state->backlog = info.backlog;
  state->waiting = static_cast<uint32_t>(info.clients.size());
  const bool own = std::any_of(info.clients.begin(), info.clients.end(), [&](uint32_t inode) {
    return inode != 0 && saver.HostFd(sockets, inode) >= 0;
  });
  if (!own) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "has a connection of the process's own that was not accepted: accept it before");
}

absl::Status SaveUnix(const OpenFile& file, FileSaver& saver, SocketState* state) {
  const int fd = file.host.get();
  struct stat status;
  if (fstat(fd, &status) != 0) return ErrnoStatus(errno, "fstat");
  KM_ASSIGN_OR_RETURN(UnixSocketInfo info, QueryUnixSocket(status.st_ino, &saver.diag));
  if (state->type == SOCK_DGRAM || !info.connected) {
    KM_ASSIGN_OR_RETURN(
        state->file, SocketFileAt(fd, state->name, info.file_inode, &saver.directory_entries_left));
  }
  if (Option<int>(fd, SOL_SOCKET, SO_ACCEPTCONN) != 0) {
    return SaveUnixListener(status.st_dev, info, saver, state);
  }
  bool paired = info.connected && state->type != SOCK_DGRAM;
  if (state->type == SOCK_DGRAM && info.peer != 0) {
    absl::StatusOr<UnixSocketInfo> other = QueryUnixSocket(info.peer, &saver.diag);
    paired = other.ok() && other->peer == status.st_ino;
  }
  if (state->type == SOCK_DGRAM) {
    if (info.shut != 0) return absl::FailedPreconditionError("was shut down: close it before");
    if (!paired) state->peer = BoundTo(fd, *state, getpeername);
  }
  if (paired) {
    const bool ours = info.peer == 0 || saver.HostFd(status.st_dev, info.peer) >= 0 ||
                      Option<ucred>(fd, SOL_SOCKET, SO_PEERCRED).pid == getpid();
    state->condition = ours ? KM_SOCKET_PAIRED : KM_SOCKET_LOST;
    bool first = false;
    const uint64_t pair =
        info.peer == 0 ? status.st_ino : std::min<uint64_t>(status.st_ino, info.peer);
    state->pair = saver.Object(status.st_dev, pair, &first);
    state->end = first ? 0 : 1;
    // What the other end's closing shut it does again.
    state->shut = info.peer == 0 ? 0 : info.shut;
    if (state->type != SOCK_DGRAM) SaveNames(file, state);
  }
  if (HasError(fd)) state->condition = KM_SOCKET_LOST;
  if (state->condition == KM_SOCKET_LOST) return absl::OkStatus();
  if (!paired && state->type != SOCK_DGRAM) return absl::OkStatus();
  const int peer = paired && info.peer != 0 && (info.shut & 1) == 0
                       ? saver.HostFd(status.st_dev, info.peer)
                       : -1;
  KM_RETURN_IF_ERROR(SaveSocketQueue(fd, peer, saver, state));
  // One that no name leads to was one of a pair. One whose other end is closed will be again.
  const bool nameless = state->name.empty() && !state->messages.empty();
  const bool deserted = info.deserted && state->messages.empty();
  if (!paired && (nameless || deserted)) {
    bool first = false;
    if (deserted) state->peer.clear();
    state->condition = KM_SOCKET_PAIRED;
    state->pair = static_cast<uint32_t>(saver.Object(status.st_dev, status.st_ino, &first));
  }
  return absl::OkStatus();
}

absl::Status KeepTcp(int fd, FileSaver& saver, SocketState* state) {
  KM_RETURN_IF_ERROR(saver.connections.Hold(fd));
  SocketMessage received;
  KM_ASSIGN_OR_RETURN(state->tcp, SaveTcpConnection(fd, &received.bytes));
  state->peer = BoundTo(fd, *state, getpeername);
  if (!received.bytes.empty()) state->messages.push_back(std::move(received));
  return absl::OkStatus();
}

void Forget(int level, std::initializer_list<int> names, SocketState* state) {
  auto is_one = [&](const SocketOption& option) {
    return option.level == level &&
           std::find(names.begin(), names.end(), option.name) != names.end();
  };
  state->options.erase(std::remove_if(state->options.begin(), state->options.end(), is_one),
                       state->options.end());
}

absl::Status SaveTcp(int fd, FileSaver& saver, SocketState* state) {
  tcp_info info = Option<tcp_info>(fd, IPPROTO_TCP, TCP_INFO);
  if (info.tcpi_state == TCP_LISTEN) {
    state->condition = KM_SOCKET_LISTENING;
    state->backlog = info.tcpi_sacked;
    state->waiting = info.tcpi_unacked;
    return absl::OkStatus();
  }
  bool error = HasError(fd);
  char byte;
  // A socket that never was connected says so.
  if (info.tcpi_state == TCP_CLOSE && !error && recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0) {
    return absl::OkStatus();
  }
  state->condition = KM_SOCKET_LOST;
  // Bit 0: the other end had said that it sends no more.
  switch (info.tcpi_state) {
    case TCP_CLOSE_WAIT:
      state->shut = 1;
      break;
    case TCP_FIN_WAIT1:
    case TCP_FIN_WAIT2:
      state->shut = 2;
      break;
    case TCP_LAST_ACK:
    case TCP_CLOSING:
    case TCP_TIME_WAIT:
    case TCP_CLOSE:
      state->shut = error ? 0 : 3;
      break;
  }
  // These follow the connection, or are of no use to one that is made.
  Forget(SOL_SOCKET, {SO_INCOMING_CPU}, state);
  Forget(IPPROTO_TCP, {TCP_MAXSEG, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE},
         state);
  if (info.tcpi_state == TCP_ESTABLISHED && saver.keep_tcp()) return KeepTcp(fd, saver, state);
  Forget(SOL_SOCKET, {SO_SNDBUF, SO_RCVBUF, SO_BUF_LOCK}, state);
  Forget(IPPROTO_TCP, {TCP_WINDOW_CLAMP}, state);
  // What came before it was reset can still be received.
  return info.tcpi_state == TCP_SYN_SENT ? absl::OkStatus() : SaveSocketQueue(fd, -1, saver, state);
}

absl::Status SaveState(const OpenFile& file, FileSaver& saver, SocketState* state) {
  const int fd = file.host.get();
  if (state->family == AF_UNIX) return SaveUnix(file, saver, state);
  if (IsTcp(*state)) return SaveTcp(fd, saver, state);
  pollfd look = {fd, POLLIN, 0};
  poll(&look, 1, 0);
  if (IsInet(*state) && state->type != SOCK_STREAM) {
    state->peer = BoundTo(fd, *state, getpeername);
    std::shared_ptr<const SocketUnshown> unshown = file.description->unshown();
    if (state->peer.empty() && unshown != nullptr) state->peer = unshown->peer();
    state->port_chosen = !file.description->bound && !file.description->foreign;
    if (!state->peer.empty()) Forget(SOL_SOCKET, {SO_INCOMING_CPU}, state);
  }
  if (state->type == SOCK_DGRAM && state->protocol == IPPROTO_UDP) {
    if ((look.revents & POLLERR) == 0) return SaveSocketQueue(fd, -1, saver, state);
    return absl::FailedPreconditionError("has an error that was not read: close it");
  }
  if (IsInet(*state) && state->type == SOCK_STREAM) {
    return absl::FailedPreconditionError(
        absl::StrCat("is of protocol ", state->protocol, ", which snapshots do not carry"));
  }
  if ((look.revents & (POLLIN | POLLERR)) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError("holds messages that were not received: read them before");
}

absl::Status Save(const OpenFile& file, FileSaver& saver, FileRecord& record) {
  const int fd = file.host.get();
  SocketState state;
  state.family = Option<int>(fd, SOL_SOCKET, SO_DOMAIN);
  state.type = Option<int>(fd, SOL_SOCKET, SO_TYPE);
  state.protocol = Option<int>(fd, SOL_SOCKET, SO_PROTOCOL);
  KM_RETURN_IF_ERROR(SaveSocketOptions(file, saver, &state));
  if (file.description->bound_name() != nullptr) {
    return absl::FailedPreconditionError(
        "was bound through /proc/self/fd, to a path that will lead elsewhere: close it before");
  }
  state.name = BoundTo(fd, state);
  state.filter = SocketFilter(fd);
  KM_RETURN_IF_ERROR(SaveState(file, saver, &state));
  const bool lost = state.condition == KM_SOCKET_LOST && !state.tcp.has_value();
  if (IsInet(state) && lost) state.name.clear();
  ByteWriter out;
  EncodeSocket(state, &out);
  record.state = out.Take();
  return absl::OkStatus();
}

// ---- Restore ----

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
  const int reuse = Option<int>(fd, SOL_SOCKET, SO_REUSEADDR), one = 1;
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
  if (result != 0 && state.family == AF_NETLINK && state.name.size() >= sizeof(sockaddr_nl)) {
    // The port is a matter of chance.
    SocketAddress any = state.name;
    reinterpret_cast<sockaddr_nl*>(any.data())->nl_pid = 0;
    result = bind(fd, Sockaddr(any), Length(any));
  }
  if (result != 0 && errno == EADDRINUSE && state.port_chosen && IsInet(state) &&
      state.name.size() >= sizeof(sockaddr_in)) {
    // The port too is a matter of chance: the process as it was may go on, and still have it.
    SocketAddress any = state.name;
    reinterpret_cast<sockaddr_in*>(any.data())->sin_port = 0;  // where it is in both families
    result = bind(fd, Sockaddr(any), Length(any));
  }
  if (result != 0 && errno == EADDRNOTAVAIL && !state.peer.empty()) {
    // An address that came with the connection, and that this host does not have.
    result = 0;
  }
  if (result != 0) {
    return ErrnoStatus(
        errno, absl::StrCat("cannot bind a socket to ", SocketPlaceText(state), ", where it was"));
  }
  if (IsTcp(state)) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse));
  return absl::OkStatus();
}

// It stands still until all is restored.
absl::StatusOr<OwnedFd> KeptTcp(const SocketState& state) {
  KM_ASSIGN_OR_RETURN(OwnedFd fd, NewSocket(state));
  KM_RETURN_IF_ERROR(SetSocketOptions(fd.get(), state, kOptionsForName | kOptionsBarring));
  absl::Span<const uint8_t> received;
  if (!state.messages.empty()) received = state.messages.front().bytes;
  KM_RETURN_IF_ERROR(RestoreTcpConnection(fd.get(), *state.tcp, state.name, state.peer, received));
  KM_RETURN_IF_ERROR(SetSocketOptions(fd.get(), state, kOptionsOther));
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
  if (state.condition == KM_SOCKET_LOST) return IsInet(state) ? LostTcp(state) : LostUnix(state);
  if (state.condition == KM_SOCKET_PAIRED) {
    KM_ASSIGN_OR_RETURN(OwnedFd fd, PairEnd(state, restorer));
    KM_RETURN_IF_ERROR(SetSocketOptions(fd.get(), state, kBeforeName));
    if (state.type == SOCK_DGRAM) KM_RETURN_IF_ERROR(BindTo(fd.get(), state, restorer));
    return fd;
  }
  KM_ASSIGN_OR_RETURN(OwnedFd fd, NewSocket(state));
  KM_RETURN_IF_ERROR(SetSocketOptions(fd.get(), state, kBeforeName));
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
    restorer.AtLast([fd, tcp = *state.tcp, reuse] { return GoOn(fd, tcp, reuse); });
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
  if (!state.peer.empty() && connect(fd, Sockaddr(state.peer), Length(state.peer)) != 0) {
    Log(LogLevel::kWarning, absl::StrCat("a datagram socket is not connected any more: ",
                                         ErrnoStatus(errno, "connect").message()));
  }
  return absl::OkStatus();
}

}  // namespace

const FileKindRow kSocketKind = {FileKind::kSocket, "socket", Describe, Save, Restore, Finish};

}  // namespace km
