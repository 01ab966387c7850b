// What waited in a socket to be received: back in, as from whom it came.
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "km/base/log.h"
#include "km/base/status.h"
#include "km/files/socket_message.h"
#include "km/files/socket_state.h"

namespace km {
namespace {

// As whom a message can be sent again: a number that is another process's by now would be a lie.
ucred SenderNow(ucred credentials) {
  struct stat status;
  if (credentials.pid == 0) {
    credentials.pid = getpid();
  } else if (stat(absl::StrCat("/proc/", credentials.pid).c_str(), &status) != 0 ||
             status.st_uid != credentials.uid) {
    credentials.pid = -1;  // which the kernel refuses
  }
  return credentials;
}

// Never as somebody else, who might be trusted with more.
absl::Status SendOne(int fd, const SocketMessage& message, Outgoing out, FileRestorer& restorer) {
  out.bytes = message.bytes;
  for (uint32_t id : message.descriptions) {
    KM_ASSIGN_OR_RETURN(auto file, restorer.Description(id));
    out.fds.push_back(file->host.get());
  }
  if (message.credentials.has_value()) {
    const ucred &was = *message.credentials, now = SenderNow(was);
    out.as = &now;
    if (Send(fd, out)) return absl::OkStatus();
    // The program is now whoever resumes it.
    const ucred self = {getpid(), getuid(), getgid()};
    out.as = &self;
    if (was.pid == 0 && Owner{was.uid, was.gid} == restorer.program && Send(fd, out)) {
      return absl::OkStatus();
    }
    if (errno == EPERM || errno == ESRCH) {
      restorer.Warn(absl::StrCat("a message of user ", was.uid,
                                 " that was not received comes as from nobody: its sender is not "
                                 "here any more, or it may not be sent for him"));
    }
    out.as = nullptr;
  }
  if (Send(fd, out)) return absl::OkStatus();
  return ErrnoStatus(errno, "cannot put a message back into a socket");
}

// Where the socket can be reached from here: one that is bound to all addresses, on the loopback
// interface that the sender uses.
SocketAddress Destination(SocketAddress name, const SocketAddress& sender) {
  if (name.size() == sizeof(sockaddr_in) && sender.size() == sizeof(sockaddr_in)) {
    auto* to = reinterpret_cast<sockaddr_in*>(name.data());
    if (to->sin_addr.s_addr == INADDR_ANY) to->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  if (name.size() == sizeof(sockaddr_in6) && sender.size() == sizeof(sockaddr_in6)) {
    auto* to = reinterpret_cast<sockaddr_in6*>(name.data());
    auto* from = reinterpret_cast<const sockaddr_in6*>(sender.data());
    if (IN6_IS_ADDR_UNSPECIFIED(&to->sin6_addr)) {
      to->sin6_addr = IN6_IS_ADDR_V4MAPPED(&from->sin6_addr) ? kMappedLoopback : in6addr_loopback;
    }
  }
  return name;
}

NamedSocket KeyOf(const SocketState& state, SocketAddress name) {
  return {{state.family, state.type, state.protocol}, std::move(name)};
}

// What whoever resumes has supplied is known by the names that it has.
void NoteSupplied(FileRestorer& restorer) {
  if (std::exchange(restorer.supplied_sockets_noted, true)) return;
  for (const FdTable::Entry& entry : restorer.table().Entries()) {
    const FileDescription& description = *entry.file->description;
    if (description.kind != FileKind::kSocket || !description.foreign) continue;
    const int fd = entry.file->host.get();
    SocketState state;
    int* const fields[] = {&state.family, &state.type, &state.protocol};
    const int names[] = {SO_DOMAIN, SO_TYPE, SO_PROTOCOL};
    for (size_t i = 0; i < std::size(names); ++i) {
      socklen_t size = sizeof(int);
      getsockopt(fd, SOL_SOCKET, names[i], fields[i], &size);
    }
    state.name = AddressOf(fd, getsockname);
    NoteSocketName(fd, state, restorer);
  }
}

// The program's socket of the kind of `state` that had this name, or all addresses of its port. -1:
// there is none.
int SocketNamed(const SocketAddress& name, const SocketState& state, FileRestorer& restorer) {
  NoteSupplied(restorer);
  const auto& sockets = restorer.named_sockets;
  auto it = sockets.find(KeyOf(state, name));
  if (it == sockets.end() && IsInet(state)) {
    SocketAddress any = name;
    ToAnyAddress(&any);
    it = sockets.find(KeyOf(state, std::move(any)));
  }
  return it != sockets.end() ? it->second : -1;
}

// A socket in place of the one that a datagram came from, which is not the program's. Where a UNIX
// socket's name cannot be had, a nameless one: its owner is alive and hears of no answer, or gone.
// Invalid: there is none.
OwnedFd OtherSender(const SocketMessage& message, const SocketState& state,
                    FileRestorer& restorer) {
  const bool named = message.sender.size() > sizeof(sa_family_t);
  OwnedFd sender(socket(state.family, state.type | SOCK_CLOEXEC, state.protocol));
  const bool path = state.family == AF_UNIX && named && message.sender[sizeof(sa_family_t)] != 0;
  if (!named ||
      (!path && bind(sender.get(), Sockaddr(message.sender), Length(message.sender)) == 0)) {
    return sender;
  }
  if (state.family != AF_UNIX) return OwnedFd();
  restorer.Warn(absl::StrCat(
      "a message that was not received comes without the name of its sender, ",
      SocketAddressText(message.sender), ", which is not the process's: it cannot be answered"));
  return sender;
}

absl::Status FillFromSender(int host_fd, const SocketMessage& message, const SocketState& state,
                            FileRestorer& restorer) {
  Outgoing out;
  OwnedFd other;
  int sender = message.sender.size() > sizeof(sa_family_t)
                   ? SocketNamed(message.sender, state, restorer)
                   : -1;
  if (sender < 0) {
    other = OtherSender(message, state, restorer);
    sender = other.get();
  } else if (IsInet(state)) {
    out.from = message.sender;
  }
  if (sender < 0) return absl::FailedPreconditionError("its sender is not here any more");
  const NoCredentials none(sender, host_fd);
  // It goes by itself and in one piece, whatever the program does with what it sends.
  const int udp = state.protocol == IPPROTO_UDP ? IPPROTO_UDP : -1;
  const OptionFor at_once(sender, udp, UDP_CORK, 0), whole(sender, udp, UDP_SEGMENT, 0);
  out.to = Destination(AddressOf(host_fd, getsockname), message.sender);
  return SendOne(sender, message, std::move(out), restorer);
}

}  // namespace

void NoteSocketName(int host_fd, const SocketState& state, FileRestorer& restorer) {
  if (state.type != SOCK_DGRAM || state.name.empty()) return;
  restorer.named_sockets.try_emplace(KeyOf(state, state.name), host_fd);
}

SocketAddress NameNow(const SocketAddress& name, const SocketState& state, FileRestorer& restorer) {
  const int fd = state.type == SOCK_DGRAM ? SocketNamed(name, state, restorer) : -1;
  SocketAddress now = fd >= 0 ? AddressOf(fd, getsockname) : SocketAddress();
  if (now.size() <= sizeof(sa_family_t)) return name;
  if (!IsInet(state)) return now;
  SocketAddress there = name;  // the port is at the same place in both families
  reinterpret_cast<sockaddr_in*>(there.data())->sin_port =
      reinterpret_cast<const sockaddr_in*>(now.data())->sin_port;
  return there;
}

absl::Status FillSocketFrom(int other, int host_fd, const SocketState& state,
                            FileRestorer& restorer) {
  // Its own limit shall not matter: pieces may take more room than they did.
  const WideSender wide(other);
  const NoCredentials none(other, host_fd);
  for (const SocketMessage& message : state.messages) {
    KM_RETURN_IF_ERROR(SendOne(other, message, {}, restorer));
  }
  return absl::OkStatus();
}

absl::Status FillSocketQueue(int host_fd, const SocketState& state, FileRestorer& restorer) {
  if (state.messages.empty()) return absl::OkStatus();
  if (state.condition == KM_SOCKET_PAIRED) {
    const int other = restorer.Held(state.pair)[1 - state.end].get();
    return FillSocketFrom(other, host_fd, state, restorer);
  }
  for (const SocketMessage& message : state.messages) {
    absl::Status status = FillFromSender(host_fd, message, state, restorer);
    // A network may lose datagrams.
    if (!status.ok() && state.family != AF_UNIX) {
      Log(LogLevel::kWarning,
          absl::StrCat("a datagram that was not received is lost: ", status.message()));
    } else if (!status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace km
