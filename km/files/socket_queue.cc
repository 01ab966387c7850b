// What waits in a socket to be received: out without taking it, and back in.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "km/base/log.h"
#include "km/base/status.h"
#include "km/files/socket_state.h"

namespace km {
namespace {

constexpr size_t kPiece = 256 << 10;  // no datagram is larger on a host with the usual limits
constexpr size_t kMostDescriptors = 253;
constexpr uint64_t kMostBytes = 64 << 20;

// One look at the queue, at the place that SO_PEEK_OFF is at.
struct Look {
  std::vector<uint8_t> bytes;
  SocketAddress sender;
  std::vector<OwnedFd> fds;
  bool truncated = false;
};

// The number of bytes, or a negative errno. `scratch` may be of any size.
ssize_t Receive(int fd, size_t size, int flags, std::vector<uint8_t>& scratch, Look* look) {
  if (scratch.size() < size) scratch.resize(size);
  look->sender.resize(sizeof(sockaddr_storage));
  look->fds.clear();
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int)) + 256];
  iovec part = {scratch.data(), size};
  msghdr message = {};
  message.msg_name = look->sender.data();
  message.msg_namelen = static_cast<socklen_t>(look->sender.size());
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t length = recvmsg(fd, &message, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (length < 0) return -errno;
  look->bytes.assign(scratch.begin(), scratch.begin() + length);
  look->sender.resize(std::min<size_t>(message.msg_namelen, look->sender.size()));
  look->truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int passed = -1;
      std::memcpy(&passed, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      look->fds.emplace_back(passed);
    }
  }
  return length;
}

void SeekPeek(int fd, int to) { setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &to, sizeof(to)); }

ssize_t Peek(int fd, size_t size, std::vector<uint8_t>& scratch, Look* look) {
  return Receive(fd, size, MSG_PEEK, scratch, look);
}

// In a stream, descriptors come with the first byte of what they were sent with. A look shows where
// that ends, but not where it begins: only reading byte by byte does.
std::vector<Look> TakeAll(int fd, std::vector<uint8_t>& scratch) {
  std::vector<Look> all;
  for (Look look; Peek(fd, kPiece, scratch, &look) > 0;) {
    size_t left = look.bytes.size();
    const bool plain = look.fds.empty();
    bool fresh = true;
    while (left > 0) {
      Look part;
      if (Receive(fd, plain ? left : 1, 0, scratch, &part) <= 0) return all;
      left -= part.bytes.size();
      if (fresh || !part.fds.empty()) {
        all.push_back(std::move(part));
      } else {
        all.back().bytes.insert(all.back().bytes.end(), part.bytes.begin(), part.bytes.end());
      }
      fresh = false;
    }
  }
  return all;
}

// Room for everything in the queue of the socket that `fd` sends to, while it lives.
class WideSender {
 public:
  explicit WideSender(int fd) : fd_(fd) {
    socklen_t length = sizeof(old_);
    getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &old_, &length);
    Set(static_cast<int>(kMostBytes), SO_SNDBUF);
    Set(static_cast<int>(kMostBytes), SO_SNDBUFFORCE);
  }
  ~WideSender() { Set(old_ / 2, SO_SNDBUF); }
  WideSender(const WideSender&) = delete;
  WideSender& operator=(const WideSender&) = delete;

 private:
  void Set(int size, int option) { setsockopt(fd_, SOL_SOCKET, option, &size, sizeof(size)); }
  const int fd_;
  int old_ = 0;
};

bool Send(int fd, absl::Span<const uint8_t> bytes, absl::Span<const int> fds,
          const SocketAddress& to) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int))] = {};
  iovec part = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  msghdr header = {};
  header.msg_name = to.empty() ? nullptr : const_cast<uint8_t*>(to.data());
  header.msg_namelen = static_cast<socklen_t>(to.size());
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    auto* rights = reinterpret_cast<cmsghdr*>(control);
    rights->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size() * sizeof(int));
  }
  return sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

// All that waits in a stream, which is sent anew by its other end.
std::vector<Look> TakeAndPutBack(int fd, int peer, std::vector<uint8_t>& scratch) {
  std::vector<Look> all = TakeAll(fd, scratch);
  const WideSender wide(peer);
  for (const Look& look : all) {
    std::vector<int> fds;
    for (const OwnedFd& passed : look.fds) fds.push_back(passed.get());
    if (!Send(peer, look.bytes, fds, {})) {
      Log(LogLevel::kError, "what waited in a socket is lost to the process that goes on");
    }
  }
  return all;
}

absl::Status AddMessage(Look look, FileSaver& saver, SocketState* state) {
  if (look.truncated) return absl::FailedPreconditionError("holds a message that is too large");
  SocketMessage message;
  if (state->type != SOCK_STREAM) message.sender = std::move(look.sender);
  for (OwnedFd& fd : look.fds) {
    auto description = saver.table().DescriptionOf(fd.get());
    description->foreign = false;  // what is in flight between two of the program's is its own
    auto file = std::make_shared<OpenFile>(std::move(fd), std::move(description));
    KM_ASSIGN_OR_RETURN(uint32_t id, saver.Description(file));
    message.descriptions.push_back(id);
  }
  message.bytes = std::move(look.bytes);
  state->messages.push_back(std::move(message));
  return absl::OkStatus();
}

absl::Status SaveFrom(int fd, int peer, FileSaver& saver, SocketState* state) {
  const bool stream = state->type == SOCK_STREAM;
  for (uint64_t at = 0; at < kMostBytes;) {
    Look look;
    SeekPeek(fd, static_cast<int>(at));
    ssize_t length = Peek(fd, kPiece, saver.scratch, &look);
    if (length > 0 && stream && !look.fds.empty() && peer >= 0) {
      state->messages.clear();
      SeekPeek(fd, -1);
      for (Look& piece : TakeAndPutBack(fd, peer, saver.scratch)) {
        KM_RETURN_IF_ERROR(AddMessage(std::move(piece), saver, state));
      }
      return absl::OkStatus();
    }
    if (length == -EAGAIN || (length == 0 && (stream || at != 0))) return absl::OkStatus();
    if (length < 0) return ErrnoStatus(static_cast<int>(-length), "cannot be read");
    const bool empty = length == 0;
    at += static_cast<uint64_t>(length);
    KM_RETURN_IF_ERROR(AddMessage(std::move(look), saver, state));
    // The next look would find it again.
    if (empty) return absl::OkStatus();
  }
  return absl::FailedPreconditionError("holds too much that was not received");
}

// ---- Back in ----

absl::Status SendOne(int fd, const SocketMessage& message, const SocketAddress& to,
                     FileRestorer& restorer) {
  std::vector<int> fds;
  for (uint32_t id : message.descriptions) {
    KM_ASSIGN_OR_RETURN(auto file, restorer.Description(id));
    fds.push_back(file->host.get());
  }
  if (Send(fd, message.bytes, fds, to)) return absl::OkStatus();
  return ErrnoStatus(errno, "cannot put a message back into a socket");
}

SocketAddress NameOf(int fd) {
  SocketAddress name(sizeof(sockaddr_storage));
  auto size = static_cast<socklen_t>(name.size());
  if (getsockname(fd, reinterpret_cast<sockaddr*>(name.data()), &size) != 0) size = 0;
  name.resize(std::min<size_t>(size, name.size()));
  return name;
}

// Where the socket can be reached from here: one that is bound to all addresses, on the loopback
// interface that the sender uses.
SocketAddress Destination(SocketAddress name, const SocketAddress& sender) {
  if (name.size() == sizeof(sockaddr_in) && sender.size() == sizeof(sockaddr_in)) {
    auto* to = reinterpret_cast<sockaddr_in*>(name.data());
    if (to->sin_addr.s_addr == INADDR_ANY) to->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  if (name.size() == sizeof(sockaddr_in6) && sender.size() == sizeof(sockaddr_in6)) {
    auto* to = reinterpret_cast<sockaddr_in6*>(name.data());
    auto* from = reinterpret_cast<const sockaddr_in6*>(sender.data());
    if (IN6_IS_ADDR_UNSPECIFIED(&to->sin6_addr)) {
      to->sin6_addr = in6addr_loopback;
      if (IN6_IS_ADDR_V4MAPPED(&from->sin6_addr)) {
        to->sin6_addr = {};
        to->sin6_addr.s6_addr[10] = to->sin6_addr.s6_addr[11] = 0xff;
        to->sin6_addr.s6_addr[12] = 127;
        to->sin6_addr.s6_addr[15] = 1;
      }
    }
  }
  return name;
}

// The program's socket that a datagram came from, or one in its place; invalid: there is none.
OwnedFd SenderOf(const SocketMessage& message, const SocketState& state, FileRestorer& restorer) {
  bool named = message.sender.size() > sizeof(sa_family_t);
  for (const FdTable::Entry& entry : restorer.table().Entries()) {
    if (!named || entry.file->description->kind != FileKind::kSocket) continue;
    int fd = entry.file->host.get();
    if (NameOf(fd) == message.sender) return OwnedFd(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  }
  OwnedFd sender(socket(state.family, state.type | SOCK_CLOEXEC, state.protocol));
  auto* name = reinterpret_cast<const sockaddr*>(message.sender.data());
  bool abstract = state.family != AF_UNIX || (named && message.sender[sizeof(sa_family_t)] == 0);
  if (named &&
      (!abstract || bind(sender.get(), name, static_cast<socklen_t>(message.sender.size())) != 0)) {
    return OwnedFd();
  }
  return sender;
}

// From the other end, whose own limit shall not matter: pieces may take more room than they did.
absl::Status FillPair(const SocketState& state, FileRestorer& restorer) {
  const int other = restorer.Held(state.pair)[1 - state.end].get();
  const WideSender wide(other);
  for (const SocketMessage& message : state.messages) {
    KM_RETURN_IF_ERROR(SendOne(other, message, {}, restorer));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status SaveSocketQueue(int host_fd, int peer, FileSaver& saver, SocketState* state) {
  // Most streams hold nothing, and this is the cheapest question.
  int held = 0;
  if (state->type == SOCK_STREAM && ioctl(host_fd, FIONREAD, &held) == 0 && held == 0) {
    return absl::OkStatus();
  }
  int old = -1;
  socklen_t size = sizeof(old);
  const bool seeks = getsockopt(host_fd, SOL_SOCKET, SO_PEEK_OFF, &old, &size) == 0;
  // Older kernels cannot look further into a TCP connection; all of it is one piece anyway.
  if (!seeks || (state->family != AF_UNIX && state->type == SOCK_STREAM)) {
    int waiting = 0;
    if (ioctl(host_fd, FIONREAD, &waiting) != 0) return ErrnoStatus(errno, "ioctl(FIONREAD)");
    if (seeks) SeekPeek(host_fd, -1);
    Look look;
    ssize_t length =
        waiting > 0 ? Peek(host_fd, static_cast<size_t>(waiting), saver.scratch, &look) : 0;
    if (seeks) SeekPeek(host_fd, old);
    return length > 0 ? AddMessage(std::move(look), saver, state) : absl::OkStatus();
  }
  absl::Status status = SaveFrom(host_fd, peer, saver, state);
  SeekPeek(host_fd, old);
  return status;
}

absl::Status FillSocketQueue(int host_fd, const SocketState& state, FileRestorer& restorer) {
  if (state.messages.empty()) return absl::OkStatus();
  if (state.condition == KM_SOCKET_PAIRED) return FillPair(state, restorer);
  for (const SocketMessage& message : state.messages) {
    OwnedFd sender = SenderOf(message, state, restorer);
    absl::Status status = absl::FailedPreconditionError("its sender is not here any more");
    if (sender.valid()) {
      SocketAddress to = Destination(NameOf(host_fd), message.sender);
      status = SendOne(sender.get(), message, to, restorer);
    }
    // A network may lose datagrams.
    if (!status.ok() && state.family != AF_UNIX) {
      Log(LogLevel::kWarning,
          absl::StrCat("a datagram that was not received is lost: ", status.message()));
    } else if (!status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace km
