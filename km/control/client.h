// kmctl's end of the control socket.
#ifndef KM_CONTROL_CLIENT_H_
#define KM_CONTROL_CLIENT_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "km/base/owned.h"
#include "km/control/protocol.h"

namespace km {

// Blocks; for one thread.
class ControlClient {
 public:
  // Errors carry an errno: ECONNREFUSED when nobody listens there any more.
  static absl::StatusOr<ControlClient> Connect(const std::string& path);

  // Sends `request` ({"verb": ..., ...}) and waits for the answer's "result"; each event that comes
  // before is given to on_event. An answer that says no is FailedPrecondition with its message, a
  // monitor that went away Unavailable, and one that does not speak the protocol DataLoss.
  absl::StatusOr<Json> Call(Json request, const std::function<void(const Json&)>& on_event = {});

  int fd() const { return socket_.get(); }

 private:
  explicit ControlClient(OwnedFd socket) : socket_(std::move(socket)) {}
  absl::StatusOr<Json> NextMessage();

  OwnedFd socket_;
  FrameReader reader_{kMaxAnswer};
  int64_t last_id_ = 0;
};

}  // namespace km

#endif  // KM_CONTROL_CLIENT_H_
