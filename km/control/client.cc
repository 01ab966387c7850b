#include "km/control/client.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "km/base/passed_descriptor.h"
#include "km/base/status.h"

namespace km {

absl::StatusOr<ControlClient> ControlClient::Connect(const std::string& path,
                                                     absl::Duration patience) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return ErrnoStatus(ENAMETOOLONG, absl::StrCat("connecting to ", path));
  }
  memcpy(address.sun_path, path.data(), path.size());
  OwnedFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket.valid() && patience != absl::InfiniteDuration()) {
    const timeval limit = absl::ToTimeval(patience);
    // The first is also that of connect(2).
    setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }
  if (!socket.valid() ||
      connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return ErrnoStatus(errno, absl::StrCat("connecting to ", path));
  }
  return ControlClient(std::move(socket));
}

// What cannot be sent is not an error yet: the monitor may have said why it does not listen.
void ControlClient::SendFrame(absl::string_view frame, int descriptor) {
  while (!frame.empty()) {
    const ssize_t sent = SendWithDescriptor(socket_.get(), frame, descriptor);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return;
    frame.remove_prefix(static_cast<size_t>(sent));
    descriptor = -1;
  }
}

absl::StatusOr<Json> ControlClient::Call(Json request,
                                         const std::function<void(const Json&)>& on_event,
                                         int descriptor) {
  Send(std::move(request), descriptor);
  absl::StatusOr<std::optional<Json>> answer = NextAnswer(on_event, 0);
  KM_RETURN_IF_ERROR(answer.status());
  return **std::move(answer);
}

void ControlClient::Send(Json request, int descriptor) {
  request["version"] = kControlVersion;
  request["id"] = ++last_id_;
  SendFrame(EncodeFrame(request), descriptor);
}

absl::StatusOr<std::optional<Json>> ControlClient::TakeAnswer() {
  return NextAnswer({}, MSG_DONTWAIT);
}

absl::StatusOr<std::optional<Json>> ControlClient::NextAnswer(
    const std::function<void(const Json&)>& on_event, int flags) {
  while (true) {
    absl::StatusOr<std::optional<Json>> next = NextMessage(flags);
    if (!next.ok() || !next->has_value()) return next;
    const Json& message = **next;
    if (message.contains("event")) {
      if (on_event) on_event(message);
      continue;
    }
    if (message.value("ok", Json()) == true) {
      return std::optional<Json>(message.value("result", Json::object()));
    }
    const Json error = message.value("error", Json::object());
    if (!error.is_object()) return absl::DataLossError("the monitor's answer is no answer");
    KM_ASSIGN_OR_RETURN(std::string text, TextOr(error, "message", "it does not say why"));
    KM_ASSIGN_OR_RETURN(const std::string code, TextOr(error, "code", ""));
    if (code == kNoPermission) return absl::PermissionDeniedError(text);
    return absl::FailedPreconditionError(text);
  }
}

absl::StatusOr<std::optional<Json>> ControlClient::NextMessage(int flags) {
  char bytes[16 << 10];
  while (!reader_.Ready()) {
    const ssize_t count = recv(socket_.get(), bytes, sizeof(bytes), flags);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN && (flags & MSG_DONTWAIT) != 0) return std::nullopt;
    // It is reset where the monitor ended before it had read the request.
    if (count < 0 && errno != ECONNRESET) {
      return ErrnoStatus(errno, "waiting for the monitor's answer");
    }
    if (count <= 0) return absl::UnavailableError("the monitor went away without an answer");
    reader_.Append({bytes, static_cast<size_t>(count)});
  }
  absl::StatusOr<Json> message = reader_.Next();
  if (message.ok()) return std::optional<Json>(*std::move(message));
  return absl::DataLossError(absl::StrCat("the monitor's answer: ", message.status().message()));
}

}  // namespace km
