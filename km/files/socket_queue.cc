// What waits in a socket to be received: out without taking it, and back in.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "km/base/log.h"
#include "km/base/status.h"
#include "km/files/socket_state.h"

namespace km {
namespace {

constexpr size_t kPiece = 256 << 10;  // no datagram is larger on a host with the usual limits
constexpr size_t kMostDescriptors = 253;
constexpr uint64_t kMostBytes = 64 << 20, kMostMessages = 1 << 20;
constexpr int kPassPidFd = 76;  // SO_PASSPIDFD of Linux 6.5

// An option of a socket that is another while this lives.
class OptionFor {
 public:
  OptionFor(int fd, int name, int value) : fd_(fd), name_(name) {
    socklen_t size = sizeof(old_);
    if (getsockopt(fd, SOL_SOCKET, name, &old_, &size) == 0 && old_ != value) {
      differs_ = setsockopt(fd, SOL_SOCKET, name, &value, sizeof(value)) == 0;
    }
  }
  ~OptionFor() {
    if (differs_) setsockopt(fd_, SOL_SOCKET, name_, &old_, sizeof(old_));
  }
  OptionFor(const OptionFor&) = delete;
  OptionFor& operator=(const OptionFor&) = delete;

 private:
  const int fd_, name_;
  int old_ = 0;
  bool differs_ = false;
};

// While it lives no message gets the monitor's own credentials on its way from one to the other:
// the kernel gives them to all where one of the two asks for them.
class NoCredentials {
 public:
  NoCredentials(int from, int to)
      : from_(from, SO_PASSCRED, 0),
        to_(to, SO_PASSCRED, 0),
        from_pidfd_(from, kPassPidFd, 0),
        to_pidfd_(to, kPassPidFd, 0) {}

 private:
  const OptionFor from_, to_, from_pidfd_, to_pidfd_;
};

// One look at the queue, at the place that SO_PEEK_OFF is at.
struct Look {
  std::vector<uint8_t> bytes;
  SocketAddress sender;
  std::vector<OwnedFd> fds;
  std::optional<ucred> credentials;  // with SO_PASSCRED: of every message
  bool truncated = false;
};

// Of the descriptors or the credentials that came with a message.
void Keep(const cmsghdr& header, Look* look) {
  if (header.cmsg_level != SOL_SOCKET) return;
  if (header.cmsg_type == SCM_CREDENTIALS && header.cmsg_len >= CMSG_LEN(sizeof(ucred))) {
    std::memcpy(&look->credentials.emplace(), CMSG_DATA(&header), sizeof(ucred));
  }
  if (header.cmsg_type != SCM_RIGHTS) return;
  const size_t count = (header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (size_t i = 0; i < count; ++i) {
    int passed = -1;
    std::memcpy(&passed, CMSG_DATA(&header) + i * sizeof(int), sizeof(int));
    look->fds.emplace_back(passed);
  }
}

// The number of bytes, or a negative errno. `scratch` may be of any size.
ssize_t Receive(int fd, size_t size, int flags, std::vector<uint8_t>& scratch, Look* look) {
  if (scratch.size() < size) scratch.resize(size);
  look->sender.resize(sizeof(sockaddr_storage));
  look->fds.clear();
  look->credentials.reset();
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
    Keep(*header, look);
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
    getsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &old_lock_, &length);
    Set(static_cast<int>(kMostBytes), SO_SNDBUF);
    Set(static_cast<int>(kMostBytes), SO_SNDBUFFORCE);
  }
  ~WideSender() {
    Set(old_ / 2, SO_SNDBUF);
    Set(old_lock_, SO_BUF_LOCK);  // whether the program chose it is as before, too
  }
  WideSender(const WideSender&) = delete;
  WideSender& operator=(const WideSender&) = delete;

 private:
  void Set(int size, int option) { setsockopt(fd_, SOL_SOCKET, option, &size, sizeof(size)); }
  const int fd_;
  int old_ = 0, old_lock_ = 0;
};

// One more into the control data that begins at `control`, of which `*size` bytes are used.
void AddControl(uint8_t* control, size_t* size, int type, const void* data, size_t length) {
  cmsghdr header = {};
  header.cmsg_len = CMSG_LEN(length);
  header.cmsg_level = SOL_SOCKET;
  header.cmsg_type = type;
  std::memcpy(control + *size, &header, sizeof(header));
  std::memcpy(control + *size + CMSG_LEN(0), data, length);
  *size += CMSG_SPACE(length);
}

// `as`: whose it is, or null.
bool Send(int fd, absl::Span<const uint8_t> bytes, absl::Span<const int> fds,
          const SocketAddress& to, const ucred* as) {
  alignas(cmsghdr)
      uint8_t control[CMSG_SPACE(kMostDescriptors * sizeof(int)) + CMSG_SPACE(sizeof(ucred))] = {};
  size_t used = 0;
  iovec part = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  msghdr header = {};
  header.msg_name = to.empty() ? nullptr : const_cast<uint8_t*>(to.data());
  header.msg_namelen = static_cast<socklen_t>(to.size());
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    AddControl(control, &used, SCM_RIGHTS, fds.data(), fds.size() * sizeof(int));
  }
  if (as != nullptr) AddControl(control, &used, SCM_CREDENTIALS, as, sizeof(*as));
  if (used != 0) {
    header.msg_control = control;
    header.msg_controllen = used;
  }
  return sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

// All that waits in a stream, which is sent anew by its other end.
std::vector<Look> TakeAndPutBack(int fd, int peer, std::vector<uint8_t>& scratch) {
  std::vector<Look> all = TakeAll(fd, scratch);
  const WideSender wide(peer);
  const NoCredentials none(peer, fd);
  for (const Look& look : all) {
    std::vector<int> fds;
    for (const OwnedFd& passed : look.fds) fds.push_back(passed.get());
    const bool known = look.credentials.has_value() && look.credentials->pid != 0;
    if (!(known && Send(peer, look.bytes, fds, {}, &*look.credentials)) &&
        !Send(peer, look.bytes, fds, {}, nullptr)) {
      Log(LogLevel::kError, "what waited in a socket is lost to the process that goes on");
    }
  }
  return all;
}

absl::Status AddMessage(Look look, FileSaver& saver, SocketState* state) {
  if (look.truncated) return absl::FailedPreconditionError("holds a message that is too large");
  SocketMessage message;
  if (state->type != SOCK_STREAM) message.sender = std::move(look.sender);
  // Without any it is as if sent by nobody. So it is by who has no number here.
  if (look.credentials.has_value() && look.credentials->pid != 0) {
    message.credentials = look.credentials;
    if (look.credentials->pid == getpid()) message.credentials->pid = 0;
  }
  if (state->condition == KM_SOCKET_LOST) look.fds.clear();  // as whoever sent them is
  for (OwnedFd& fd : look.fds) {
    auto description = saver.table().DescriptionOf(fd.get());
    // What is in flight between two of the program's is its own. Of what it has open that is known.
    if (description.use_count() == 1) description->foreign = false;
    auto file = std::make_shared<OpenFile>(std::move(fd), std::move(description));
    KM_ASSIGN_OR_RETURN(uint32_t id, saver.Description(file));
    message.descriptions.push_back(id);
  }
  message.bytes = std::move(look.bytes);
  state->messages.push_back(std::move(message));
  return absl::OkStatus();
}

// What a stream holds is `held` bytes. To look further could take the error behind them, and the
// program would never see it.
absl::Status SaveFrom(int fd, int peer, uint64_t held, FileSaver& saver, SocketState* state) {
  const bool stream = state->type == SOCK_STREAM;
  uint64_t at = 0;
  // An empty message is found once, and then taken for one that was seen: by a snapshot after this
  // one, too.
  for (uint64_t i = 0; at < kMostBytes && i < kMostMessages; ++i) {
    if (stream && at >= held) return absl::OkStatus();
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
    // The end of a connection brings no credentials: an empty message does.
    const bool end = stream || (state->family == AF_UNIX && !look.credentials.has_value());
    if (length == -EAGAIN || (length == 0 && end)) return absl::OkStatus();
    if (length < 0) return ErrnoStatus(static_cast<int>(-length), "cannot be read");
    at += static_cast<uint64_t>(length);
    KM_RETURN_IF_ERROR(AddMessage(std::move(look), saver, state));
  }
  return absl::FailedPreconditionError("holds too much that was not received");
}

// ---- Back in ----

// As whom a message can be sent again: a number that is another process's by now would be a lie.
ucred SenderNow(ucred credentials) {
  struct stat status;
  if (credentials.pid == 0) {
    credentials.pid = getpid();
  } else if (stat(absl::StrCat("/proc/", credentials.pid).c_str(), &status) != 0 ||
             status.st_uid != credentials.uid) {
    credentials.pid = -1;  // which the kernel refuses
  }
  return credentials;
}

// Never as somebody else, who might be trusted with more.
absl::Status SendOne(int fd, const SocketMessage& message, const SocketAddress& to,
                     FileRestorer& restorer) {
  std::vector<int> fds;
  for (uint32_t id : message.descriptions) {
    KM_ASSIGN_OR_RETURN(auto file, restorer.Description(id));
    fds.push_back(file->host.get());
  }
  if (message.credentials.has_value()) {
    const ucred &was = *message.credentials, now = SenderNow(was);
    if (Send(fd, message.bytes, fds, to, &now)) return absl::OkStatus();
    // The program is now whoever resumes it.
    const ucred self = {getpid(), getuid(), getgid()};
    if (was.pid == 0 && Owner{was.uid, was.gid} == restorer.program &&
        Send(fd, message.bytes, fds, to, &self)) {
      return absl::OkStatus();
    }
    if (errno == EPERM || errno == ESRCH) {
      restorer.Warn(absl::StrCat("a message of user ", was.uid,
                                 " that was not received comes as from nobody: its sender is "
                                 "not here any more, or it may not be sent for him"));
    }
  }
  if (Send(fd, message.bytes, fds, to, nullptr)) return absl::OkStatus();
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

// The program's socket that a datagram came from, or one in its place. Where a UNIX socket's name
// cannot be had, a nameless one: its owner is alive and hears of no answer, or gone. Invalid: there
// is none.
OwnedFd SenderOf(const SocketMessage& message, const SocketState& state, FileRestorer& restorer) {
  const bool named = message.sender.size() > sizeof(sa_family_t);
  for (const FdTable::Entry& entry : restorer.table().Entries()) {
    if (!named || entry.file->description->kind != FileKind::kSocket) continue;
    int fd = entry.file->host.get();
    if (NameOf(fd) == message.sender) return OwnedFd(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  }
  OwnedFd sender(socket(state.family, state.type | SOCK_CLOEXEC, state.protocol));
  auto* name = reinterpret_cast<const sockaddr*>(message.sender.data());
  const bool path = state.family == AF_UNIX && named && message.sender[sizeof(sa_family_t)] != 0;
  if (!named ||
      (!path && bind(sender.get(), name, static_cast<socklen_t>(message.sender.size())) == 0)) {
    return sender;
  }
  if (state.family != AF_UNIX) return OwnedFd();
  restorer.Warn(absl::StrCat(
      "a message that was not received comes without the name of its sender, ",
      SocketAddressText(message.sender), ", which is not the process's: it cannot be answered"));
  return sender;
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
  const OptionFor credentials(host_fd, SO_PASSCRED, state->family == AF_UNIX ? 1 : 0);
  const OptionFor no_pidfd(host_fd, kPassPidFd, 0);
  absl::Status status = SaveFrom(host_fd, peer, static_cast<uint64_t>(held), saver, state);
  SeekPeek(host_fd, old);
  return status;
}

absl::Status FillSocketFrom(int other, int host_fd, const SocketState& state,
                            FileRestorer& restorer) {
  // Its own limit shall not matter: pieces may take more room than they did.
  const WideSender wide(other);
  const NoCredentials none(other, host_fd);
  for (const SocketMessage& message : state.messages) {
    KM_RETURN_IF_ERROR(SendOne(other, message, {}, restorer));
  }
  return absl::OkStatus();
}

absl::Status FillSocketQueue(int host_fd, const SocketState& state, FileRestorer& restorer) {
  if (state.messages.empty()) return absl::OkStatus();
  if (state.condition == KM_SOCKET_PAIRED) {
    const int other = restorer.Held(state.pair)[1 - state.end].get();
    return FillSocketFrom(other, host_fd, state, restorer);
  }
  for (const SocketMessage& message : state.messages) {
    OwnedFd sender = SenderOf(message, state, restorer);
    absl::Status status = absl::FailedPreconditionError("its sender is not here any more");
    if (sender.valid()) {
      const NoCredentials none(sender.get(), host_fd);
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
