// Messages over sockets.
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <vector>

#include "km/syscalls/handlers.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/sockets.h"
#include "km/syscalls/transfer.h"

namespace km {
namespace {

// Linux allows net.core.optmem_max, which is no more than this by default.
constexpr size_t kMaxControl = 128 << 10;

// EPIPE comes with a signal on streams only.
int64_t AfterSend(Call& call, const std::shared_ptr<OpenFile>& file, int flags, int64_t result) {
  if (result != -EPIPE) return AfterSocketWait(file, SO_SNDTIMEO, result);
  int type = 0;
  socklen_t size = sizeof(type);
  getsockopt(file->host.get(), SOL_SOCKET, SO_TYPE, &type, &size);
  bool quiet = (flags & MSG_NOSIGNAL) != 0 || type != SOCK_STREAM;
  return quiet ? result : AfterWrite(call, result);
}

// A descriptor in a message has the program's number, not the host's. 0 or -EINVAL.
int CheckControl(const std::vector<char>& control) {
  size_t left = control.size();
  const char* at = control.data();
  while (left >= sizeof(cmsghdr)) {
    cmsghdr header;
    std::memcpy(&header, at, sizeof(header));
    if (header.cmsg_len < sizeof(header) || header.cmsg_len > left) return -EINVAL;
    if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_RIGHTS) return -EINVAL;
    size_t step = std::min(CMSG_ALIGN(header.cmsg_len), left);
    at += step;
    left -= step;
  }
  return 0;
}

// A message header with everything behind it, as the host is to see it.
struct HostMessage {
  msghdr header = {};
  std::vector<iovec> parts;
  std::vector<char> control;

  int CopyIn(const Call& call) {
    if (int error = call.memory().CopyIn(&header, call.Addr(1)); error != 0) return error;
    if (header.msg_iovlen > kMaxIovecs) return -EMSGSIZE;
    auto iov = GuestAddr(reinterpret_cast<uint64_t>(header.msg_iov));
    if (int error = CopyIovecs(call, iov, header.msg_iovlen, &parts); error != 0) return error;
    header.msg_iov = parts.data();
    auto name = reinterpret_cast<uint64_t>(header.msg_name);
    header.msg_name = reinterpret_cast<void*>(call.Host(name, sizeof(sockaddr_storage)));
    return 0;
  }

  int CopyControlIn(const Call& call) {
    if (header.msg_controllen > kMaxControl) return -ENOBUFS;
    control.resize(header.msg_controllen);
    auto from = GuestAddr(reinterpret_cast<uint64_t>(header.msg_control));
    if (int error = call.memory().CopyIn(control.data(), from, control.size()); error != 0) {
      return error;
    }
    header.msg_control = control.data();
    return CheckControl(control);
  }

  uint64_t Host() { return reinterpret_cast<uint64_t>(&header); }
};

// The fields that recvmsg changes.
int CopyHeaderOut(const Call& call, const msghdr& header) {
  const GuestMemory& memory = call.memory();
  uint64_t to = call.arguments[1];
  int error = memory.CopyOut(GuestAddr(to + offsetof(msghdr, msg_namelen)), header.msg_namelen);
  if (error != 0) return error;
  error = memory.CopyOut(GuestAddr(to + offsetof(msghdr, msg_controllen)), header.msg_controllen);
  if (error != 0) return error;
  return memory.CopyOut(GuestAddr(to + offsetof(msghdr, msg_flags)), header.msg_flags);
}

}  // namespace

SyscallResult Sendto(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  int64_t result = call.thread.Block(SYS_sendto, HostFd(file),
                                     Buffer(call, call.arguments[1], call.arguments[2]),
                                     call.arguments[2], call.arguments[3],
                                     SocketAddressArg(call, 4, call.Uint(5)), call.arguments[5]);
  return AfterSend(call, file, call.Int(3), result);
}

SyscallResult Recvfrom(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  int64_t result = call.thread.Block(
      SYS_recvfrom, HostFd(file), Buffer(call, call.arguments[1], call.arguments[2]),
      call.arguments[2], call.arguments[3], call.HostArg(4, sizeof(sockaddr_storage)),
      call.HostArg(5, sizeof(socklen_t)));
  return AfterSocketWait(file, SO_RCVTIMEO, result);
}

SyscallResult Sendmsg(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  HostMessage message;
  if (int error = message.CopyIn(call); error != 0) return error;
  if (int error = message.CopyControlIn(call); error != 0) return error;
  int64_t result = call.thread.Block(SYS_sendmsg, HostFd(file), message.Host(), call.arguments[2]);
  return AfterSend(call, file, call.Int(2), result);
}

SyscallResult Recvmsg(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  HostMessage message;
  if (int error = message.CopyIn(call); error != 0) return error;
  // No room for control messages: descriptors among them would be the host's.
  message.header.msg_control = nullptr;
  message.header.msg_controllen = 0;
  int64_t result = call.thread.Block(SYS_recvmsg, HostFd(file), message.Host(), call.arguments[2]);
  if (result < 0) return AfterSocketWait(file, SO_RCVTIMEO, result);
  int error = CopyHeaderOut(call, message.header);
  return error != 0 ? error : result;
}

}  // namespace km
