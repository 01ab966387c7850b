#include "km/files/tcp_connection.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "km/base/log.h"
#include "km/base/status.h"
#include "km/files/socket_filter.h"

namespace km {
namespace {

constexpr uint32_t kMostScale = 14;  // RFC 7323
constexpr uint32_t kKnownOptions = TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE;

bool Set(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

absl::Status Failed(const char* what) {
  return ErrnoStatus(errno, absl::StrCat("cannot keep a TCP connection: ", what));
}

absl::Status Repair(int fd) {
  if (Set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON)) return absl::OkStatus();
  if (errno != EPERM) return Failed("TCP_REPAIR");
  return ErrnoStatus(EPERM, "cannot keep a TCP connection: TCP_REPAIR takes CAP_NET_ADMIN");
}

bool DropAll(int fd) {
  const sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
  return SetSocketFilter(fd, {reinterpret_cast<const uint8_t*>(&drop), sizeof(drop)});
}

absl::StatusOr<tcp_info> Info(int fd) {
  tcp_info info = {};
  socklen_t size = sizeof(info);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return Failed("TCP_INFO");
  return info;
}

// Whether the program has said that it sends no more.
bool HasEnded(const tcp_info& info) {
  return info.tcpi_state == TCP_FIN_WAIT1 || info.tcpi_state == TCP_FIN_WAIT2 ||
         info.tcpi_state == TCP_CLOSING || info.tcpi_state == TCP_LAST_ACK;
}

absl::StatusOr<uint32_t> SequenceNumber(int fd, int queue) {
  uint32_t number = 0;
  socklen_t size = sizeof(number);
  if (!Set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue) ||
      getsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &number, &size) != 0) {
    return Failed("TCP_QUEUE_SEQ");
  }
  return number;
}

// All that is in the queue, which is chosen.
absl::Status ReadQueue(int fd, int size, std::vector<uint8_t>* bytes) {
  bytes->resize(static_cast<size_t>(std::max(size, 0)));
  if (bytes->empty()) return absl::OkStatus();
  const ssize_t length = recv(fd, bytes->data(), bytes->size(), MSG_PEEK | MSG_DONTWAIT);
  if (length < 0) return Failed("its queue cannot be read");
  if (static_cast<size_t>(length) != bytes->size()) {
    return absl::FailedPreconditionError("cannot keep a TCP connection: its queue changes");
  }
  return absl::OkStatus();
}

absl::Status WriteQueue(int fd, absl::Span<const uint8_t> bytes) {
  constexpr size_t kPiece = 64 << 10;
  while (!bytes.empty()) {
    const ssize_t sent =
        send(fd, bytes.data(), std::min(bytes.size(), kPiece), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0) return Failed("its queue cannot be filled");
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return absl::OkStatus();
}

absl::Status SetNegotiated(int fd, const TcpConnection& connection) {
  std::vector<tcp_repair_opt> options = {{TCPOPT_MAXSEG, connection.mss}};
  if (connection.negotiated & TCPI_OPT_WSCALE) {
    options.push_back({TCPOPT_WINDOW, connection.send_scale | connection.receive_scale << 16});
  }
  if (connection.negotiated & TCPI_OPT_SACK) options.push_back({TCPOPT_SACK_PERMITTED, 0});
  if (connection.negotiated & TCPI_OPT_TIMESTAMPS) options.push_back({TCPOPT_TIMESTAMP, 0});
  if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options.data(),
                 static_cast<socklen_t>(options.size() * sizeof(options[0]))) != 0) {
    return Failed("TCP_REPAIR_OPTIONS");
  }
  if ((connection.negotiated & TCPI_OPT_TIMESTAMPS) &&
      setsockopt(fd, IPPROTO_TCP, TCP_TIMESTAMP, &connection.timestamp,
                 sizeof(connection.timestamp)) != 0) {
    return Failed("TCP_TIMESTAMP");
  }
  return absl::OkStatus();
}

bool EndRepair(int fd, int how, int reuse) {
  return Set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE) &&
         Set(fd, IPPROTO_TCP, TCP_REPAIR, how) && Set(fd, SOL_SOCKET, SO_REUSEADDR, reuse);
}

}  // namespace

void HeldConnections::End(const Held& held) {
  const bool goes_on = EndRepair(held.fd.get(), TCP_REPAIR_OFF_NO_WP, held.reuse);
  if (!SetSocketFilter(held.fd.get(), held.filter) || !goes_on) {
    Log(LogLevel::kError, "a TCP connection that stood still for a snapshot does not go on");
  }
}

HeldConnections::~HeldConnections() {
  for (const Held& held : held_) End(held);
}

void HeldConnections::LetGo() {
  End(held_.back());
  held_.pop_back();
}

absl::Status HeldConnections::Hold(int fd) {
  Held held;
  held.fd = OwnedFd(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  socklen_t size = sizeof(held.reuse);
  if (!held.fd.valid() || getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &held.reuse, &size) != 0) {
    return Failed("getsockopt");
  }
  held.filter = SocketFilter(fd);
  KM_RETURN_IF_ERROR(Repair(fd));
  if (!DropAll(fd)) {
    absl::Status status = Failed("SO_ATTACH_FILTER");
    EndRepair(fd, TCP_REPAIR_OFF_NO_WP, held.reuse);
    return status;
  }
  held_.push_back(std::move(held));
  return absl::OkStatus();
}

bool HasUrgentData(int fd) {
  pollfd look = {fd, POLLPRI, 0};
  if (poll(&look, 1, 0) == 1 && (look.revents & POLLPRI) != 0) return true;
  // It may have been read already, before what came before it.
  int in_line = 0, up_to_it = 0, all = 0;
  socklen_t size = sizeof(in_line);
  getsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &in_line, &size);
  ioctl(fd, SIOCINQ, &up_to_it);
  Set(fd, SOL_SOCKET, SO_OOBINLINE, 1);
  ioctl(fd, SIOCINQ, &all);
  Set(fd, SOL_SOCKET, SO_OOBINLINE, in_line);
  return up_to_it != all;
}

void MakeRoom(int fd, int option, int force, size_t bytes) {
  if (bytes == 0) return;
  // What the kernel keeps beside the bytes counts too.
  const int room = static_cast<int>(std::min<size_t>(2 * bytes + (256 << 10), 1 << 30));
  if (!Set(fd, SOL_SOCKET, force, room)) Set(fd, SOL_SOCKET, option, room);
  Set(fd, SOL_SOCKET, SO_BUF_LOCK, 0);  // it still grows and shrinks by itself
}

absl::StatusOr<TcpConnection> SaveTcpConnection(int fd, std::vector<uint8_t>* received) {
  TcpConnection connection;
  KM_ASSIGN_OR_RETURN(const tcp_info info, Info(fd));
  connection.negotiated = info.tcpi_options & kKnownOptions;
  connection.send_scale = info.tcpi_snd_wscale;
  connection.receive_scale = info.tcpi_rcv_wscale;

  int waiting = 0, outstanding = 0, unsent = 0;
  KM_ASSIGN_OR_RETURN(connection.receive_next, SequenceNumber(fd, TCP_RECV_QUEUE));
  if (ioctl(fd, SIOCINQ, &waiting) != 0) return Failed("SIOCINQ");
  KM_RETURN_IF_ERROR(ReadQueue(fd, waiting, received));
  KM_ASSIGN_OR_RETURN(connection.send_next, SequenceNumber(fd, TCP_SEND_QUEUE));
  if (ioctl(fd, SIOCOUTQ, &outstanding) != 0 || ioctl(fd, SIOCOUTQNSD, &unsent) != 0) {
    return Failed("SIOCOUTQ");
  }
  if (HasEnded(info)) {
    connection.send_next -= 1;
    outstanding -= info.tcpi_state == TCP_FIN_WAIT2 ? 0 : 1;  // it is acknowledged
    unsent -= unsent > 0 ? 1 : 0;
  }
  KM_RETURN_IF_ERROR(ReadQueue(fd, outstanding, &connection.sending));
  connection.unsent = static_cast<uint32_t>(std::clamp(unsent, 0, outstanding));

  socklen_t size = sizeof(connection.window);
  if (getsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &connection.window, &size) != 0) {
    return Failed("TCP_REPAIR_WINDOW");
  }
  size = sizeof(connection.mss);
  if (getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &connection.mss, &size) != 0) {
    return Failed("TCP_MAXSEG");
  }
  size = sizeof(connection.timestamp);
  if (getsockopt(fd, IPPROTO_TCP, TCP_TIMESTAMP, &connection.timestamp, &size) != 0) {
    return Failed("TCP_TIMESTAMP");
  }
  // A packet may have been on its way past the filter.
  KM_ASSIGN_OR_RETURN(const uint32_t again, SequenceNumber(fd, TCP_RECV_QUEUE));
  KM_ASSIGN_OR_RETURN(const tcp_info now, Info(fd));
  if (again != connection.receive_next || now.tcpi_state != info.tcpi_state) {
    return absl::FailedPreconditionError("cannot keep a TCP connection: its queue changes");
  }
  return connection;
}

absl::Status RestoreTcpConnection(int fd, const TcpConnection& connection,
                                  const SocketAddress& name, const SocketAddress& peer,
                                  absl::Span<const uint8_t> received) {
  KM_RETURN_IF_ERROR(Repair(fd));
  const uint32_t receive_first = connection.receive_next - static_cast<uint32_t>(received.size());
  const uint32_t send_first =
      connection.send_next - static_cast<uint32_t>(connection.sending.size());
  auto set_first = [fd](int queue, uint32_t number) {
    return Set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue) &&
           setsockopt(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, &number, sizeof(number)) == 0;
  };
  if (!set_first(TCP_RECV_QUEUE, receive_first) || !set_first(TCP_SEND_QUEUE, send_first)) {
    return Failed("TCP_QUEUE_SEQ");
  }
  if (bind(fd, reinterpret_cast<const sockaddr*>(name.data()),
           static_cast<socklen_t>(name.size())) != 0 ||
      connect(fd, reinterpret_cast<const sockaddr*>(peer.data()),
              static_cast<socklen_t>(peer.size())) != 0) {
    return Failed(
        absl::StrCat("from ", SocketAddressText(name), " to ", SocketAddressText(peer)).c_str());
  }
  KM_RETURN_IF_ERROR(SetNegotiated(fd, connection));
  MakeRoom(fd, SO_RCVBUF, SO_RCVBUFFORCE, received.size());
  MakeRoom(fd, SO_SNDBUF, SO_SNDBUFFORCE, connection.sending.size());
  if (!Set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE)) return Failed("TCP_REPAIR_QUEUE");
  KM_RETURN_IF_ERROR(WriteQueue(fd, received));
  if (!Set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)) return Failed("TCP_REPAIR_QUEUE");
  KM_RETURN_IF_ERROR(WriteQueue(fd, absl::MakeConstSpan(connection.sending)
                                        .first(connection.sending.size() - connection.unsent)));
  if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, &connection.window,
                 sizeof(connection.window)) != 0) {
    return Failed("TCP_REPAIR_WINDOW");
  }
  return absl::OkStatus();
}

// What was never sent is sent as a program sends it: the kernel chooses when.
absl::Status GoOn(int fd, const TcpConnection& connection, int reuse) {
  if (!EndRepair(fd, TCP_REPAIR_OFF, reuse)) return Failed("TCP_REPAIR");
  return WriteQueue(fd, absl::MakeConstSpan(connection.sending)
                            .last(std::min<size_t>(connection.unsent, connection.sending.size())));
}

void EncodeTcpConnection(const TcpConnection& connection, ByteWriter* out) {
  const tcp_repair_window& window = connection.window;
  for (uint32_t field :
       {connection.send_next, connection.receive_next, connection.unsent, connection.negotiated,
        connection.send_scale, connection.receive_scale, connection.mss, connection.timestamp,
        window.snd_wl1, window.snd_wnd, window.max_window, window.rcv_wnd, window.rcv_wup}) {
    out->U32(field);
  }
  out->Bytes(connection.sending);
}

TcpConnection ReadTcpConnection(ByteReader* in) {
  TcpConnection connection;
  tcp_repair_window& window = connection.window;
  for (uint32_t* field :
       {&connection.send_next, &connection.receive_next, &connection.unsent, &connection.negotiated,
        &connection.send_scale, &connection.receive_scale, &connection.mss, &connection.timestamp,
        &window.snd_wl1, &window.snd_wnd, &window.max_window, &window.rcv_wnd, &window.rcv_wup}) {
    *field = in->U32();
  }
  const absl::Span<const uint8_t> sending = in->Bytes(in->rest().size());
  connection.sending.assign(sending.begin(), sending.end());
  return connection;
}

bool IsTcpConnection(const TcpConnection& connection) {
  return connection.unsent <= connection.sending.size() &&
         (connection.negotiated & ~kKnownOptions) == 0 && connection.send_scale <= kMostScale &&
         connection.receive_scale <= kMostScale && connection.mss <= 0xffff;
}

}  // namespace km
