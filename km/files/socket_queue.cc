// What waits in a socket to be received: out without taking it.
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "km/base/log.h"
#include "km/base/status.h"
#include "km/files/socket_message.h"
#include "km/files/socket_state.h"
#include "km/files/socket_unshown.h"

namespace km {
namespace {

constexpr size_t kPiece = 256 << 10;  // no datagram is larger on a host with the usual limits
constexpr uint64_t kMostMessages = 1 << 20;

void SeekPeek(int fd, int to) { setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &to, sizeof(to)); }

ssize_t Peek(int fd, size_t size, std::vector<uint8_t>& scratch, Look* look) {
  return Receive(fd, size, MSG_PEEK, scratch, look);
}

// In a stream, descriptors come with the first byte of what they were sent with. A look shows where
// that ends, but not where it begins: only reading byte by byte does.
std::vector<Look> TakeStream(int fd, std::vector<uint8_t>& scratch) {
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

// The end of a connection brings no credentials: an empty message does.
bool IsEnd(ssize_t length, const Look& look, const SocketState& state) {
  return length == 0 &&
         (state.type == SOCK_STREAM || (state.family == AF_UNIX && !look.credentials.has_value()));
}

std::vector<Look> TakeMessages(int fd, const SocketState& state, std::vector<uint8_t>& scratch) {
  std::vector<Look> all;
  while (true) {
    Look look;
    const ssize_t length = Receive(fd, kPiece, 0, scratch, &look);
    if (length < 0 || IsEnd(length, look, state)) return all;
    all.push_back(std::move(look));
  }
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

// All that waits in an end of a pair, which is sent anew by its other end.
absl::Status TakeAndPutBack(int fd, int peer, FileSaver& saver, SocketState* state) {
  SeekPeek(fd, -1);
  std::vector<Look> all = state->type == SOCK_STREAM ? TakeStream(fd, saver.scratch)
                                                     : TakeMessages(fd, *state, saver.scratch);
  {
    const WideSender wide(peer);
    const NoCredentials none(peer, fd);
    for (const Look& look : all) {
      Outgoing message = {look.bytes};
      for (const OwnedFd& passed : look.fds) message.fds.push_back(passed.get());
      const bool known = look.credentials.has_value() && look.credentials->pid != 0;
      if (known) message.as = &*look.credentials;
      if (known && Send(peer, message)) continue;
      message.as = nullptr;
      if (Send(peer, message)) continue;
      Log(LogLevel::kError, "what waited in a socket is lost to the process that goes on");
    }
  }
  state->messages.clear();
  for (Look& look : all) KM_RETURN_IF_ERROR(AddMessage(std::move(look), saver, state));
  return absl::OkStatus();
}

// Whether an urgent byte was between two looks at a stream. Reading stops there still, and nothing
// else shows it; but it stops between different senders, too, and behind descriptors.
bool IsMarked(const std::optional<ucred>& before, const Look& look) {
  const auto& now = look.credentials;
  return before.has_value() && now.has_value() && before->pid == now->pid &&
         before->uid == now->uid && before->gid == now->gid;
}

// What a stream holds is `held` bytes. To look further could take the error behind them, and the
// program would never see it.
absl::Status SaveStream(int fd, int peer, uint64_t held, FileSaver& saver, SocketState* state) {
  std::optional<ucred> before;  // of the last look, where it was cut short
  for (uint64_t at = 0, i = 0; at < kMostSocketBytes && i < kMostMessages; ++i) {
    if (at >= held) return absl::OkStatus();
    Look look;
    SeekPeek(fd, static_cast<int>(at));
    const ssize_t length = Peek(fd, kPiece, saver.scratch, &look);
    if (length > 0 && !look.fds.empty() && peer >= 0) return TakeAndPutBack(fd, peer, saver, state);
    if (length == -EAGAIN || length == 0) return absl::OkStatus();
    if (length < 0) return ErrnoStatus(static_cast<int>(-length), "cannot be read");
    if (IsMarked(before, look)) {
      return absl::FailedPreconditionError(
          "had an urgent byte (MSG_OOB) behind what was not received: receive that before");
    }
    at += static_cast<uint64_t>(length);
    before.reset();
    if (look.fds.empty() && look.bytes.size() < kPiece) before = look.credentials;
    KM_RETURN_IF_ERROR(AddMessage(std::move(look), saver, state));
  }
  return absl::FailedPreconditionError("holds too much that was not received");
}

// Once looked at, an empty message is found at the head alone, and by a look that is at no place.
// `behind`: another one was found, and the next snapshot would not find it.
absl::Status SaveMessages(int fd, FileSaver& saver, SocketState* state, bool* behind) {
  Look head;
  SeekPeek(fd, -1);
  const ssize_t first = Peek(fd, 0, saver.scratch, &head);
  if (first == 0 && head.bytes.empty() && !head.truncated && !IsEnd(first, head, *state)) {
    KM_RETURN_IF_ERROR(AddMessage(std::move(head), saver, state));
  }
  uint64_t at = 0;
  for (uint64_t i = 0; at < kMostSocketBytes && i < kMostMessages; ++i) {
    Look look;
    SeekPeek(fd, static_cast<int>(at));
    const ssize_t length = Peek(fd, kPiece, saver.scratch, &look);
    if (length == -EAGAIN || IsEnd(length, look, *state)) return absl::OkStatus();
    if (length < 0) return ErrnoStatus(static_cast<int>(-length), "cannot be read");
    at += static_cast<uint64_t>(length);
    *behind = *behind || length == 0;
    KM_RETURN_IF_ERROR(AddMessage(std::move(look), saver, state));
  }
  return absl::FailedPreconditionError("holds too much that was not received");
}

absl::Status SaveDatagrams(const OpenFile& file, int peer, FileSaver& saver, SocketState* state) {
  const int fd = file.host.get();
  std::shared_ptr<SocketUnshown> unshown = file.description->unshown();
  bool behind = false;
  const absl::Status status = SaveMessages(fd, saver, state, &behind);
  const bool hidden = unshown != nullptr && unshown->hides_empty();
  if (behind && peer < 0) file.description->MakeUnshown()->set_hides_empty(true);
  KM_RETURN_IF_ERROR(status);
  if (hidden && !state->messages.empty()) {
    return absl::FailedPreconditionError(
        "may hold an empty message that an earlier snapshot looked at, and the kernel does not "
        "show it again: receive what waits in it before");
  }
  if (hidden) unshown->set_hides_empty(false);
  return behind && peer >= 0 ? TakeAndPutBack(fd, peer, saver, state) : absl::OkStatus();
}

}  // namespace

absl::Status SaveSocketQueue(const OpenFile& file, int peer, FileSaver& saver, SocketState* state) {
  const int host_fd = file.host.get();
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
  const OptionFor credentials(host_fd, SOL_SOCKET, SO_PASSCRED, state->family == AF_UNIX ? 1 : 0);
  const NoPidFd no_pidfd(host_fd);
  absl::Status status = state->type == SOCK_STREAM
                            ? SaveStream(host_fd, peer, static_cast<uint64_t>(held), saver, state)
                            : SaveDatagrams(file, peer, saver, state);
  SeekPeek(host_fd, old);
  return status;
}

}  // namespace km
