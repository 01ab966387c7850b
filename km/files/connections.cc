#include "km/files/connections.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "absl/container/flat_hash_set.h"
#include "km/files/socket_address.h"

namespace km {
namespace {

using NameCall = int (*)(int, sockaddr*, socklen_t*);

// Empty: it has none.
SocketAddress NameOf(int fd, NameCall call) {
  sockaddr_storage name = {};
  socklen_t size = sizeof(name);
  if (call(fd, reinterpret_cast<sockaddr*>(&name), &size) != 0) return {};
  const auto* bytes = reinterpret_cast<const uint8_t*>(&name);
  return {bytes, bytes + size};
}

// What a listener's address and those of its connections have in common: of IP the family and the
// port, because a listener may be on every host address.
SocketAddress Place(const SocketAddress& name) {
  if (name.size() < sizeof(sockaddr_in)) return name;
  const auto* in = reinterpret_cast<const sockaddr_in*>(name.data());
  if (in->sin_family != AF_INET && in->sin_family != AF_INET6) return name;
  // The port is at the same place in both.
  return {name.begin(), name.begin() + offsetof(sockaddr_in, sin_addr)};
}

bool SomebodyWaits(int listener) {
  pollfd one = {listener, POLLIN, 0};
  return poll(&one, 1, 0) > 0;
}

// Where the connection `file` is at this end; empty: it is none.
SocketAddress ConnectedAt(const OpenFile& file) {
  const int fd = file.host.get();
  if (NameOf(fd, getpeername).empty()) return {};
  SocketAddress own = NameOf(fd, getsockname);
  // One that a resume made anew has no name on the host.
  const SocketNames* shown = file.description->socket_names.get();
  return Place(shown != nullptr && own.size() <= sizeof(sa_family_t) ? shown->own : own);
}

}  // namespace

bool IsListening(int host_fd) {
  int listening = 0;
  socklen_t size = sizeof(listening);
  return getsockopt(host_fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening != 0;
}

Connections LookForConnections(const FdTable& table) {
  Connections found;
  std::vector<std::shared_ptr<OpenFile>> others;
  absl::flat_hash_set<SocketAddress> places;
  for (FdTable::Entry& entry : table.Entries()) {
    if (entry.file->description->kind != FileKind::kSocket) continue;
    const int fd = entry.file->host.get();
    if (!IsListening(fd)) {
      others.push_back(std::move(entry.file));
      continue;
    }
    found.listens = true;
    found.open = found.open || SomebodyWaits(fd);
    places.insert(Place(NameOf(fd, getsockname)));
  }
  for (const std::shared_ptr<OpenFile>& file : others) {
    if (found.open || places.empty()) break;
    const SocketAddress place = ConnectedAt(*file);
    found.open = !place.empty() && places.contains(place);
  }
  return found;
}

}  // namespace km
