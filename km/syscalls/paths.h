// Path and descriptor arguments, turned into the host's.
#ifndef KM_SYSCALLS_PATHS_H_
#define KM_SYSCALLS_PATHS_H_

#include <fcntl.h>
#include <linux/limits.h>

#include <cstdint>
#include <memory>
#include <string>

#include "km/files/fd_table.h"
#include "km/syscalls/call.h"

namespace km {

// The open file behind argument `i`, or null: EBADF. Hold it as long as its host descriptor is
// used.
inline std::shared_ptr<OpenFile> FileArg(const Call& call, size_t i) {
  return call.process.files().Get(call.Uint(i));
}
// As an argument of Thread::Block.
inline uint64_t HostFd(const std::shared_ptr<OpenFile>& file) {
  return static_cast<uint64_t>(file->host.get());
}

// A path, and the directory that it is relative to. open_path.h turns the program's into one that
// the host follows to nothing of the monitor's.
struct HostPath {
  int dirfd = AT_FDCWD;
  std::string path;
  std::shared_ptr<OpenFile> directory;  // keeps dirfd open

  const char* c_str() const { return path.c_str(); }
};

enum class LastLink { kFollow, kKeep };

// The directory only: 0 or -EBADF.
int DirectoryOf(const Call& call, int guest_dirfd, HostPath* out);

// A path and the directory that it is relative to, copied in once: nothing is replaced yet. 0,
// -EFAULT, -ENAMETOOLONG or -EBADF. An empty path is not an error here (AT_EMPTY_PATH).
int CopyPath(const Call& call, int guest_dirfd, GuestAddr address, HostPath* out);

// A host descriptor just made, or a negative errno, becomes the program's.
int64_t AddMade(Call& call, int64_t host_fd, FileKind kind, bool close_on_exec);

}  // namespace km

#endif  // KM_SYSCALLS_PATHS_H_
