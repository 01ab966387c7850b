// Options of sockets: plain bytes are passed on; what holds addresses, descriptors or process ids
// is translated, or is an option that there is not.
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "km/files/socket_unshown.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/sockets.h"

namespace km {
namespace {

// Of SOL_SOCKET, with addresses, descriptors or labels of the host's in them. Newer ones have no
// name in older headers.
constexpr int kRefused[] = {
    SO_ATTACH_BPF,
    SO_ATTACH_REUSEPORT_EBPF,
    SO_PASSSEC,
    SO_PEERSEC,
    76,  // SO_PASSPIDFD
    77,  // SO_PEERPIDFD
    78,  // SO_DEVMEM_LINEAR
    79,  // SO_DEVMEM_DMABUF
    80,  // SO_DEVMEM_DONTNEED
};
constexpr int kLastKnown = 83;  // SO_PASSRIGHTS

// Whether an option's value means the same to the host as to the program.
bool PlainOption(int level, int name) {
  constexpr int kFilterTables = 64;  // IPT_BASE_CTL, IP6T_BASE_CTL: of the kernel's packet filters
  constexpr int kTls = 282;
  switch (level) {
    case SOL_SOCKET:
      return name <= kLastKnown &&
             std::find(std::begin(kRefused), std::end(kRefused), name) == std::end(kRefused);
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
    case kTls:
      return true;
    default:
      return false;
  }
}

// What Linux says of an option that there is not. do_ip_getsockopt of net/ipv4/ip_sockglue.c has
// another word for a level that is not its own than all others have.
int NoOption(const OpenFile& file, int level, bool get) {
  int family = SocketFamily(file);
  bool unlike = family == AF_UNIX ? level != SOL_SOCKET
                                  : get && family == AF_INET && level != SOL_SOCKET &&
                                        level != IPPROTO_IP && level != IPPROTO_TCP;
  return unlike ? -EOPNOTSUPP : -ENOPROTOOPT;
}

bool IsFilter(int level, int name) {
  return level == SOL_SOCKET && (name == SO_ATTACH_FILTER || name == SO_ATTACH_REUSEPORT_CBPF);
}

// A classic packet filter: the host reads the instructions where the program has them.
int64_t AttachFilter(Call& call, const OpenFile& file) {
  sock_fprog program;
  if (call.Uint(4) != sizeof(program)) return -EINVAL;
  if (int error = call.memory().CopyIn(&program, call.Addr(3)); error != 0) return error;
  auto code = reinterpret_cast<uint64_t>(program.filter);
  program.filter =
      reinterpret_cast<sock_filter*>(call.Host(code, program.len * sizeof(sock_filter)));
  return HostResult(
      syscall(SYS_setsockopt, file.host.get(), SOL_SOCKET, call.Int(2), &program, sizeof(program)));
}

// An option as the host has taken it: what SocketUnshown notes of it is noted.
void Note(const OpenFile& file, int level, int name, absl::Span<const uint8_t> value) {
  if (!SocketUnshown::Notes(level, name)) return;
  file.description->MakeUnshown()->Note(file.host.get(), level, name, value);
}

// The host gets the bytes that are noted: the program may change its own meanwhile.
int64_t SetGroup(const OpenFile& file, int level, int name, absl::Span<const uint8_t> value) {
  int64_t result =
      HostResult(syscall(SYS_setsockopt, file.host.get(), level, name, value.data(), value.size()));
  if (result == 0) Note(file, level, name, value);
  return result;
}

// How much of a value of `length` the kernel may touch: of filters the length is in instructions.
uint64_t BytesOf(int level, int name, socklen_t length) {
  constexpr uint64_t kMost = 1 << 20;
  uint64_t size = IsFilter(level, name) ? uint64_t{length} * sizeof(sock_filter) : length;
  return std::min(size, kMost);
}

int64_t PeerCredentials(Call& call, const OpenFile& file, socklen_t* length) {
  ucred peer = {};
  *length = std::min<socklen_t>(*length, sizeof(peer));
  int64_t result =
      HostResult(syscall(SYS_getsockopt, file.host.get(), SOL_SOCKET, SO_PEERCRED, &peer, length));
  if (result != 0) return result;
  IdPair pid = PidToGuest(call);
  if (peer.pid == pid.from) peer.pid = pid.to;
  return call.memory().CopyOut(call.Addr(3), &peer, *length);
}

}  // namespace

SyscallResult Setsockopt(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (int error = CheckSocket(*file); error != 0) return error;
  if (call.Int(4) < 0) return -EINVAL;
  const int level = call.Int(1), name = call.Int(2);
  file->description->socket_options |= SocketOptionBit(level, name);
  if (IsGroupOption(level, name)) {
    std::array<uint8_t, sizeof(group_source_req) + 8> value = {};  // longer ones are none, too
    const size_t size = std::min(static_cast<size_t>(call.Int(4)), value.size());
    // Otherwise the host says what is wrong first.
    if (call.memory().CopyIn(value.data(), call.Addr(3), size) == 0) {
      return SetGroup(*file, level, name, absl::MakeConstSpan(value).first(size));
    }
  }
  const bool filter = IsFilter(level, name);
  if (!filter && !PlainOption(level, name)) return NoOption(*file, level, false);
  int64_t result =
      filter
          ? AttachFilter(call, *file)
          : HostResult(syscall(SYS_setsockopt, file->host.get(), level, name,
                               call.HostArg(3, BytesOf(level, name, call.Uint(4))), call.Int(4)));
  if (result == 0) Note(*file, level, name, {});
  return result;
}

SyscallResult Getsockopt(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (int error = CheckSocket(*file); error != 0) return error;
  int level = call.Int(1), name = call.Int(2);
  bool plain = PlainOption(level, name);
  if (int error = NoOption(*file, level, true); !plain && error == -EOPNOTSUPP) return error;
  // A length of our own: the program's could grow after the buffer was looked at.
  socklen_t length = 0;
  if (int error = call.memory().CopyIn(&length, call.Addr(4)); error != 0) return error;
  if (static_cast<int>(length) < 0) return -EINVAL;
  if (!plain) return NoOption(*file, level, true);
  int64_t result;
  if (level == SOL_SOCKET && name == SO_PEERCRED) {
    result = PeerCredentials(call, *file, &length);
  } else {
    result = HostResult(syscall(SYS_getsockopt, file->host.get(), level, name,
                                call.HostArg(3, BytesOf(level, name, length)), &length));
  }
  // Some write what they would have needed, and fail.
  int error = call.memory().CopyOut(call.Addr(4), length);
  return error != 0 && result == 0 ? error : result;
}

}  // namespace km
