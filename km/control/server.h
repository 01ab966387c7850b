// The monitor's end of the control socket.
#ifndef KM_CONTROL_SERVER_H_
#define KM_CONTROL_SERVER_H_

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "km/base/owned.h"
#include "km/control/protocol.h"

namespace km {

// Never blocks and trusts no client: what one sends is bounded, one that does not read its answers
// is dropped, and when there are too many the one that was silent longest goes. Clients are of the
// monitor's own user, or root; the monitor's own process, that is the program, is refused.
//
// For one thread.
class ControlServer {
 public:
  using Client = uint64_t;  // never used again
  using Handler = std::function<void(Client, const Json&)>;

  static constexpr size_t kMaxClients = 128;

  // Listens on `path`, mode 0600. A socket there on which nobody listens any more is replaced.
  static absl::StatusOr<std::unique_ptr<ControlServer>> Listen(const std::string& path);
  // The same in ControlFolder(), which is made when it is not there, as PID.sock.
  static absl::StatusOr<std::unique_ptr<ControlServer>> ListenInFolder();
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  const std::string& path() const { return path_; }
  // Adds what is to be waited for until there is something for Serve to do, or timeout_ms() (poll's
  // timeout) is over. There is no epoll instance: each descriptor of the monitor's is one less that
  // the program can have.
  void AddTo(std::vector<pollfd>* fds) const;
  int timeout_ms() const { return deaf_ ? kDeafMs : -1; }

  // Takes what has come and calls handler(client, request) for each request, a JSON object of this
  // version with a verb; others are answered here.
  void Serve(const Handler& handler);
  // To a client that is gone: does nothing.
  void Send(Client client, const Json& message);
  bool Connected(Client client) const { return peers_.contains(client); }
  uint32_t PidOf(Client client) const;  // 0: it is gone
  // For the handler: the descriptor that came with the request, or none. Only one can come with a
  // request, which is closed where nobody takes it.
  OwnedFd TakeDescriptor(Client client);

 private:
  struct Peer {
    OwnedFd socket;
    uint32_t pid = 0;
    FrameReader reader{kMaxRequest};
    OwnedFd descriptor;  // of a request that is not served yet
    std::string unsent;
    uint64_t last_heard = 0;
    bool closing = false;  // after what is unsent
  };

  static constexpr int kDeafMs = 500;

  ControlServer(std::string path, ino_t inode, OwnedFd listener)
      : path_(std::move(path)), inode_(inode), listener_(std::move(listener)) {
    KeepSpare();
  }

  void KeepSpare();
  OwnedFd AcceptSocket();
  void Accept();
  void Refuse(OwnedFd socket, const char* why);
  void Hear(Client client, const Handler& handler);
  void HearRequest(Client client, const Handler& handler);
  void Flush(Client client);
  void Drop(Client client);

  const std::string path_;
  const ino_t inode_;  // of the file there
  const OwnedFd listener_;
  OwnedFd spare_;      // a descriptor for one client of a program that has taken all others
  bool deaf_ = false;  // no descriptors are left: clients wait for a while
  std::map<Client, Peer> peers_;
  Client last_client_ = 0;
  uint64_t ticks_ = 0;
};

// An answer that says why not. `code` is one of docs/control-protocol.md.
Json ErrorAnswer(const Json& request, const char* code, absl::string_view message);
Json Answer(const Json& request, Json result);

}  // namespace km

#endif  // KM_CONTROL_SERVER_H_
