// Asking the kernel about UNIX sockets. Source: sock_diag(7), include/uapi/linux/unix_diag.h.
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "km/base/owned.h"
#include "km/base/status.h"
#include "km/files/socket_state.h"

namespace km {
namespace {

constexpr int kEstablished = 1;  // TCP_ESTABLISHED

struct Question {
  nlmsghdr head;
  unix_diag_req body;
};

void ReadAttribute(const rtattr& attribute, UnixSocketInfo* info) {
  const void* data = RTA_DATA(&attribute);
  size_t size = RTA_PAYLOAD(&attribute);
  if (attribute.rta_type == UNIX_DIAG_PEER && size >= sizeof(uint32_t)) {
    std::memcpy(&info->peer, data, sizeof(uint32_t));
    info->deserted = info->peer == 0;
  }
  if (attribute.rta_type == UNIX_DIAG_VFS && size >= sizeof(unix_diag_vfs)) {
    unix_diag_vfs file;
    std::memcpy(&file, data, sizeof(file));
    info->file_inode = file.udiag_vfs_ino;
  }
  if (attribute.rta_type == UNIX_DIAG_ICONS) {
    info->clients.resize(size / sizeof(uint32_t));
    if (!info->clients.empty()) {
      std::memcpy(info->clients.data(), data, info->clients.size() * sizeof(uint32_t));
    }
  }
  if (attribute.rta_type == UNIX_DIAG_RQLEN && size >= sizeof(unix_diag_rqlen)) {
    unix_diag_rqlen lengths;
    std::memcpy(&lengths, data, sizeof(lengths));
    info->backlog = lengths.udiag_wqueue;
  }
  if (attribute.rta_type == UNIX_DIAG_SHUTDOWN && size >= 1) {
    info->shut = *static_cast<const uint8_t*>(data) & 3u;
  }
}

}  // namespace

absl::StatusOr<UnixSocketInfo> QueryUnixSocket(uint64_t inode, OwnedFd* diag) {
  if (!diag->valid()) {
    *diag = OwnedFd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  }
  if (!diag->valid()) return ErrnoStatus(errno, "cannot be looked into (sock_diag)");
  Question question = {};
  question.head.nlmsg_len = sizeof(question);
  question.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  question.head.nlmsg_flags = NLM_F_REQUEST;
  question.body.sdiag_family = AF_UNIX;
  question.body.udiag_states = ~0u;
  question.body.udiag_ino = static_cast<uint32_t>(inode);
  question.body.udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN | UDIAG_SHOW_VFS | UDIAG_SHOW_ICONS;
  question.body.udiag_cookie[0] = question.body.udiag_cookie[1] = ~0u;
  alignas(nlmsghdr) char answer[4096];
  ssize_t length = send(diag->get(), &question, sizeof(question), 0);
  if (length > 0) length = recv(diag->get(), answer, sizeof(answer), 0);
  if (length < 0) {
    const int error = errno;
    *diag = OwnedFd();  // so that a late answer is not taken for that to the next question
    return ErrnoStatus(error, "cannot be looked into (sock_diag)");
  }
  auto* head = reinterpret_cast<const nlmsghdr*>(answer);
  if (NLMSG_OK(head, length) && head->nlmsg_type == NLMSG_ERROR &&
      head->nlmsg_len >= NLMSG_LENGTH(sizeof(nlmsgerr)) &&
      static_cast<const nlmsgerr*>(NLMSG_DATA(head))->error == -EMSGSIZE) {
    return absl::FailedPreconditionError(
        "has more connections that wait to be accepted than the kernel tells of: accept them");
  }
  if (!NLMSG_OK(head, length) || head->nlmsg_type != SOCK_DIAG_BY_FAMILY) {
    return absl::FailedPreconditionError(
        "cannot be looked into: this host's kernel has no unix_diag");
  }
  auto* message = static_cast<const unix_diag_msg*>(NLMSG_DATA(head));
  UnixSocketInfo info;
  info.connected = message->udiag_state == kEstablished;
  size_t left = head->nlmsg_len - NLMSG_LENGTH(sizeof(*message));
  auto* attribute = reinterpret_cast<const rtattr*>(message + 1);
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    ReadAttribute(*attribute, &info);
  }
  return info;
}

}  // namespace km
