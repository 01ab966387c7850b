// kmctl's end of the control socket.
#ifndef KM_CONTROL_CLIENT_H_
#define KM_CONTROL_CLIENT_H_

#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "km/base/owned.h"
#include "km/control/protocol.h"

namespace km {

// For one thread. Blocks, but for TakeAnswer.
class ControlClient {
 public:
  // Errors carry an errno: ECONNREFUSED when nobody listens there any more. `patience` is the
  // longest wait for the connection, and then for each piece of an answer; EAGAIN when it is over.
  static absl::StatusOr<ControlClient> Connect(const std::string& path,
                                               absl::Duration patience = absl::InfiniteDuration());

  // Sends `request` ({"verb": ..., ...}) and waits for the answer's "result"; each event that comes
  // before is given to on_event. An answer that says no is FailedPrecondition with its message, or
  // PermissionDenied for want of rights; a monitor that went away Unavailable, and one that does
  // not speak the protocol DataLoss. `descriptor`, unless it is -1, goes with the request.
  absl::StatusOr<Json> Call(Json request, const std::function<void(const Json&)>& on_event = {},
                            int descriptor = -1);

  // The same in two steps, for one who asks several monitors at once. fd() is readable when there
  // is something for TakeAnswer, which does not wait: nullopt when the answer is not there yet.
  // Errors as of Call. One request at a time.
  void Send(Json request, int descriptor = -1);
  absl::StatusOr<std::optional<Json>> TakeAnswer();

  int fd() const { return socket_.get(); }

 private:
  explicit ControlClient(OwnedFd socket) : socket_(std::move(socket)) {}
  void SendFrame(absl::string_view frame, int descriptor);
  // Nullopt only with MSG_DONTWAIT in `flags`, of recv(2).
  absl::StatusOr<std::optional<Json>> NextAnswer(const std::function<void(const Json&)>& on_event,
                                                 int flags);
  absl::StatusOr<std::optional<Json>> NextMessage(int flags);

  OwnedFd socket_;
  FrameReader reader_{kMaxAnswer};
  int64_t last_id_ = 0;
};

}  // namespace km

#endif  // KM_CONTROL_CLIENT_H_
