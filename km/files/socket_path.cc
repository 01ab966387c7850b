#include "km/files/socket_path.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "km/base/owned.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/socket_state.h"

namespace km {
namespace {

// Whether it is the file of the socket, of whose inode unix_diag tells 32 bits.
bool IsFileOf(const struct stat& status, uint32_t inode) {
  return S_ISSOCK(status.st_mode) && static_cast<uint32_t>(status.st_ino) == inode;
}

// A path's last name, in its directory: others who may write above that could put another directory
// there between two looks.
struct Place {
  OwnedFd directory;  // O_PATH
  std::string name;
};

Place PlaceOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  const bool none = slash == path.npos;
  const std::string directory = none ? "." : path.substr(0, slash + 1);
  return {OwnedFd(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)),
          none ? path : path.substr(slash + 1)};
}

bool Look(const Place& place, struct stat* status) {
  return fstatat(place.directory.get(), place.name.c_str(), status, AT_SYMLINK_NOFOLLOW) == 0;
}

// Whether the file is there still.
bool IsStillAt(const Place& place, const struct stat& file) {
  struct stat now;
  return Look(place, &now) && now.st_ino == file.st_ino && now.st_dev == file.st_dev;
}

uint32_t FileInode(int host_fd) {
  struct stat status;
  OwnedFd diag;
  if (fstat(host_fd, &status) != 0) return 0;
  absl::StatusOr<UnixSocketInfo> info = QueryUnixSocket(status.st_ino, &diag);
  return info.ok() ? info->file_inode : 0;
}

// SIOCUNIXFILE of <linux/un.h>: an O_PATH descriptor of the socket's file.
constexpr unsigned long kSocketsFile = 0x89e0;

// Programs that want a socket to be there at once, with its rights, bind it to another name and
// rename it. Where it is now; nothing: it was removed. The kernel tells those with CAP_NET_ADMIN;
// others look in its directory, at no more than *entries_left, which counts them. Fails with an
// errno where that cannot be read.
absl::StatusOr<std::string> RenamedTo(int host_fd, const std::string& path, uint32_t inode,
                                      int* entries_left) {
  if (const OwnedFd file(ioctl(host_fd, kSocketsFile, 0)); file.valid()) {
    const std::string now = HostPathOf(file.get());
    return absl::EndsWith(now, " (deleted)") ? "" : now;
  }
  const Place place = PlaceOf(path);
  const int fd = openat(place.directory.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* entries = fd >= 0 ? fdopendir(fd) : nullptr;
  if (entries == nullptr) {
    const int error = errno;
    if (fd >= 0) close(fd);
    return ErrnoStatus(error, "cannot be read");
  }
  std::string found;
  const dirent* entry = nullptr;
  while (found.empty() && --*entries_left > 0 && (entry = readdir(entries)) != nullptr) {
    struct stat status;
    if (entry->d_type != DT_SOCK && entry->d_type != DT_UNKNOWN) continue;
    const bool is =
        fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && IsFileOf(status, inode);
    if (is) found = path.substr(0, path.size() - place.name.size()) + entry->d_name;
  }
  closedir(entries);
  return found;
}

// Fails with EEXIST where the name is taken. Not all file systems know RENAME_NOREPLACE.
int RenameWithoutReplacing(const Place& from, const Place& to) {
  const int source = from.directory.get(), target = to.directory.get();
  if (renameat2(source, from.name.c_str(), target, to.name.c_str(), RENAME_NOREPLACE) == 0) {
    return 0;
  }
  if (errno != EINVAL && errno != ENOSYS) return errno;
  struct stat status;
  if (Look(to, &status)) return EEXIST;
  return renameat(source, from.name.c_str(), target, to.name.c_str()) == 0 ? 0 : errno;
}

// The file that was made at `place` goes to `path`, or away where that is empty.
absl::Status PutWhereItWas(const Place& place, const struct stat& made, const std::string& path,
                           int type) {
  if (!IsStillAt(place, made)) return absl::OkStatus();  // others have moved it meanwhile
  if (path.empty()) {
    unlinkat(place.directory.get(), place.name.c_str(), 0);
    return absl::OkStatus();
  }
  RemoveDeadSocket(path, type);
  const int error = RenameWithoutReplacing(place, PlaceOf(path));
  if (error == 0) return absl::OkStatus();
  unlinkat(place.directory.get(), place.name.c_str(), 0);
  return ErrnoStatus(error == EEXIST ? EADDRINUSE : error,
                     absl::StrCat("cannot put a socket to '", path, "', where it was"));
}

}  // namespace

absl::StatusOr<std::optional<SocketFile>> SocketFileAt(int host_fd, const SocketAddress& name,
                                                       uint32_t inode, int* entries_left) {
  const std::string path = SocketPath(name);
  if (path.empty()) return std::nullopt;
  SocketFile file;
  struct stat status;
  int error = lstat(path.c_str(), &status) == 0 ? 0 : errno;
  if (error == ENOENT || (error == 0 && !IsFileOf(status, inode))) {
    absl::StatusOr<std::string> now = RenamedTo(host_fd, path, inode, entries_left);
    if (!now.ok()) return std::nullopt;
    if (*entries_left <= 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "is bound to '", path, "', where it is not, in a directory with too many names to look ",
          "for it: close it before"));
    }
    file.path = *std::move(now);
    if (!file.path.empty()) error = lstat(file.path.c_str(), &status) == 0 ? 0 : errno;
  }
  // A process that gave up its rights may not look there any more.
  if (error != 0 && error != ENOENT && error != ENOTDIR) return std::nullopt;
  if (error == 0 && IsFileOf(status, inode)) {
    file.mode = status.st_mode & 07777;
    file.owner = {status.st_uid, status.st_gid};
    return file;
  }
  if (path[0] != '/') {
    return absl::FailedPreconditionError(
        absl::StrCat("is bound to '", path,
                     "', which is not to be found from the working directory that it has now: bind "
                     "it to an absolute path, or close it before"));
  }
  file.path.clear();
  file.removed = true;
  return file;
}

absl::StatusOr<int> BindSocketFile(int host_fd, int type, const SocketAddress& name,
                                   const SocketFile& file, FileRestorer& restorer) {
  const std::string path = SocketPath(name);
  const auto place = std::make_shared<Place>(PlaceOf(path));
  struct stat socket;
  if (fstat(host_fd, &socket) != 0) return errno;
  // The mode of the file is that of the socket, without the bits of the umask: so nobody else is
  // let in for a moment. Who writes to it may connect.
  const mode_t mode = file.removed ? S_IWUSR : file.mode & 07777;
  const mode_t umask_before = umask(0);
  int error =
      fchmod(host_fd, mode) != 0 || bind(host_fd, reinterpret_cast<const sockaddr*>(name.data()),
                                         static_cast<socklen_t>(name.size())) != 0
          ? errno
          : 0;
  umask(umask_before);
  if (fchmod(host_fd, socket.st_mode & 07777) != 0 && error == 0) error = errno;
  if (error != 0) return error;
  const bool moves = file.removed || !file.path.empty();
  if (!moves && file.owner == restorer.program) return 0;
  // By a descriptor: whoever may write to the directory could put another file there meanwhile.
  const OwnedFd made(
      openat(place->directory.get(), place->name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status;
  if (!made.valid() || fstat(made.get(), &status) != 0 || !IsFileOf(status, FileInode(host_fd))) {
    return absl::FailedPreconditionError(
        absl::StrCat("socket '", path, "' was replaced while it was made"));
  }
  if (!file.removed) {
    KM_RETURN_IF_ERROR(
        restorer.GiveOwner(made.get(), file.owner, absl::StrCat("socket '", path, "'")));
  }
  if (moves) {
    restorer.Settle(
        [place, status, to = file.path, type] { return PutWhereItWas(*place, status, to, type); });
  }
  return 0;
}

void RemoveDeadSocket(const std::string& path, int type) {
  const Place place = PlaceOf(path);
  const OwnedFd found(
      openat(place.directory.get(), place.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status;
  if (!found.valid() || fstat(found.get(), &status) != 0 || !S_ISSOCK(status.st_mode)) return;
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  snprintf(name.sun_path, sizeof(name.sun_path), "/proc/self/fd/%d", found.get());
  const OwnedFd probe(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const bool dead =
      connect(probe.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0 &&
      errno == ECONNREFUSED;
  if (dead && IsStillAt(place, status)) unlinkat(place.directory.get(), place.name.c_str(), 0);
}

}  // namespace km
