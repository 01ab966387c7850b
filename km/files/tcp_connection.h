// A TCP connection that goes on in another process: --tcp=keep.
#ifndef KM_FILES_TCP_CONNECTION_H_
#define KM_FILES_TCP_CONNECTION_H_

#include <netinet/tcp.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "km/base/bytes.h"
#include "km/base/owned.h"
#include "km/files/socket_address.h"

namespace km {

// What the kernel keeps of an established connection beside its addresses, its options and what was
// received. Source: tcp(7) and net/ipv4/tcp.c, TCP_REPAIR.
struct TcpConnection {
  // Sequence numbers behind both queues. The end of a stream counts as a byte: that of what is
  // received is counted, that of what is sent is sent anew.
  uint32_t send_next = 0, receive_next = 0;
  uint32_t unsent = 0;      // bytes at the end of `sending` that never were sent
  uint32_t negotiated = 0;  // TCPI_OPT_TIMESTAMPS, _SACK, _WSCALE
  uint32_t send_scale = 0, receive_scale = 0;
  uint32_t mss = 0;
  uint32_t timestamp = 0;
  tcp_repair_window window = {};
  std::vector<uint8_t> sending;  // not acknowledged, or not sent
};

// Connections that stand still for a snapshot: what comes for them is dropped unseen, so that the
// other end sends it again. They go on when this is destroyed. Where it never is, because the
// monitor ends, they end without a word to the other end. Not thread-safe.
class HeldConnections {
 public:
  HeldConnections() = default;
  HeldConnections(HeldConnections&&) = default;
  HeldConnections& operator=(HeldConnections&& other) {
    held_.swap(other.held_);
    return *this;
  }
  ~HeldConnections();

  // Holds the established connection `fd`. EPERM: without CAP_NET_ADMIN.
  absl::Status Hold(int fd);
  // Lets the one that was held last go on: it cannot be kept after all.
  void LetGo();

 private:
  struct Held {
    OwnedFd fd;
    int reuse = 0;                // SO_REUSEADDR, which repairing loses
    std::vector<uint8_t> filter;  // the program's own
  };
  static void End(const Held& held);

  std::vector<Held> held_;
};

// Whether there is urgent data that was not read past: what is read ends before it, and with that
// what could be kept.
bool HasUrgentData(int fd);
// Gives a queue (SO_RCVBUF and SO_RCVBUFFORCE, or the same of sending) room for so many bytes, as
// far as the host allows it.
void MakeRoom(int fd, int option, int force, size_t bytes);

// Of a connection that is held. `received`: what the program has not read.
absl::StatusOr<TcpConnection> SaveTcpConnection(int fd, std::vector<uint8_t>* received);

// Makes of the new socket `fd` the connection from `name` to `peer`; it stands still.
absl::Status RestoreTcpConnection(int fd, const TcpConnection& connection,
                                  const SocketAddress& name, const SocketAddress& peer,
                                  absl::Span<const uint8_t> received);
// Lets it go on. `reuse`: its SO_REUSEADDR.
absl::Status GoOn(int fd, const TcpConnection& connection, int reuse);

// The value of a KM_SOCKET_TCP record.
void EncodeTcpConnection(const TcpConnection& connection, ByteWriter* out);
// From hostile bytes: whether there can be such a one is to be asked.
TcpConnection ReadTcpConnection(ByteReader* in);
bool IsTcpConnection(const TcpConnection& connection);

}  // namespace km

#endif  // KM_FILES_TCP_CONNECTION_H_
