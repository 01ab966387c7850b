// Connections that a resume makes only to reset them: the program's own was lost.
#ifndef KM_FILES_SOCKET_LOST_H_
#define KM_FILES_SOCKET_LOST_H_

#include "absl/status/statusor.h"
#include "km/base/owned.h"
#include "km/files/file_restorer.h"
#include "km/files/socket_state.h"

namespace km {

// A connection that was made, received what is still to be read, and was then reset by the other
// end.
absl::StatusOr<OwnedFd> LostTcp(const SocketState& state);
// The same of a UNIX socket.
absl::StatusOr<OwnedFd> LostUnix(const SocketState& state, FileRestorer& restorer);
// Who waited to be accepted by a listener was reset meanwhile; the program still finds the
// connections.
void ResetWaiting(const SocketState& state);

}  // namespace km

#endif  // KM_FILES_SOCKET_LOST_H_
