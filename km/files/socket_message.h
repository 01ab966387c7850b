// One message out of a socket and into it, and what of the sockets is another meanwhile.
#ifndef KM_FILES_SOCKET_MESSAGE_H_
#define KM_FILES_SOCKET_MESSAGE_H_

#include <sys/socket.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "km/base/owned.h"
#include "km/files/socket_address.h"

namespace km {

// An int option of a socket that is another while this lives. Nothing where it has no such option.
class OptionFor {
 public:
  OptionFor(int fd, int level, int name, int value);
  ~OptionFor();
  OptionFor(const OptionFor&) = delete;
  OptionFor& operator=(const OptionFor&) = delete;

 private:
  const int fd_, level_, name_;
  int old_ = 0;
  bool differs_ = false;
};

// While it lives no message comes with the pidfd of who sent it: see SO_PASSPIDFD of Linux 6.5.
class NoPidFd : public OptionFor {
 public:
  explicit NoPidFd(int fd);
};

// While it lives no message gets the monitor's own credentials on its way from one to the other:
// the kernel gives them to all where one of the two asks for them.
class NoCredentials {
 public:
  NoCredentials(int from, int to);

 private:
  const OptionFor from_, to_;
  const NoPidFd from_pidfd_, to_pidfd_;
};

// Room for everything in the queue of the socket that `fd` sends to, while it lives.
class WideSender {
 public:
  explicit WideSender(int fd);
  ~WideSender();
  WideSender(const WideSender&) = delete;
  WideSender& operator=(const WideSender&) = delete;

 private:
  bool Set(int size, int option);
  const int fd_;
  int old_ = 0, old_lock_ = 0;
  bool widened_ = false;
};

// One look at the queue, at the place that SO_PEEK_OFF is at.
struct Look {
  std::vector<uint8_t> bytes;
  SocketAddress sender;
  std::vector<OwnedFd> fds;
  std::optional<ucred> credentials;  // with SO_PASSCRED: of every message
  bool truncated = false;
};

// The number of bytes, or a negative errno. `scratch` may be of any size.
ssize_t Receive(int fd, size_t size, int flags, std::vector<uint8_t>& scratch, Look* look);

struct Outgoing {
  absl::Span<const uint8_t> bytes;
  std::vector<int> fds = {};  // kMostDescriptors at most
  SocketAddress to = {};      // empty: where the socket is connected to
  SocketAddress from = {};    // IPv4 and IPv6: its address is that of the sender; empty: any
  const ucred* as = nullptr;  // whose it is
};
// Whether all of it was sent, without waiting; otherwise errno says why not.
bool Send(int fd, const Outgoing& message);

}  // namespace km

#endif  // KM_FILES_SOCKET_MESSAGE_H_
