#include "km/control/server.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "km/base/passed_descriptor.h"
#include "km/base/status.h"

namespace km {
namespace {

constexpr size_t kMaxUnsent = kMaxAnswer + (64 << 10);

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return ErrnoStatus(ENAMETOOLONG, absl::StrCat("the control socket ", path));
  }
  memcpy(address.sun_path, path.data(), path.size());
  return address;
}

bool SomebodyListens(const sockaddr_un& address) {
  OwnedFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ||
         errno != ECONNREFUSED;
}

bool IsSocket(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode);
}

int BindTo(int fd, const sockaddr_un& address) {
  // bind(2) gives the file the mode that the socket has, less the umask: nobody else can be
  // quicker.
  if (fchmod(fd, 0600) != 0) return errno;
  return bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 ? 0 : errno;
}

}  // namespace

Json Answer(const Json& request, Json result) {
  return {{"version", kControlVersion},
          {"id", request.value("id", Json())},
          {"ok", true},
          {"result", std::move(result)}};
}

Json ErrorAnswer(const Json& request, const char* code, absl::string_view message) {
  return {{"version", kControlVersion},
          {"id", request.value("id", Json())},
          {"ok", false},
          {"error", {{"code", code}, {"message", std::string(message)}}}};
}

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Listen(const std::string& path) {
  KM_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  OwnedFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return ErrnoStatus(errno, "making a control socket");
  int error = BindTo(listener.get(), address);
  if (error == EADDRINUSE && IsSocket(path) && !SomebodyListens(address)) {
    unlink(path.c_str());
    error = BindTo(listener.get(), address);
  }
  if (error == 0 && listen(listener.get(), SOMAXCONN) != 0) error = errno;
  if (error != 0) return ErrnoStatus(error, absl::StrCat("listening on the control socket ", path));
  struct stat status = {};
  (void)lstat(path.c_str(), &status);
  return std::unique_ptr<ControlServer>(
      new ControlServer(path, status.st_ino, std::move(listener)));
}

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::ListenInFolder() {
  const std::string folder = ControlFolder();
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return ErrnoStatus(errno, absl::StrCat("making the folder of control sockets ", folder));
  }
  struct stat status;
  if (lstat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) ||
      status.st_uid != geteuid() || (status.st_mode & 077) != 0) {
    return ErrnoStatus(EPERM, absl::StrCat(folder, " is no folder that only its owner may use"));
  }
  return Listen(absl::StrCat(folder, "/", getpid(), ".sock"));
}

// Another may have taken the name since.
ControlServer::~ControlServer() {
  struct stat status;
  if (lstat(path_.c_str(), &status) == 0 && status.st_ino == inode_ && S_ISSOCK(status.st_mode)) {
    unlink(path_.c_str());
  }
}

uint32_t ControlServer::PidOf(Client client) const {
  auto it = peers_.find(client);
  return it != peers_.end() ? it->second.pid : 0;
}

OwnedFd ControlServer::TakeDescriptor(Client client) {
  auto it = peers_.find(client);
  return it != peers_.end() ? std::move(it->second.descriptor) : OwnedFd();
}

void ControlServer::AddTo(std::vector<pollfd>* fds) const {
  if (!deaf_) fds->push_back({listener_.get(), POLLIN, 0});
  for (const auto& [client, peer] : peers_) {
    fds->push_back({peer.socket.get(),
                    static_cast<short>(peer.unsent.empty() ? POLLIN : POLLIN | POLLOUT), 0});
  }
}

void ControlServer::Serve(const Handler& handler) {
  deaf_ = false;
  KeepSpare();
  std::vector<pollfd> fds;
  std::vector<Client> clients;
  AddTo(&fds);
  for (const auto& [client, peer] : peers_) clients.push_back(client);
  if (poll(fds.data(), fds.size(), 0) <= 0) return;
  for (size_t i = 0; i < clients.size(); ++i) {
    const short events = fds[i + 1].revents;
    if (events & POLLOUT) Flush(clients[i]);
    if (events & (POLLIN | POLLHUP | POLLERR)) Hear(clients[i], handler);
  }
  // New ones last: one may take the place of another.
  if (fds[0].revents != 0) Accept();
}

void ControlServer::Refuse(OwnedFd socket, const char* why) {
  if (!socket.valid()) return;
  const std::string frame = EncodeFrame(ErrorAnswer(Json::object(), "refused", why));
  (void)send(socket.get(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void ControlServer::KeepSpare() {
  if (!spare_.valid()) spare_ = OwnedFd(fcntl(listener_.get(), F_DUPFD_CLOEXEC, 0));
}

OwnedFd ControlServer::AcceptSocket() {
  while (true) {
    OwnedFd socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    // Otherwise it would be asked for again at once.
    deaf_ = !socket.valid() && (errno == EMFILE || errno == ENFILE);
    if (!deaf_ || !spare_.valid()) return socket;
    spare_ = OwnedFd();
  }
}

void ControlServer::Accept() {
  OwnedFd socket = AcceptSocket();
  if (!socket.valid()) return;
  ucred peer = {};
  socklen_t size = sizeof(peer);
  if (getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 ||
      (peer.uid != geteuid() && peer.uid != 0)) {
    return Refuse(std::move(socket), "the monitor is another user's");
  }
  if (peer.pid == getpid()) return Refuse(std::move(socket), "a program does not control itself");
  if (peers_.size() >= kMaxClients) {
    auto oldest = std::min_element(peers_.begin(), peers_.end(), [](const auto& a, const auto& b) {
      return a.second.last_heard < b.second.last_heard;
    });
    Drop(oldest->first);
  }
  const Client client = ++last_client_;
  Peer& added = peers_[client];
  added.socket = std::move(socket);
  added.pid = static_cast<uint32_t>(peer.pid);
  added.last_heard = ++ticks_;
}

void ControlServer::Hear(Client client, const Handler& handler) {
  auto it = peers_.find(client);
  if (it == peers_.end()) return;
  char bytes[16 << 10];
  OwnedFd descriptor;
  const ssize_t count =
      ReceiveWithDescriptor(it->second.socket.get(), bytes, sizeof(bytes), &descriptor);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) return Drop(client);
  it->second.last_heard = ++ticks_;
  if (it->second.closing) return;  // it is not listened to any more
  if (descriptor.valid()) it->second.descriptor = std::move(descriptor);
  it->second.reader.Append({bytes, static_cast<size_t>(count)});
  // A handler may end the client.
  while ((it = peers_.find(client)) != peers_.end() && !it->second.closing &&
         it->second.reader.Ready()) {
    HearRequest(client, handler);
  }
  // Whatever it came with did not want it.
  if (it != peers_.end() && (it->second.closing || it->second.reader.empty())) {
    it->second.descriptor = OwnedFd();
  }
}

void ControlServer::HearRequest(Client client, const Handler& handler) {
  Peer& peer = peers_.at(client);
  absl::StatusOr<Json> request = peer.reader.Next();
  if (!request.ok()) {
    peer.closing = absl::IsResourceExhausted(request.status());
    return Send(client, ErrorAnswer(Json::object(), "bad-request", request.status().message()));
  }
  const auto version = request->find("version");
  if (version == request->end() || *version != kControlVersion) {
    return Send(client, ErrorAnswer(*request, "unsupported-version",
                                    absl::StrCat("this km speaks version ", kControlVersion)));
  }
  const auto verb = request->find("verb");
  if (verb == request->end() || !verb->is_string()) {
    return Send(client, ErrorAnswer(*request, "bad-request", "'verb' is to be a text"));
  }
  handler(client, *request);
}

void ControlServer::Send(Client client, const Json& message) {
  auto it = peers_.find(client);
  if (it == peers_.end()) return;
  it->second.unsent += EncodeFrame(message);
  if (it->second.unsent.size() > kMaxUnsent) return Drop(client);
  Flush(client);
}

void ControlServer::Flush(Client client) {
  auto it = peers_.find(client);
  if (it == peers_.end()) return;
  Peer& peer = it->second;
  const ssize_t sent =
      send(peer.socket.get(), peer.unsent.data(), peer.unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0 && errno != EAGAIN && errno != EINTR) return Drop(client);
  if (sent > 0) peer.unsent.erase(0, static_cast<size_t>(sent));
  if (peer.unsent.empty() && peer.closing) {
    // What it still sends would turn the close into a reset that loses the answer.
    shutdown(peer.socket.get(), SHUT_WR);
  }
}

void ControlServer::Drop(Client client) {
  peers_.erase(client);
  KeepSpare();
}

}  // namespace km
