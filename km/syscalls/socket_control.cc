#include "km/syscalls/socket_control.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstring>

namespace km {
namespace {

constexpr int kScmPidFd = 4;  // of newer headers
constexpr size_t kHeader = CMSG_LEN(0);

// As many bytes of the id as there are.
void TranslateId(absl::Span<char> bytes, IdPair pid) {
  size_t size = std::min(bytes.size(), sizeof(pid.from));
  if (std::memcmp(bytes.data(), &pid.from, size) == 0) std::memcpy(bytes.data(), &pid.to, size);
}

void TranslateDescriptors(absl::Span<char> bytes, absl::FunctionRef<int(int)> host_fd) {
  for (size_t at = 0; at + sizeof(int) <= bytes.size(); at += sizeof(int)) {
    int fd = -1;
    std::memcpy(&fd, bytes.data() + at, sizeof(fd));
    fd = host_fd(fd);
    std::memcpy(bytes.data() + at, &fd, sizeof(fd));
  }
}

}  // namespace

bool NextControl(absl::Span<char>* rest, ControlMessage* out) {
  cmsghdr header;
  if (rest->size() < kHeader) return false;
  std::memcpy(&header, rest->data(), sizeof(header));
  if (header.cmsg_len < kHeader || header.cmsg_len > rest->size()) return false;
  out->level = header.cmsg_level;
  out->type = header.cmsg_type;
  out->data = rest->subspan(kHeader, header.cmsg_len - kHeader);
  rest->remove_prefix(std::min(CMSG_ALIGN(header.cmsg_len), rest->size()));
  return true;
}

void ControlToHost(absl::Span<char> control, IdPair pid, absl::FunctionRef<int(int)> host_fd) {
  ControlMessage message;
  while (NextControl(&control, &message)) {
    if (message.IsRights()) TranslateDescriptors(message.data, host_fd);
    message.TranslateIds(pid);
  }
}

bool ControlMessage::IsRights() const { return level == SOL_SOCKET && type == SCM_RIGHTS; }

bool ControlMessage::HasDescriptors() const {
  return IsRights() || (level == SOL_SOCKET && type == kScmPidFd);
}

std::vector<int> ControlMessage::Descriptors() const {
  std::vector<int> fds(data.size() / sizeof(int));
  std::memcpy(fds.data(), data.data(), fds.size() * sizeof(int));
  return fds;
}

void ControlMessage::TranslateIds(IdPair pid) {
  if (level == SOL_SOCKET && type == SCM_CREDENTIALS) TranslateId(data, pid);
}

}  // namespace km
