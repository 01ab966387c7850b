// Sockets into a snapshot: what they are bound and connected to, their options, and what waits in
// them.
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <initializer_list>
#include <memory>

#include "absl/strings/str_cat.h"
#include "km/base/log.h"
#include "km/base/status.h"
#include "km/files/socket_filter.h"
#include "km/files/socket_message.h"
#include "km/files/socket_state.h"
#include "km/files/socket_unshown.h"

namespace km {
namespace {

template <typename T>
T Option(int fd, int level, int name) {
  T value = {};
  socklen_t size = sizeof(value);
  return getsockopt(fd, level, name, &value, &size) == 0 ? value : T{};
}

bool Has(int fd, short events) {
  pollfd look = {fd, events, 0};
  return poll(&look, 1, 0) == 1 && (look.revents & events) != 0;
}
bool HasError(int fd) { return Has(fd, POLLERR); }

// A name that was chosen or given: not the unnamed socket's, not a port that is none yet.
SocketAddress BoundTo(int fd, const SocketState& state,
                      int (*get)(int, sockaddr*, socklen_t*) = getsockname) {
  SocketAddress name = AddressOf(fd, get);
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
  // What is read ends before it, or goes past it: no look tells all.
  if (state->type == SOCK_STREAM && Has(fd, POLLPRI)) {
    return absl::FailedPreconditionError(
        "holds an urgent byte (MSG_OOB) that was not received: receive it before");
  }
  const bool error = HasError(fd);
  if (error) state->condition = KM_SOCKET_LOST;
  if (state->condition == KM_SOCKET_LOST) {
    // What came before can still be received. Of packets the error is told first: to look at them
    // would take it.
    const bool shows = state->type == SOCK_STREAM || (state->type == SOCK_SEQPACKET && !error);
    return shows ? SaveSocketQueue(file, -1, saver, state) : absl::OkStatus();
  }
  if (!paired && state->type != SOCK_DGRAM) return absl::OkStatus();
  const int peer = paired && info.peer != 0 && (info.shut & 1) == 0
                       ? saver.HostFd(status.st_dev, info.peer)
                       : -1;
  KM_RETURN_IF_ERROR(SaveSocketQueue(file, peer, saver, state));
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

// Each end may have said that it sends no more, as long as not all is over.
bool CanBeKept(uint32_t tcp_state) {
  return tcp_state == TCP_ESTABLISHED || tcp_state == TCP_FIN_WAIT1 || tcp_state == TCP_FIN_WAIT2 ||
         tcp_state == TCP_CLOSE_WAIT || tcp_state == TCP_LAST_ACK || tcp_state == TCP_CLOSING;
}

// False: it cannot be kept after all.
absl::StatusOr<bool> HoldTcp(int fd, FileSaver& saver) {
  KM_RETURN_IF_ERROR(saver.connections.Hold(fd));
  const bool urgent = HasUrgentData(fd);
  if (!urgent && CanBeKept(Option<tcp_info>(fd, IPPROTO_TCP, TCP_INFO).tcpi_state)) return true;
  if (urgent) {
    Log(LogLevel::kWarning,
        "a TCP connection with urgent data that was not received is not kept: a resume resets it");
  }
  saver.connections.LetGo();
  return false;
}

absl::Status KeepTcp(int fd, SocketState* state) {
  SocketMessage received;
  KM_ASSIGN_OR_RETURN(state->tcp, SaveTcpConnection(fd, &received.bytes));
  state->peer = BoundTo(fd, *state, getpeername);
  if (!received.bytes.empty()) state->messages.push_back(std::move(received));
  return absl::OkStatus();
}

// Bit 0: the other end had said that it sends no more, or the program does not want it. Bit 1: the
// program had said so.
uint32_t ShutOf(int fd, uint32_t tcp_state) {
  pollfd look = {fd, POLLRDHUP, 0};
  const uint32_t reading = poll(&look, 1, 0) == 1 && (look.revents & POLLRDHUP) != 0 ? 1 : 0;
  switch (tcp_state) {
    case TCP_FIN_WAIT1:
    case TCP_FIN_WAIT2:
      return reading | 2;
    case TCP_LAST_ACK:
    case TCP_CLOSING:
    case TCP_TIME_WAIT:
    case TCP_CLOSE:
      return HasError(fd) ? 0 : 3;
    default:
      return reading;
  }
}

void Forget(int level, std::initializer_list<int> names, SocketState* state) {
  auto is_one = [&](const SocketOption& option) {
    return option.level == level &&
           std::find(names.begin(), names.end(), option.name) != names.end();
  };
  state->options.erase(std::remove_if(state->options.begin(), state->options.end(), is_one),
                       state->options.end());
}

absl::Status SaveTcp(const OpenFile& file, FileSaver& saver, SocketState* state) {
  const int fd = file.host.get();
  // Since Linux 6.9 a look is at that place, and moves it.
  const OptionFor at_head(fd, SOL_SOCKET, SO_PEEK_OFF, -1);
  tcp_info info = Option<tcp_info>(fd, IPPROTO_TCP, TCP_INFO);
  if (info.tcpi_state == TCP_LISTEN) {
    state->condition = KM_SOCKET_LISTENING;
    state->backlog = info.tcpi_sacked;
    state->waiting = info.tcpi_unacked;
    return absl::OkStatus();
  }
  char byte;
  // A socket that never was connected says so.
  if (info.tcpi_state == TCP_CLOSE && !HasError(fd) &&
      recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0) {
    return absl::OkStatus();
  }
  state->condition = KM_SOCKET_LOST;
  bool kept = false;
  if (saver.keep_tcp() && CanBeKept(info.tcpi_state)) {
    KM_ASSIGN_OR_RETURN(kept, HoldTcp(fd, saver));
    info = Option<tcp_info>(fd, IPPROTO_TCP, TCP_INFO);  // something may have come before
  }
  state->shut = ShutOf(fd, info.tcpi_state);
  // These follow the connection, or are of no use to one that is made.
  Forget(SOL_SOCKET, {SO_INCOMING_CPU, SO_SNDBUF, SO_RCVBUF, SO_BUF_LOCK}, state);
  Forget(IPPROTO_TCP,
         {TCP_MAXSEG, TCP_WINDOW_CLAMP, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE},
         state);
  if (kept) return KeepTcp(fd, state);
  Forget(IPPROTO_IPV6, {IPV6_V6ONLY}, state);  // it is made by way of IPv4
  // What came before it was reset can still be received.
  return info.tcpi_state == TCP_SYN_SENT ? absl::OkStatus()
                                         : SaveSocketQueue(file, -1, saver, state);
}

// Whether a part of a message that is to be sent waits for the rest.
bool HoldsPart(int fd, const SocketState& state) {
  constexpr int kProbe = 0x10;      // the kernel's MSG_PROBE: nothing is added
  constexpr int kOnItsWayMs = 100;  // what was sent may wait for the device
  int unsent = 0;
  if (ioctl(fd, SIOCOUTQ, &unsent) != 0 || unsent == 0) return false;
  if (state.type == SOCK_DGRAM && state.protocol == IPPROTO_UDP) {
    // What is added to a message needs no address; what would begin one is refused without a port.
    sockaddr_in6 nowhere = {};
    nowhere.sin6_family = static_cast<sa_family_t>(state.family);
    return sendto(fd, "", 0, MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL | kProbe,
                  reinterpret_cast<sockaddr*>(&nowhere), sizeof(nowhere)) == 0;
  }
  for (int ms = 0; ms < kOnItsWayMs && unsent != 0; ++ms) {
    usleep(1000);
    ioctl(fd, SIOCOUTQ, &unsent);
  }
  return unsent != 0;
}

// Whether the kernel has named it: its port, or all of a UNIX socket's name.
bool IsChosen(const OpenFile& file) {
  return !file.description->bound && !file.description->foreign;
}

absl::Status SaveState(const OpenFile& file, FileSaver& saver, SocketState* state) {
  const int fd = file.host.get();
  if (state->family == AF_UNIX) return SaveUnix(file, saver, state);
  if (IsTcp(*state)) return SaveTcp(file, saver, state);
  pollfd look = {fd, POLLIN, 0};
  poll(&look, 1, 0);
  if (IsInet(*state) && state->type != SOCK_STREAM) {
    state->peer = BoundTo(fd, *state, getpeername);
    std::shared_ptr<const SocketUnshown> unshown = file.description->unshown();
    if (state->peer.empty() && unshown != nullptr) state->peer = unshown->peer();
    state->port_chosen = IsChosen(file);
    if (!state->peer.empty()) Forget(SOL_SOCKET, {SO_INCOMING_CPU}, state);
    if (HoldsPart(fd, *state)) {
      return absl::FailedPreconditionError(
          state->type == SOCK_RAW
              ? "has a packet that is not sent yet, or a part of one (MSG_MORE): send the rest "
                "before, or try again"
              : "holds a part of a message that is sent when the rest comes (MSG_MORE, UDP_CORK): "
                "send it before");
    }
  }
  if (state->type == SOCK_DGRAM && state->protocol == IPPROTO_UDP) {
    if ((look.revents & POLLERR) == 0) return SaveSocketQueue(file, -1, saver, state);
    return absl::FailedPreconditionError("has an error that was not read: close it");
  }
  if (IsInet(*state) && state->type == SOCK_STREAM) {
    return absl::FailedPreconditionError(
        absl::StrCat("is of protocol ", state->protocol, ", which snapshots do not carry"));
  }
  if ((look.revents & (POLLIN | POLLERR)) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError("holds messages that were not received: read them before");
}

}  // namespace

absl::Status SaveSocket(const OpenFile& file, FileSaver& saver, FileRecord& record) {
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
  const bool without_file =
      state.name.size() > sizeof(sa_family_t) && SocketPath(state.name).empty();
  if (state.family == AF_UNIX && without_file) state.port_chosen = IsChosen(file);
  state.filter = SocketFilter(fd);
  KM_RETURN_IF_ERROR(SaveState(file, saver, &state));
  const bool lost = state.condition == KM_SOCKET_LOST && !state.tcp.has_value();
  if (IsInet(state) && lost) state.name.clear();
  ByteWriter out;
  EncodeSocket(state, &out);
  record.state = out.Take();
  return absl::OkStatus();
}

}  // namespace km
