// What a snapshot keeps of a socket.
#ifndef KM_FILES_SOCKET_STATE_H_
#define KM_FILES_SOCKET_STATE_H_

#include <km/notes.h>
#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/base/bytes.h"
#include "km/files/fd_table.h"
#include "km/files/file_record.h"
#include "km/files/file_restorer.h"
#include "km/files/file_saver.h"
#include "km/files/socket_address.h"
#include "km/files/socket_path.h"
#include "km/files/tcp_connection.h"

namespace km {

// A message has no more descriptors (SCM_MAX_FD).
inline constexpr size_t kMostDescriptors = 253;
inline constexpr int kMostSocketBytes = 64 << 20;  // that wait in one

struct SocketOption {
  int level = 0, name = 0;
  std::vector<uint8_t> value;
};

struct SocketMessage {
  SocketAddress sender;
  std::vector<uint32_t> descriptions;  // of descriptors in flight
  std::vector<uint8_t> bytes;
  // Of a UNIX socket: who sent it, where that is kept with it. `pid` 0: the program itself.
  std::optional<ucred> credentials = {};
};

struct SocketState {
  int family = 0, type = 0, protocol = 0;
  uint32_t condition = KM_SOCKET_IDLE;
  uint32_t backlog = 0;        // listening
  uint32_t waiting = 0;        // listening: connections that were not accepted
  uint32_t shut = 0;           // bit 0: for reading, bit 1: for writing
  uint32_t pair = 0, end = 0;  // paired: which pair, and which end of it
  bool port_chosen = false;    // `name`: by the kernel (of UNIX all of it), not the program
  SocketAddress name, peer;    // bound to, connected to (datagrams, and with `tcp`)
  std::vector<SocketOption> options;
  std::vector<SocketMessage> messages;  // not received yet, in order
  std::vector<uint8_t> filter;          // see SocketFilter
  std::optional<TcpConnection> tcp;     // lost, unless it is kept
  std::optional<SocketFile> file;       // of a name that is a path, if it is to be bound
};

bool IsInet(const SocketState& state);
bool IsTcp(const SocketState& state);

void EncodeSocket(const SocketState& state, ByteWriter* out);
// From hostile bytes: all that it holds is such as a socket can have.
absl::StatusOr<SocketState> DecodeSocket(const FileRecord& record);

// What the kind saves: see FileKindRow.
absl::Status SaveSocket(const OpenFile& file, FileSaver& saver, FileRecord& record);

// Where others find it: its name, or the path that its file was renamed to. Empty for none.
std::string SocketPlaceText(const SocketState& state);

// Options that differ from those of a new socket of the same kind, and groups that it joined.
absl::Status SaveSocketOptions(const OpenFile& file, FileSaver& saver, SocketState* state);
// Whether an option may come from a snapshot.
bool IsSavedOption(int level, int name, size_t size);
// When an option is set.
enum SocketOptionTime : unsigned {
  kOptionsForName = 1,  // where the socket can be bound to, and connected to
  kOptionsBarring = 2,  // what may come in: not the packets of the monitor's own other end
  kOptionsOther = 4,
  kOptionsAtLast = 8,  // by FinishSocketOptions
};
// Sets those of some times.
absl::Status SetSocketOptions(int host_fd, const SocketState& state, unsigned times);
// Sets the last ones, when what waits in the socket and its filter are in place, and notes what the
// next snapshot has to know.
absl::Status FinishSocketOptions(const OpenFile& file, const SocketState& state);

// What UNIX sockets do not tell of themselves: unix_diag of sock_diag(7).
struct UnixSocketInfo {
  uint32_t peer = 0;      // inode of the other end; 0: none, or it is closed
  bool deserted = false;  // there is one, and it is closed
  bool connected = false;
  uint32_t backlog = 0;
  uint32_t shut = 0;
  uint32_t file_inode = 0;        // of its path, the lower half; 0: it has none
  std::vector<uint32_t> clients;  // listening: inodes of those that wait; 0: closed by now
};
// `diag`: the netlink socket to ask through, made when it is invalid.
absl::StatusOr<UnixSocketInfo> QueryUnixSocket(uint64_t inode, OwnedFd* diag);

// Copies what waits to be received into `state`; the program does not notice. Descriptors in it are
// saved as well. `peer`: the other end of a pair, or -1.
absl::Status SaveSocketQueue(const OpenFile& file, int peer, FileSaver& saver, SocketState* state);
// Puts it back: `state` of the socket `host_fd`.
absl::Status FillSocketQueue(int host_fd, const SocketState& state, FileRestorer& restorer);
// The same from the other end of a pair.
absl::Status FillSocketFrom(int other, int host_fd, const SocketState& state,
                            FileRestorer& restorer);
// `host_fd` is the program's socket that had state.name: the kernel may choose another for it.
void NoteSocketName(int host_fd, const SocketState& state, FileRestorer& restorer);
// What the name of one of the program's is now, of the kind of `state`; others stay as they are.
SocketAddress NameNow(const SocketAddress& name, const SocketState& state, FileRestorer& restorer);

}  // namespace km

#endif  // KM_FILES_SOCKET_STATE_H_
