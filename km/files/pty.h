// Pseudo-terminals: what both ends share, out of one and into another.
#ifndef KM_FILES_PTY_H_
#define KM_FILES_PTY_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/base/bytes.h"
#include "km/base/owned.h"
#include "km/files/terminal_queue.h"
#include "km/files/terminal_settings.h"

namespace km {

struct PtyState {
  TerminalSettings settings;
  WindowSize window;
  uint32_t flags = 0;  // KM_TERMINAL_PACKET, ...
  uint32_t mode = 0;   // of the slave's name: 07777 and less
  TerminalQueues queues;
};

// The number in the name of the slave; -1: `fd` is not a master.
int PtyNumber(int fd);

// A descriptor of the other end of `master`, open as `flags` says and close-on-exec, whether it is
// locked or not. It does not become the controlling terminal. `slave` is another one, or -1: then
// it fails if the slave is open for exclusive use.
absl::StatusOr<OwnedFd> OpenPeer(int master, int flags, int slave);

// Everything of the terminal, which is then as it was. `slave` is a descriptor of the program's, or
// -1 where it has none. Errors start with a verb, as in FileKindRow::save.
absl::StatusOr<PtyState> SavePty(int master, int slave);

// The master of a new terminal in that state, which nobody has open at the other end. FinishPty
// locks it, or makes it exclusive, when all who shall have it open do.
absl::StatusOr<OwnedFd> RestorePty(const PtyState& state);
absl::Status FinishPty(int master, const PtyState& state);

// Records. ReadPty tells whether `tag` is one of its records; CheckPty what is wrong in all.
void WritePty(const PtyState& state, ByteWriter* out);
bool ReadPty(uint32_t tag, ByteReader* value, PtyState* state);
absl::Status CheckPty(const PtyState& state);

}  // namespace km

#endif  // KM_FILES_PTY_H_
