// A terminal as a screen that is drawn again and again.
#ifndef TOOLS_KMCTL_SCREEN_H_
#define TOOLS_KMCTL_SCREEN_H_

#include <poll.h>
#include <signal.h>
#include <termios.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/base/owned.h"

namespace km {

// Takes standard output, keys of standard input, and the process's signals, for as long as it
// lives. For the only thread of a process. The terminal is as it was before on every way out: the
// destructor, a stop by Ctrl-Z, and each signal that ends a process, which becomes an event; but
// for SIGKILL and those of a crash.
class Screen {
 public:
  // Fails when standard output is no terminal.
  static absl::StatusOr<std::unique_ptr<Screen>> Open();
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  // Draws `lines` from the top, cut to the window. UTF-8, each character taken for one column wide.
  absl::Status Show(const std::vector<std::string>& lines);

  enum class Event {
    kNone,
    kRedraw,  // the window has another size, or was somebody else's meanwhile
    kEnd,     // q, Ctrl-C, or another signal
  };
  void AddTo(std::vector<pollfd>* fds) const;
  // What has happened; does not wait.
  Event Serve();
  // The signal that the process is to die of behind kEnd; 0: of none.
  int end_signal() const { return end_signal_; }

 private:
  Screen() = default;
  void Enter();
  void Leave();
  Event Signalled(int sig);
  bool KeyEnds();

  OwnedFd signals_;
  sigset_t mask_before_ = {};
  termios before_ = {};
  bool keys_ = false;  // standard input is a terminal that still has some
  int end_signal_ = 0;
};

// `text` cut or filled up to so many columns.
std::string Fit(const std::string& text, size_t columns, bool fill);

}  // namespace km

#endif  // TOOLS_KMCTL_SCREEN_H_
