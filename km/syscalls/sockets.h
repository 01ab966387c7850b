// What calls on sockets have in common.
#ifndef KM_SYSCALLS_SOCKETS_H_
#define KM_SYSCALLS_SOCKETS_H_

#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "km/base/owned.h"
#include "km/files/fd_table.h"
#include "km/syscalls/call.h"
#include "km/syscalls/socket_control.h"

namespace km {

// A socket address on its way to the host: copied in once.
struct SocketName {
  sockaddr_storage bytes = {};
  socklen_t length = 0;
  OwnedFd pinned;  // keeps open what the path in it leads through

  // 0, -EINVAL or -EFAULT.
  int CopyIn(const Call& call, GuestAddr address, int size);
  // For a call that looks a UNIX socket up by its path: makes it one that the host follows to the
  // file and nowhere else. 0, a negative errno or kRestart.
  int64_t PinPath(Call& call, const OpenFile& socket);

  // As arguments of a host call; without an address, null.
  uint64_t HostAddress() const { return length == 0 ? 0 : reinterpret_cast<uint64_t>(&bytes); }
};

// For bind(2) of `socket`: where the host would follow the path to another place than the program
// does, `name` gets one through a pinned directory. 0, a negative errno or kRestart.
int64_t BindPath(Call& call, const OpenFile& socket, SocketName* name);

// The path in an address of `socket`, or empty where it has none (other families, abstract names).
std::string UnixPath(const SocketName& name, const OpenFile& socket);

// Copies an address that the host filled in to `to`, as much as the int at `length_at` allows, and
// its whole length there: move_addr_to_user of the kernel. 0, -EFAULT or -EINVAL.
int CopyNameOut(const Call& call, const SocketName& name, GuestAddr to, GuestAddr length_at);

// How a call on a socket waits.
struct SocketWait {
  int option;     // SO_RCVTIMEO or SO_SNDTIMEO: the socket's timeout
  short events;   // of poll(2): what it waits for
  int timed_out;  // the error when that does not come
};
inline constexpr SocketWait kReceiveWait = {SO_RCVTIMEO, 0x1 /* POLLIN */, 11 /* EAGAIN */};
inline constexpr SocketWait kSendWait = {SO_SNDTIMEO, 0x4 /* POLLOUT */, 11 /* EAGAIN */};
inline constexpr SocketWait kConnectWait = {SO_SNDTIMEO, 0x4 /* POLLOUT */, 115 /* EINPROGRESS */};

// Makes a host call that may wait, by Thread::Block. Where the socket has a timeout, a call made
// again waits only for what remains, and it is not made again behind a signal handler, like the
// kernel's.
int64_t WaitOnSocket(Call& call, const std::shared_ptr<OpenFile>& file, const SocketWait& wait,
                     absl::FunctionRef<int64_t()> make);

// The same for a call that moves `asked` bytes in all: MoveAll, or for kSendWait WriteAll.
int64_t MoveOnSocket(Call& call, const std::shared_ptr<OpenFile>& file, const SocketWait& wait,
                     uint64_t asked, absl::FunctionRef<bool()> whole,
                     absl::FunctionRef<int64_t()> make);

// The process's own id, from the program's to the host's and back.
IdPair PidToHost(const Call& call);
IdPair PidToGuest(const Call& call);

// An ioctl(2) that only sockets have; none: it is no such request, or `file` is no socket.
std::optional<int64_t> SocketIoctl(Call& call, const std::shared_ptr<OpenFile>& file);

// Before what a call's other arguments are: 0, or -ENOTSOCK or -EBADF (O_PATH).
inline int CheckSocket(const OpenFile& file) {
  FileKind kind = file.description->kind;
  return kind == FileKind::kSocket ? 0 : kind == FileKind::kPath ? -EBADF : -ENOTSOCK;
}

// The family of a socket; -1 of anything else.
int SocketFamily(const OpenFile& file);

}  // namespace km

#endif  // KM_SYSCALLS_SOCKETS_H_
