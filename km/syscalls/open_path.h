// Opening files for the program: /proc shows it itself, and nothing leads to the monitor.
#ifndef KM_SYSCALLS_OPEN_PATH_H_
#define KM_SYSCALLS_OPEN_PATH_H_

#include <cstdint>
#include <string>

#include "km/base/owned.h"
#include "km/files/fd_table.h"
#include "km/syscalls/call.h"
#include "km/syscalls/paths.h"

namespace km {

// As openat2(2) takes them; O_CLOEXEC comes by itself.
struct Opening {
  int flags;
  uint64_t mode;
  uint64_t resolve = 0;  // RESOLVE_*
};

// A file that was opened, and what FileDescription says of it.
struct Opened {
  OwnedFd fd;
  FileKind kind = FileKind::kOther;
  std::string path;      // below /proc/self/ for what the program sees of itself
  bool foreign = false;  // another process has it open
};

// 0, a negative errno, or kRestart: a FIFO waits for its other end.
int64_t OpenPath(Call& call, const HostPath& path, const Opening& how, Opened* out);

// `path`, which is not empty, becomes an O_PATH descriptor of the file that it leads to, for calls
// that look at it: path->dirfd; path->path is empty (AT_EMPTY_PATH), and the description in
// path->directory says what Opened does. 0 or a negative errno.
int64_t Pin(Call& call, LastLink last, HostPath* path);

// The file that the path in argument `i` leads to, as a path that the host follows to it and
// nowhere else: for calls that change a file by its name. An empty path stays empty
// (AT_EMPTY_PATH). 0 or a negative errno.
int64_t PinnedPath(Call& call, int guest_dirfd, size_t i, HostPath* out);

// The path in argument `i`. kFollow: as PinnedPath. kKeep: the directory is pinned, and the name in
// it is the program's: for calls that make, remove or rename it. 0 or a negative errno.
int64_t PathArg(Call& call, int guest_dirfd, size_t i, LastLink last, HostPath* out);

}  // namespace km

#endif  // KM_SYSCALLS_OPEN_PATH_H_
