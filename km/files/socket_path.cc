#include "km/files/socket_path.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "km/base/owned.h"
#include "km/base/status.h"
#include "km/files/socket_state.h"

namespace km {
namespace {

constexpr size_t kPathAt = offsetof(sockaddr_un, sun_path);

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

uint32_t FileInode(int host_fd) {
  struct stat status;
  OwnedFd diag;
  if (fstat(host_fd, &status) != 0) return 0;
  absl::StatusOr<UnixSocketInfo> info = QueryUnixSocket(status.st_ino, &diag);
  return info.ok() ? info->file_inode : 0;
}

// Programs that want a socket to be there at once, with its rights, bind it to another name and
// rename it. The name that it has now, or nothing. Looks at no more than *entries_left, and counts
// them.
std::string NameInDirectory(const std::string& path, uint32_t inode, int* entries_left) {
  const Place place = PlaceOf(path);
  const int directory = openat(place.directory.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* entries = directory >= 0 ? fdopendir(directory) : nullptr;
  if (entries == nullptr) {
    if (directory >= 0) close(directory);
    return "";
  }
  std::string found;
  const dirent* entry = nullptr;
  while (--*entries_left > 0 && (entry = readdir(entries)) != nullptr) {
    struct stat status;
    if (entry->d_type != DT_SOCK && entry->d_type != DT_UNKNOWN) continue;
    if (fstatat(directory, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 ||
        !IsFileOf(status, inode)) {
      continue;
    }
    found = entry->d_name;
    break;
  }
  closedir(entries);
  if (found.empty()) return "";
  return path.substr(0, path.size() - place.name.size()) + found;
}

SocketAddress AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const size_t size = std::min(path.size(), sizeof(address.sun_path) - 1);
  std::memcpy(address.sun_path, path.data(), size);
  const auto* bytes = reinterpret_cast<const uint8_t*>(&address);
  return {bytes, bytes + kPathAt + size + 1};
}

// 0 or an errno; then nothing is left.
int Rename(const std::string& from, const std::string& to, int type) {
  RemoveDeadSocket(AddressOf(to), type);
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
  const int error = errno == EEXIST ? EADDRINUSE : errno;
  unlink(from.c_str());
  return error;
}

// By a descriptor: whoever may write to the directory could put another file there meanwhile.
absl::Status GiveOwner(int host_fd, const std::string& path, const SocketFile& file,
                       FileRestorer& restorer) {
  if (file.owner == restorer.program) return absl::OkStatus();
  OwnedFd place(open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status;
  if (!place.valid() || fstat(place.get(), &status) != 0 || !IsFileOf(status, FileInode(host_fd))) {
    return absl::FailedPreconditionError(
        absl::StrCat("socket '", path, "' was replaced while it was made"));
  }
  return restorer.GiveOwner(place.get(), file.owner, absl::StrCat("socket '", path, "'"));
}

}  // namespace

std::string SocketPath(const SocketAddress& name) {
  sa_family_t family = AF_UNSPEC;
  if (name.size() <= kPathAt) return "";
  std::memcpy(&family, name.data(), sizeof(family));
  if (family != AF_UNIX) return "";
  const char* path = reinterpret_cast<const char*>(name.data()) + kPathAt;
  return {path, strnlen(path, name.size() - kPathAt)};
}

absl::StatusOr<std::optional<SocketFile>> SocketFileAt(const SocketAddress& name, uint32_t inode,
                                                       int* entries_left) {
  const std::string path = SocketPath(name);
  if (path.empty()) return std::nullopt;
  SocketFile file;
  struct stat status;
  int error = lstat(path.c_str(), &status) == 0 ? 0 : errno;
  if (error == ENOENT || (error == 0 && !IsFileOf(status, inode))) {
    file.path = NameInDirectory(path, inode, entries_left);
    if (*entries_left <= 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "is bound to '", path, "', where it is not, in a directory with too many names to look ",
          "for it: close it before"));
    }
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
  if (!file.removed) {
    KM_RETURN_IF_ERROR(GiveOwner(host_fd, path, file, restorer));
    return file.path.empty() ? 0 : Rename(path, file.path, type);
  }
  restorer.AtLast([path, inode = FileInode(host_fd)] {
    const Place place = PlaceOf(path);
    struct stat status;
    if (Look(place, &status) && IsFileOf(status, inode)) {
      unlinkat(place.directory.get(), place.name.c_str(), 0);
    }
    return absl::OkStatus();
  });
  return 0;
}

void RemoveDeadSocket(const SocketAddress& name, int type) {
  const std::string path = SocketPath(name);
  if (path.empty()) return;
  const Place place = PlaceOf(path);
  struct stat status;
  if (!Look(place, &status) || !S_ISSOCK(status.st_mode)) return;
  OwnedFd probe(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(name.data()),
              static_cast<socklen_t>(name.size())) != 0 &&
      errno == ECONNREFUSED) {
    unlinkat(place.directory.get(), place.name.c_str(), 0);
  }
}

}  // namespace km
