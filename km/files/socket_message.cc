#include "km/files/socket_message.h"

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "km/files/socket_state.h"

namespace km {
namespace {

constexpr int kPassPidFd = 76;  // SO_PASSPIDFD

// Of the descriptors or the credentials that came with a message.
void Keep(const cmsghdr& header, Look* look) {
  if (header.cmsg_level != SOL_SOCKET) return;
  if (header.cmsg_type == SCM_CREDENTIALS && header.cmsg_len >= CMSG_LEN(sizeof(ucred))) {
    std::memcpy(&look->credentials.emplace(), CMSG_DATA(&header), sizeof(ucred));
  }
  if (header.cmsg_type != SCM_RIGHTS) return;
  const size_t count = (header.cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (size_t i = 0; i < count; ++i) {
    int passed = -1;
    std::memcpy(&passed, CMSG_DATA(&header) + i * sizeof(int), sizeof(int));
    look->fds.emplace_back(passed);
  }
}

// The control data of a message that is sent.
class Control {
 public:
  void Add(int level, int type, const void* data, size_t length) {
    cmsghdr header = {};
    header.cmsg_len = CMSG_LEN(length);
    header.cmsg_level = level;
    header.cmsg_type = type;
    std::memcpy(bytes_ + size_, &header, sizeof(header));
    std::memcpy(bytes_ + size_ + CMSG_LEN(0), data, length);
    size_ += CMSG_SPACE(length);
  }
  // A socket that is bound to all addresses sends from this one.
  void AddSource(const SocketAddress& from) {
    if (from.size() == sizeof(sockaddr_in)) {
      in_pktinfo info = {};
      info.ipi_spec_dst = reinterpret_cast<const sockaddr_in*>(from.data())->sin_addr;
      Add(IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    } else if (from.size() == sizeof(sockaddr_in6)) {
      const auto* in6 = reinterpret_cast<const sockaddr_in6*>(from.data());
      const in6_pktinfo info = {in6->sin6_addr, in6->sin6_scope_id};
      Add(IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    }
  }
  void AddTo(msghdr* message) {
    message->msg_control = size_ != 0 ? bytes_ : nullptr;
    message->msg_controllen = size_;
  }

 private:
  alignas(cmsghdr) uint8_t bytes_[CMSG_SPACE(kMostDescriptors * sizeof(int)) +
                                  CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(sizeof(in6_pktinfo))] = {};
  size_t size_ = 0;
};

}  // namespace

OptionFor::OptionFor(int fd, int level, int name, int value) : fd_(fd), level_(level), name_(name) {
  socklen_t size = sizeof(old_);
  if (getsockopt(fd, level, name, &old_, &size) == 0 && old_ != value) {
    differs_ = setsockopt(fd, level, name, &value, sizeof(value)) == 0;
  }
}

OptionFor::~OptionFor() {
  if (differs_) setsockopt(fd_, level_, name_, &old_, sizeof(old_));
}

NoPidFd::NoPidFd(int fd) : OptionFor(fd, SOL_SOCKET, kPassPidFd, 0) {}

NoCredentials::NoCredentials(int from, int to)
    : from_(from, SOL_SOCKET, SO_PASSCRED, 0),
      to_(to, SOL_SOCKET, SO_PASSCRED, 0),
      from_pidfd_(from),
      to_pidfd_(to) {}

// It may be beyond the host's limit, to which it cannot be put back without the rights to go there.
WideSender::WideSender(int fd) : fd_(fd) {
  constexpr int kMost = kMostSocketBytes;
  socklen_t length = sizeof(old_);
  getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &old_, &length);
  getsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &old_lock_, &length);
  widened_ = Set(kMost, SO_SNDBUFFORCE);
  if (widened_) return;
  OwnedFd other(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  int limit = 0;
  setsockopt(other.get(), SOL_SOCKET, SO_SNDBUF, &kMost, sizeof(kMost));
  getsockopt(other.get(), SOL_SOCKET, SO_SNDBUF, &limit, &length);
  widened_ = limit > old_ && Set(kMost, SO_SNDBUF);
}

WideSender::~WideSender() {
  if (!widened_) return;
  Set(old_ / 2, SO_SNDBUF);
  Set(old_ / 2, SO_SNDBUFFORCE);
  Set(old_lock_, SO_BUF_LOCK);  // whether the program chose it is as before, too
}

bool WideSender::Set(int size, int option) {
  return setsockopt(fd_, SOL_SOCKET, option, &size, sizeof(size)) == 0;
}

ssize_t Receive(int fd, size_t size, int flags, std::vector<uint8_t>& scratch, Look* look) {
  if (scratch.size() < size) scratch.resize(size);
  look->sender.resize(sizeof(sockaddr_storage));
  look->fds.clear();
  look->credentials.reset();
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int)) + 256];
  iovec part = {scratch.data(), size};
  msghdr message = {};
  message.msg_name = look->sender.data();
  message.msg_namelen = static_cast<socklen_t>(look->sender.size());
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t length = recvmsg(fd, &message, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (length < 0) return -errno;
  look->bytes.assign(scratch.begin(), scratch.begin() + length);
  look->sender.resize(std::min<size_t>(message.msg_namelen, look->sender.size()));
  look->truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    Keep(*header, look);
  }
  return length;
}

bool Send(int fd, const Outgoing& message) {
  Control control;
  if (!message.fds.empty()) {
    control.Add(SOL_SOCKET, SCM_RIGHTS, message.fds.data(), message.fds.size() * sizeof(int));
  }
  if (message.as != nullptr) {
    control.Add(SOL_SOCKET, SCM_CREDENTIALS, message.as, sizeof(*message.as));
  }
  control.AddSource(message.from);
  iovec part = {const_cast<uint8_t*>(message.bytes.data()), message.bytes.size()};
  msghdr header = {};
  header.msg_name = message.to.empty() ? nullptr : const_cast<uint8_t*>(message.to.data());
  header.msg_namelen = static_cast<socklen_t>(message.to.size());
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  control.AddTo(&header);
  return sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) ==
         static_cast<ssize_t>(message.bytes.size());
}

}  // namespace km
