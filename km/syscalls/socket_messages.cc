// Messages over sockets.
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <vector>

#include "km/process/clock.h"
#include "km/syscalls/foreign_files.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/sockets.h"
#include "km/syscalls/transfer.h"

namespace km {
namespace {

// Of a message that is sent. Linux allows net.core.optmem_max, which is less by default.
constexpr size_t kMaxControl = 1 << 20;
// Of one that is received: no kernel writes more into one message.
constexpr size_t kMaxControlIn = 128 << 10;

// Only datagrams look their destination up by its path.
int64_t PinDestination(Call& call, const OpenFile& socket, SocketName* name) {
  if (name->length == 0 || name->bytes.ss_family != AF_UNIX) return 0;
  int type = 0;
  socklen_t size = sizeof(type);
  getsockopt(socket.host.get(), SOL_SOCKET, SO_TYPE, &type, &size);
  return type == SOCK_DGRAM ? name->PinPath(call, socket) : 0;
}

// A message header with everything behind it, as the host is to see it.
class HostMessage {
 public:
  HostMessage(Call& call, GuestAddr at) : call_(call), at_(at) {}

  int CopyIn() {
    if (int error = call_.memory().CopyIn(&guest_, at_); error != 0) return error;
    if (static_cast<int>(guest_.msg_namelen) < 0) return -EINVAL;
    return 0;
  }
  int CopyPartsIn(uint64_t skip) {
    if (guest_.msg_iovlen > kMaxIovecs) return -EMSGSIZE;
    auto iov = GuestAddr(reinterpret_cast<uint64_t>(guest_.msg_iov));
    if (int error = CopyIovecs(call_, iov, guest_.msg_iovlen, &parts_, skip); error != 0) {
      return error;
    }
    host_.msg_iov = parts_.data();
    host_.msg_iovlen = parts_.size();
    return 0;
  }

  // Of the message's bytes `skip` have been moved already.
  int64_t PrepareSend(const OpenFile& socket, uint64_t skip);
  int PrepareReceive(uint64_t skip);
  // What a receiving call changes. 0 or a negative errno.
  int FinishReceive(int flags);

  uint64_t Host() { return reinterpret_cast<uint64_t>(&host_); }
  bool OutOfBand() const { return (host_.msg_flags & MSG_OOB) != 0; }
  // Nothing came with the bytes that were received, nor was it cut off.
  bool Plain() const { return host_.msg_controllen == 0 && (host_.msg_flags & MSG_CTRUNC) == 0; }
  size_t Size() const {
    size_t size = 0;
    for (const iovec& part : parts_) size += part.iov_len;
    return size;
  }

 private:
  GuestAddr Field(size_t offset) const { return GuestAddr(at_.value() + offset); }
  int CopyControlIn();
  void CopyControlOut(int flags);
  void PutRights(ControlMessage message, int flags);
  bool Put(const ControlMessage& message);

  Call& call_;
  const GuestAddr at_;
  msghdr guest_ = {}, host_ = {};
  std::vector<iovec> parts_;
  std::vector<char> control_;
  std::vector<std::shared_ptr<OpenFile>> passed_;  // open as long as the call lasts
  SocketName name_;
  size_t written_ = 0;  // of the program's control buffer
};

int HostMessage::CopyControlIn() {
  if (guest_.msg_controllen > kMaxControl) return -ENOBUFS;
  control_.resize(guest_.msg_controllen);
  auto from = GuestAddr(reinterpret_cast<uint64_t>(guest_.msg_control));
  if (int error = call_.memory().CopyIn(control_.data(), from, control_.size()); error != 0) {
    return error;
  }
  ControlToHost(absl::MakeSpan(control_), PidToHost(call_), [&](int fd) {
    auto file = call_.process.files().Get(static_cast<uint32_t>(fd));
    if (file == nullptr) return -1;
    passed_.push_back(file);
    return file->host.get();
  });
  host_.msg_control = control_.data();
  host_.msg_controllen = control_.size();
  return 0;
}

int64_t HostMessage::PrepareSend(const OpenFile& socket, uint64_t skip) {
  if (guest_.msg_name != nullptr) {
    auto from = GuestAddr(reinterpret_cast<uint64_t>(guest_.msg_name));
    auto size = std::min<socklen_t>(guest_.msg_namelen, sizeof(sockaddr_storage));
    if (int error = name_.CopyIn(call_, from, static_cast<int>(size)); error != 0) return error;
  }
  if (int error = CopyPartsIn(skip); error != 0) return error;
  // What comes with a message has gone with its first bytes.
  if (int error = skip == 0 ? CopyControlIn() : 0; error != 0) return error;
  if (int64_t error = PinDestination(call_, socket, &name_); error != 0) return error;
  host_.msg_name = reinterpret_cast<void*>(name_.HostAddress());
  host_.msg_namelen = name_.length;
  return 0;
}

int HostMessage::PrepareReceive(uint64_t skip) {
  if (int error = CopyPartsIn(skip); error != 0) return error;
  host_.msg_name = &name_.bytes;
  host_.msg_namelen = sizeof(name_.bytes);
  control_.resize(std::min(guest_.msg_controllen, kMaxControlIn));
  host_.msg_control = guest_.msg_control != nullptr ? control_.data() : nullptr;
  host_.msg_controllen = control_.size();
  return 0;
}

// As put_cmsg of the kernel: what cannot be written is left out.
bool HostMessage::Put(const ControlMessage& message) {
  cmsghdr header = {};
  header.cmsg_len = CMSG_LEN(message.data.size());
  header.cmsg_level = message.level;
  header.cmsg_type = message.type;
  uint64_t to = reinterpret_cast<uint64_t>(guest_.msg_control) + written_;
  const GuestMemory& memory = call_.memory();
  if (memory.CopyOut(GuestAddr(to), header) != 0 ||
      memory.CopyOut(GuestAddr(to + sizeof(header)), message.data.data(), message.data.size()) !=
          0) {
    return false;
  }
  written_ = std::min(written_ + CMSG_SPACE(message.data.size()), control_.size());
  return true;
}

// Gives the program the descriptors, as many as it may have; the rest is closed and MSG_CTRUNC says
// so, as it does on Linux behind one that a security module refuses. Those of kinds that are not
// passed on (pidfds) are closed too.
void HostMessage::PutRights(ControlMessage message, int flags) {
  FdTable& files = call_.process.files();
  bool close_on_exec = (flags & MSG_CMSG_CLOEXEC) != 0;
  std::vector<int> fds;
  bool all = message.IsRights();
  for (int host_fd : message.Descriptors()) {
    OwnedFd owned(host_fd);
    if (!all) continue;
    auto description = files.DescriptionOf(owned.get());
    auto file = AdmitFile(call_.process,
                          std::make_shared<OpenFile>(std::move(owned), std::move(description)));
    int fd = file != nullptr ? files.Install(std::move(file), close_on_exec) : -EACCES;
    if (fd < 0) {
      all = false;
    } else {
      fds.push_back(fd);
    }
  }
  message.data = message.data.subspan(0, fds.size() * sizeof(int));
  std::memcpy(message.data.data(), fds.data(), message.data.size());
  if (!fds.empty() && !Put(message)) {
    for (int fd : fds) files.Close(static_cast<uint64_t>(fd));
    all = false;
  }
  if (!all) host_.msg_flags |= MSG_CTRUNC;
}

void HostMessage::CopyControlOut(int flags) {
  if (host_.msg_control == nullptr) return;
  absl::Span<char> rest(control_.data(), std::min(host_.msg_controllen, control_.size()));
  ControlMessage message;
  while (NextControl(&rest, &message)) {
    if (message.HasDescriptors()) {
      PutRights(message, flags);
    } else {
      message.TranslateIds(PidToGuest(call_));
      Put(message);
    }
  }
}

int HostMessage::FinishReceive(int flags) {
  CopyControlOut(flags);
  if (guest_.msg_name != nullptr) {
    name_.length = host_.msg_namelen;
    auto to = GuestAddr(reinterpret_cast<uint64_t>(guest_.msg_name));
    int error = CopyNameOut(call_, name_, to, Field(offsetof(msghdr, msg_namelen)));
    if (error != 0) return error;
  }
  if ((flags & MSG_CMSG_CLOEXEC) == 0) host_.msg_flags &= ~MSG_CMSG_CLOEXEC;
  const GuestMemory& memory = call_.memory();
  int error = memory.CopyOut(Field(offsetof(msghdr, msg_flags)), host_.msg_flags);
  return error != 0 ? error : memory.CopyOut(Field(offsetof(msghdr, msg_controllen)), written_);
}

// What Thread::done counts: bytes of the one message, or messages.
enum class Counts { kBytes, kMessages };

// One message of sendmsg or sendmmsg. *whole: nothing of it was left.
int64_t SendOne(Call& call, const std::shared_ptr<OpenFile>& file, GuestAddr at, int flags,
                Counts counts, bool* whole) {
  const uint64_t done = counts == Counts::kBytes ? call.thread.done : 0;
  HostMessage message(call, at);
  if (int error = message.CopyIn(); error != 0) return error;
  if (int64_t error = message.PrepareSend(*file, done); error != 0) return error;
  auto make = [&] {
    return call.thread.Block(SYS_sendmsg, HostFd(file), message.Host(),
                             static_cast<uint32_t>(flags));
  };
  if (counts == Counts::kBytes) {
    return MoveOnSocket(
        call, file, kSendWait, message.Size() + done, [&] { return WritesAll(*file, flags); },
        make);
  }
  const int64_t result = WaitOnSocket(call, file, kSendWait, make);
  *whole = result >= 0 && static_cast<uint64_t>(result) == message.Size();
  return AfterWrite(call, result);
}

int64_t ReceiveOne(Call& call, const std::shared_ptr<OpenFile>& file, GuestAddr at, int flags,
                   Counts counts, bool* out_of_band) {
  const uint64_t done = counts == Counts::kBytes ? call.thread.done : 0;
  HostMessage message(call, at);
  if (int error = message.CopyIn(); error != 0) return error;
  if (int error = message.PrepareReceive(done); error != 0) return error;
  auto make = [&] {
    return call.thread.Block(SYS_recvmsg, HostFd(file), message.Host(),
                             static_cast<uint32_t>(flags | MSG_CMSG_CLOEXEC));
  };
  const int64_t result = counts == Counts::kMessages
                             ? WaitOnSocket(call, file, kReceiveWait, make)
                             : MoveOnSocket(
                                   call, file, kReceiveWait, message.Size() + done,
                                   [&] { return message.Plain() && ReadsAll(*file, flags); }, make);
  if (result < 0) return result;
  int error = message.FinishReceive(flags);
  *out_of_band = message.OutOfBand();
  return error != 0 ? error : result;
}

// The n-th of an array of messages, and where the result of each goes.
GuestAddr MessageAt(const Call& call, uint32_t n) {
  return GuestAddr(call.arguments[1] + n * sizeof(mmsghdr));
}
int PutLength(const Call& call, uint32_t n, int64_t length) {
  GuestAddr at(MessageAt(call, n).value() + offsetof(mmsghdr, msg_len));
  return call.memory().CopyOut(at, static_cast<uint32_t>(length));
}

// How many of `count` messages were moved before the call was interrupted.
int64_t MessagesDone(const Call& call, uint32_t count) {
  return static_cast<int64_t>(std::min<uint64_t>(call.thread.done, count));
}
// Whether the call was interrupted behind `done` messages, with which it goes on.
bool WaitsForMessage(Call& call, int64_t result, int64_t done) {
  if (result != kRestart && result != kRestartNoHandler) return false;
  call.thread.done = static_cast<uint64_t>(done);
  return true;
}

// recvmmsg(2): an error that an earlier call left comes before everything else.
int SocketError(const OpenFile& file) {
  int error = 0;
  socklen_t size = sizeof(error);
  return getsockopt(file.host.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

// The time that recvmmsg(2) looks at behind each message. 0 or a negative errno.
int ReceiveDeadline(Call& call, int64_t* deadline) {
  *deadline = INT64_MAX;
  if (call.Addr(4).null()) return 0;
  timespec timeout;
  if (int error = call.memory().CopyIn(&timeout, call.Addr(4)); error != 0) return error;
  if (timeout.tv_sec < 0 || timeout.tv_nsec < 0 || timeout.tv_nsec >= kNanosecondsPerSecond) {
    return -EINVAL;
  }
  *deadline = SaturatingAdd(call.process.clock().Monotonic(), ToNanoseconds(timeout));
  return 0;
}

}  // namespace

SyscallResult Sendto(Call& call) {
  if (call.arguments[1] >> 47 != 0) return -EFAULT;  // before all else
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (int error = CheckSocket(*file); error != 0) return error;
  SocketName name;
  if (!call.Addr(4).null()) {
    if (int error = name.CopyIn(call, call.Addr(4), call.Int(5)); error != 0) return error;
  }
  if (int64_t error = PinDestination(call, *file, &name); error != 0) return error;
  auto make = [&] {
    const uint64_t done = call.thread.done, size = call.arguments[2] - done;
    return call.thread.Block(SYS_sendto, HostFd(file), Buffer(call, call.arguments[1] + done, size),
                             size, call.arguments[3],
                             call.Addr(4).null() ? 0 : reinterpret_cast<uint64_t>(&name.bytes),
                             name.length);
  };
  return MoveOnSocket(
      call, file, kSendWait, call.arguments[2], [&] { return WritesAll(*file, call.Int(3)); },
      make);
}

SyscallResult Recvfrom(Call& call) {
  if (call.arguments[1] >> 47 != 0) return -EFAULT;  // before all else
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (int error = CheckSocket(*file); error != 0) return error;
  SocketName name;
  auto make = [&] {
    const uint64_t done = call.thread.done, size = call.arguments[2] - done;
    name.length = sizeof(name.bytes);
    return call.thread.Block(SYS_recvfrom, HostFd(file),
                             Buffer(call, call.arguments[1] + done, size), size, call.arguments[3],
                             reinterpret_cast<uint64_t>(&name.bytes),
                             reinterpret_cast<uint64_t>(&name.length));
  };
  const int64_t result = MoveOnSocket(
      call, file, kReceiveWait, call.arguments[2], [&] { return ReadsAll(*file, call.Int(3)); },
      make);
  if (result < 0 || call.Addr(4).null()) return result;
  int error = CopyNameOut(call, name, call.Addr(4), call.Addr(5));
  return error != 0 ? error : result;
}

SyscallResult Sendmsg(Call& call) {
  if (call.Int(2) < 0) return -EINVAL;  // MSG_CMSG_COMPAT
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (int error = CheckSocket(*file); error != 0) return error;
  bool whole = false;
  return SendOne(call, file, call.Addr(1), call.Int(2), Counts::kBytes, &whole);
}

SyscallResult Recvmsg(Call& call) {
  if (call.Int(2) < 0) return -EINVAL;  // MSG_CMSG_COMPAT
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (int error = CheckSocket(*file); error != 0) return error;
  bool out_of_band = false;
  return ReceiveOne(call, file, call.Addr(1), call.Int(2), Counts::kBytes, &out_of_band);
}

SyscallResult Sendmmsg(Call& call) {
  if (call.Int(3) < 0) return -EINVAL;  // MSG_CMSG_COMPAT
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (int error = CheckSocket(*file); error != 0) return error;
  uint32_t count = std::min<uint32_t>(call.Uint(2), kMaxIovecs);
  int64_t sent = MessagesDone(call, count);
  bool whole = true;
  for (auto i = static_cast<uint32_t>(sent); i < count && whole; ++i) {
    int64_t result =
        SendOne(call, file, MessageAt(call, i), call.Int(3), Counts::kMessages, &whole);
    if (WaitsForMessage(call, result, sent)) return result;
    if (result >= 0) result = std::min<int64_t>(PutLength(call, i, result), 0);
    if (result < 0) return sent > 0 ? sent : result;
    call.thread.deadline_ns.reset();  // of the message
    ++sent;
  }
  return sent;
}

SyscallResult Recvmmsg(Call& call) {
  if (call.Int(3) < 0) return -EINVAL;  // MSG_CMSG_COMPAT
  int64_t deadline = INT64_MAX;
  if (int error = ReceiveDeadline(call, &deadline); error != 0) return error;
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (int error = CheckSocket(*file); error != 0) return error;
  int flags = call.Int(3);
  int64_t received = MessagesDone(call, call.Uint(2)), result = 0;
  if ((flags & MSG_ERRQUEUE) == 0 && received == 0) {
    if (int error = SocketError(*file); error != 0) return -error;
  }
  if (received > 0 && (flags & MSG_WAITFORONE)) flags |= MSG_DONTWAIT;
  bool out_of_band = false;
  // As Linux: the time is looked at only behind a message.
  for (auto i = static_cast<uint32_t>(received); i < call.Uint(2) && !out_of_band; ++i) {
    result = ReceiveOne(call, file, MessageAt(call, i), flags & ~MSG_WAITFORONE, Counts::kMessages,
                        &out_of_band);
    if (call.Addr(4).null() && WaitsForMessage(call, result, received)) return result;
    if (result >= 0) result = PutLength(call, i, result);
    if (result < 0) break;
    call.thread.deadline_ns.reset();  // of the message
    ++received;
    if (flags & MSG_WAITFORONE) flags |= MSG_DONTWAIT;
    if (call.process.clock().Monotonic() >= deadline) break;
  }
  if (received == 0) return result;
  if (!call.Addr(4).null()) {
    int64_t left = std::max<int64_t>(deadline - call.process.clock().Monotonic(), 0);
    if (call.memory().CopyOut(call.Addr(4), ToTimespec(left)) != 0) return -EFAULT;
  }
  return received;
}

}  // namespace km
