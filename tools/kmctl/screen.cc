#include "tools/kmctl/screen.h"

#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "km/base/status.h"

namespace km {
namespace {

// xterm's, which all terminals of today know: the alternate screen, and the cursor.
constexpr absl::string_view kEnter = "\x1b[?1049h\x1b[?25l";
constexpr absl::string_view kLeave = "\x1b[?25h\x1b[?1049l";
constexpr absl::string_view kHome = "\x1b[H", kClearLine = "\x1b[K", kClearBelow = "\x1b[J";

absl::Status WriteAll(absl::string_view text) {
  while (!text.empty()) {
    const ssize_t count = write(STDOUT_FILENO, text.data(), text.size());
    if (count < 0 && errno == EAGAIN) {
      pollfd room = {STDOUT_FILENO, POLLOUT, 0};
      poll(&room, 1, -1);
    } else if (count < 0 && errno != EINTR) {
      return ErrnoStatus(errno, "writing to the terminal");
    }
    if (count > 0) text.remove_prefix(static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

// All but those of a crash, and those by which the kernel keeps a job in the background from the
// terminal.
sigset_t TakenSignals() {
  sigset_t set;
  sigfillset(&set);
  for (int sig : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGTTIN, SIGTTOU}) {
    sigdelset(&set, sig);
  }
  return set;
}

// By the kernel's own rules: where nobody could continue it, it is not stopped.
void StopAsJob() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTSTP);
  raise(SIGTSTP);
  sigprocmask(SIG_UNBLOCK, &stop, nullptr);
  sigprocmask(SIG_BLOCK, &stop, nullptr);
}

winsize WindowSize() {
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) size = {};
  if (size.ws_row == 0) size.ws_row = 24;
  if (size.ws_col == 0) size.ws_col = 80;
  return size;
}

}  // namespace

std::string Fit(const std::string& text, size_t columns, bool fill) {
  std::string fitted;
  size_t used = 0;
  for (const char c : text) {
    // The bytes of UTF-8 behind the first of a character take no column.
    const bool first = (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    if (first && used == columns) break;
    if (first) ++used;
    fitted += c;
  }
  if (fill) fitted.append(columns - used, ' ');
  return fitted;
}

absl::StatusOr<std::unique_ptr<Screen>> Screen::Open() {
  auto screen = std::unique_ptr<Screen>(new Screen());
  const sigset_t taken = TakenSignals();
  OwnedFd signals(signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals.valid()) return ErrnoStatus(errno, "making a descriptor for signals");
  sigprocmask(SIG_BLOCK, &taken, &screen->mask_before_);
  if (tcgetattr(STDOUT_FILENO, &screen->before_) != 0) {
    const int error = errno;
    sigprocmask(SIG_SETMASK, &screen->mask_before_, nullptr);
    return ErrnoStatus(error, "the settings of the terminal");
  }
  screen->signals_ = std::move(signals);
  screen->keys_ = isatty(STDIN_FILENO) != 0;
  screen->Enter();
  return screen;
}

Screen::~Screen() {
  if (!signals_.valid()) return;
  Leave();
  sigprocmask(SIG_SETMASK, &mask_before_, nullptr);
}

// Keys come at once and are not shown. Ctrl-C and the like stay signals, and lines written end as
// before.
void Screen::Enter() {
  termios settings = before_;
  settings.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  settings.c_cc[VMIN] = 1;
  settings.c_cc[VTIME] = 0;
  tcsetattr(STDOUT_FILENO, TCSANOW, &settings);
  WriteAll(kEnter).IgnoreError();
}

// What was typed ahead is not for the shell.
void Screen::Leave() {
  WriteAll(kLeave).IgnoreError();
  tcsetattr(STDOUT_FILENO, TCSAFLUSH, &before_);
}

absl::Status Screen::Show(const std::vector<std::string>& lines) {
  const winsize window = WindowSize();
  std::string text(kHome);
  const size_t count = std::min<size_t>(lines.size(), window.ws_row);
  for (size_t i = 0; i < count; ++i) {
    // Behind the last column is no room to clear; and a line's end on the last row would scroll.
    const std::string line = Fit(lines[i], window.ws_col, false);
    absl::StrAppend(&text, i > 0 ? "\r\n" : "", kClearLine, line);
  }
  if (count < window.ws_row) absl::StrAppend(&text, "\r\n", kClearBelow);
  return WriteAll(text);
}

void Screen::AddTo(std::vector<pollfd>* fds) const {
  fds->push_back({signals_.get(), POLLIN, 0});
  fds->push_back({keys_ ? STDIN_FILENO : -1, POLLIN, 0});
}

Screen::Event Screen::Serve() {
  Event event = Event::kNone;
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    const Event one = Signalled(static_cast<int>(info.ssi_signo));
    if (one == Event::kEnd) return one;
    if (one != Event::kNone) event = one;
  }
  return KeyEnds() ? Event::kEnd : event;
}

Screen::Event Screen::Signalled(int sig) {
  switch (sig) {
    case SIGWINCH:
      return Event::kRedraw;
    case SIGCHLD:
    case SIGURG:
    case SIGCONT:
      return Event::kNone;
    case SIGTSTP:
      Leave();
      StopAsJob();
      // In the background this stops it again, until it has the terminal.
      Enter();
      return Event::kRedraw;
    case SIGINT:
      return Event::kEnd;
    default:
      end_signal_ = sig;
      return Event::kEnd;
  }
}

bool Screen::KeyEnds() {
  pollfd input = {STDIN_FILENO, POLLIN, 0};
  if (!keys_ || poll(&input, 1, 0) <= 0) return false;
  char keys[64];
  const ssize_t count = read(STDIN_FILENO, keys, sizeof(keys));
  if (count <= 0) keys_ = false;  // it is hung up
  return std::any_of(keys, keys + std::max<ssize_t>(count, 0),
                     [](char key) { return key == 'q' || key == 'Q'; });
}

}  // namespace km
