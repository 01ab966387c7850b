// Socket addresses, in and out. The paths in UNIX ones lead where the program's paths do, and not
// into the monitor's /proc.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "km/syscalls/open_path.h"
#include "km/syscalls/sockets.h"

namespace km {
namespace {

constexpr size_t kPathAt = offsetof(sockaddr_un, sun_path);
constexpr absl::string_view kPinned = "/proc/self/fd/";

// The bytes of sun_path, up to its end or a NUL; empty for other families and abstract names.
absl::string_view PathIn(const SocketName& name) {
  if (name.bytes.ss_family != AF_UNIX || name.length <= kPathAt ||
      name.length > sizeof(sockaddr_un)) {
    return {};
  }
  const char* path = reinterpret_cast<const char*>(&name.bytes) + kPathAt;
  return {path, strnlen(path, name.length - kPathAt)};
}

// Only if it fits.
bool SetPath(SocketName* name, absl::string_view path) {
  if (path.size() >= sizeof(sockaddr_un) - kPathAt) return false;
  char* to = reinterpret_cast<char*>(&name->bytes) + kPathAt;
  std::memcpy(to, path.data(), path.size());
  to[path.size()] = '\0';
  name->length = static_cast<socklen_t>(kPathAt + path.size() + 1);
  return true;
}

// What the program bound a socket to that the host knows by a pinned path.
void UseGuestPath(Process& process, SocketName* name) {
  absl::string_view path = PathIn(*name);
  if (!absl::StartsWith(path, kPinned)) return;
  for (const FdTable::Entry& entry : process.files().Entries()) {
    auto bound = entry.file->description->bound_name();
    if (bound != nullptr && bound->host_path == path) {
      SetPath(name, bound->path);
      return;
    }
  }
}

bool SameFile(const struct stat& one, const struct stat& other) {
  return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

}  // namespace

int SocketFamily(const OpenFile& file) {
  int family = -1;
  socklen_t size = sizeof(family);
  return getsockopt(file.host.get(), SOL_SOCKET, SO_DOMAIN, &family, &size) == 0 ? family : -1;
}

std::string UnixPath(const SocketName& name, const OpenFile& socket) {
  absl::string_view path = PathIn(name);
  return path.empty() || SocketFamily(socket) != AF_UNIX ? "" : std::string(path);
}

int SocketName::CopyIn(const Call& call, GuestAddr address, int size) {
  if (size < 0 || static_cast<size_t>(size) > sizeof(bytes)) return -EINVAL;
  length = static_cast<socklen_t>(size);
  return call.memory().CopyIn(&bytes, address, length);
}

int64_t SocketName::PinPath(Call& call, const OpenFile& socket) {
  HostPath path;
  path.path = UnixPath(*this, socket);
  if (path.path.empty()) return 0;
  Opened opened;
  if (int64_t error = OpenPath(call, path, {O_PATH, 0}, &opened); error != 0) return error;
  pinned = std::move(opened.fd);
  SetPath(this, absl::StrCat(kPinned, pinned.get()));
  return 0;
}

int64_t BindPath(Call& call, const OpenFile& socket, SocketName* name) {
  std::string path = UnixPath(*name, socket);
  size_t slash = path.rfind('/');
  // Just a name, or a path that nothing is made by.
  if (slash == std::string::npos || slash + 1 == path.size()) return 0;
  HostPath parent;
  parent.path = path.substr(0, slash + 1);
  Opened opened;
  if (int64_t error = OpenPath(call, parent, {O_PATH | O_DIRECTORY, 0}, &opened); error != 0) {
    return error;
  }
  struct stat meant, host;
  if (fstat(opened.fd.get(), &meant) != 0) return -errno;
  if (stat(parent.c_str(), &host) == 0 && SameFile(meant, host)) return 0;
  name->pinned = std::move(opened.fd);
  std::string pinned = absl::StrCat(kPinned, name->pinned.get(), path.substr(slash));
  return SetPath(name, pinned) ? 0 : -EINVAL;
}

int CopyNameOut(const Call& call, const SocketName& name, GuestAddr to, GuestAddr length_at) {
  SocketName shown;
  shown.length = std::min<socklen_t>(name.length, sizeof(shown.bytes));
  std::memcpy(&shown.bytes, &name.bytes, shown.length);
  UseGuestPath(call.process, &shown);
  int room = 0;
  if (int error = call.memory().CopyIn(&room, length_at); error != 0) return error;
  if (room < 0) return -EINVAL;
  uint64_t size = std::min<uint64_t>(static_cast<uint64_t>(room), shown.length);
  if (int error = call.memory().CopyOut(to, &shown.bytes, size); error != 0) return error;
  return call.memory().CopyOut(length_at, shown.length);
}

}  // namespace km
