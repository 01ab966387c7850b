// The kernel has no call that looks at what waits in a terminal. It is read, and written once more
// by the other end, with settings under which the line discipline leaves it as it is: what is in
// its queue was edited, translated and echoed when it came. By lines, what is special is quoted.
#include "km/files/terminal_queue.h"

#include <asm/termbits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "km/base/status.h"

namespace km {
namespace {

using Bytes = TerminalQueues::Bytes;

constexpr size_t kPiece = 8192;
constexpr size_t kMost = 256 << 10;        // no pseudo-terminal holds as much
constexpr int64_t kPatience = 5000000000;  // ns; the kernel's worker takes microseconds

int64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1000000000} + now.tv_nsec;
}

// Before it answers "nothing", poll and read wait until all that was written has gone through the
// line discipline.
bool Ready(int fd, short events, int timeout_ms = 0) {
  pollfd one = {fd, events, 0};
  return poll(&one, 1, timeout_ms) == 1 && (one.revents & events) != 0;
}

// Reads on to the end. -1: an error other than that there is nothing.
int ReadAll(int fd, Bytes* out) {
  while (out->size() < kMost) {
    const size_t before = out->size();
    out->resize(before + kPiece);
    const ssize_t length = read(fd, out->data() + before, kPiece);
    out->resize(before + static_cast<size_t>(std::max<ssize_t>(length, 0)));
    // EIO: the other end is closed, and all was read.
    if (length < 0) return errno == EAGAIN || errno == EIO ? 0 : -1;
    if (length == 0) return 0;
  }
  return -1;
}

bool Ends(const Bytes& line, uint8_t end) {
  return !line.empty() && (line.back() == '\n' || (end != 0 && line.back() == end));
}

// ---- Out ----

// Why the slave's writers have to wait, though there is room. Lets it go on.
absl::Status TakeStop(int slave, const TerminalSettings& settings, OutputStop* stop) {
  if (Ready(slave, POLLOUT)) return absl::OkStatus();
  *stop = OutputStop::kCall;
  if (ioctl(slave, TCXONC, TCOON) == 0 && Ready(slave, POLLOUT)) return absl::OkStatus();
  *stop = OutputStop::kCharacter;  // without IXON nothing is stopped by a character
  if (SetSettings(slave, NeutralSettings(settings, settings.canonical())) &&
      Ready(slave, POLLOUT)) {
    return absl::OkStatus();
  }
  *stop = OutputStop::kNone;
  return absl::FailedPreconditionError("takes no output, and does not say why");
}

// What the line discipline has not seen yet is behind what it has room for.
void SplitBacklog(uint8_t end, TerminalQueues* queues) {
  size_t room = kTerminalRoom;
  auto split = [&](Bytes* bytes) {
    const size_t kept = std::min(room, bytes->size());
    queues->backlog.insert(queues->backlog.end(), bytes->begin() + static_cast<ptrdiff_t>(kept),
                           bytes->end());
    bytes->resize(kept);
    room -= kept;
  };
  for (size_t i = 0; i < queues->lines.size(); ++i) {
    Bytes& line = queues->lines[i];
    const size_t size = line.size() + (Ends(line, end) ? 0 : 1);  // VEOF takes a place too
    if (size <= room) {
      room -= size;
      continue;
    }
    Bytes begun = std::move(line);
    split(&begun);
    for (size_t later = i + 1; later < queues->lines.size(); ++later) split(&queues->lines[later]);
    split(&queues->rest);
    queues->rest = std::move(begun);
    queues->lines.resize(i);
    return;
  }
  split(&queues->rest);
}

absl::Status TakeLines(int slave, const TerminalSettings& settings, TerminalQueues* queues) {
  TerminalSettings neutral = NeutralSettings(settings, true);
  // Lines of the backlog end where they will have ended: a full queue without an end is cut.
  if ((settings.input & ICRNL) != 0) neutral.characters[VEOL] = '\r';
  if (!SetSettings(slave, neutral)) return ErrnoStatus(errno, "cannot be set");
  Bytes line(kPiece);
  ssize_t length = 0;
  for (size_t total = 0; (length = read(slave, line.data(), line.size())) >= 0; total += kPiece) {
    if (total > 64 * kMost) return absl::FailedPreconditionError("does not come to an end");
    queues->lines.emplace_back(line.begin(), line.begin() + length);
  }
  return errno == EAGAIN ? absl::OkStatus() : ErrnoStatus(errno, "cannot be read");
}

absl::Status TakeInput(int slave, const TerminalSettings& settings, TerminalQueues* queues) {
  int waiting = 0;
  if (Ready(slave, POLLIN)) {
    if (settings.canonical()) KM_RETURN_IF_ERROR(TakeLines(slave, settings, queues));
  } else if (!settings.canonical() && ioctl(slave, FIONREAD, &waiting) == 0 && waiting == 0) {
    return absl::OkStatus();
  }
  // The line that is being typed can only be read, or seen at all, by the byte.
  if (!SetSettings(slave, NeutralSettings(settings, false))) {
    return ErrnoStatus(errno, "cannot be set");
  }
  if (ReadAll(slave, &queues->rest) != 0) return ErrnoStatus(errno, "cannot be read");
  if (settings.canonical() && queues->lines.empty()) {
    // Never a backlog: what a line has no room for is dropped, but for the last place, where its
    // end will be.
    queues->rest.resize(std::min(queues->rest.size(), kTerminalRoom));
  } else {
    SplitBacklog(settings.characters[VEOL], queues);
  }
  return absl::OkStatus();
}

// ---- In ----

// Writes all of it; `meanwhile` is called after each piece and while there is no room. False: it
// was not taken in time.
template <typename F>
bool WriteAll(int fd, const Bytes& bytes, const F& meanwhile) {
  const int64_t end = Now() + kPatience;
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t length =
        write(fd, bytes.data() + done, std::min<size_t>(bytes.size() - done, 1024));
    if (length < 0 && errno != EAGAIN) return false;
    if (length > 0) done += static_cast<size_t>(length);
    meanwhile();
    if (length > 0) continue;
    if (Now() > end) {
      errno = ETIMEDOUT;
      return false;
    }
    Ready(fd, POLLOUT, 1);
  }
  return true;
}

// The characters that mean something while lines are put back.
struct Special {
  uint8_t end_of_file, quote, reprint, end_of_line;
};

Special ChooseSpecial(const TerminalSettings& settings) {
  Special special = {settings.characters[VEOF], 0, 0, settings.characters[VEOL]};
  auto taken = [&special](uint8_t c) {
    return c == '\n' || c == special.end_of_file || c == special.quote || c == special.end_of_line;
  };
  auto choose = [&taken](uint8_t c) {
    while (taken(c)) ++c;
    return c;
  };
  // The program's own where it has one: should there be no room for it, it is taken later, under
  // the program's settings.
  if (special.end_of_file == 0 || special.end_of_file == '\n') special.end_of_file = choose(4);
  special.quote = choose(22);
  special.reprint = choose(18);
  return special;
}

void AppendQuoted(const Bytes& bytes, size_t count, const Special& special, Bytes* out) {
  for (size_t i = 0; i < count; ++i) {
    const uint8_t c = bytes[i];
    if (c != 0 && (c == '\n' || c == special.end_of_file || c == special.quote ||
                   c == special.reprint || c == special.end_of_line)) {
      out->push_back(special.quote);
    }
    out->push_back(c);
  }
}

// Each byte is echoed, and comes back from the master once it has gone through the line discipline.
absl::Status GiveLines(int master, int slave, const TerminalQueues& queues,
                       const TerminalSettings& settings) {
  const Special special = ChooseSpecial(settings);
  TerminalSettings quoting = NeutralSettings(settings, true);
  quoting.local |= ECHO | IEXTEN;
  quoting.characters[VEOF] = special.end_of_file;
  quoting.characters[VLNEXT] = special.quote;
  quoting.characters[VREPRINT] = special.reprint;
  quoting.characters[VEOL] = special.end_of_line;
  if (!SetSettings(slave, quoting)) return ErrnoStatus(errno, "cannot be set");
  Bytes text;
  size_t echoes = 0;
  for (const Bytes& line : queues.lines) {
    const bool ended = Ends(line, special.end_of_line);
    AppendQuoted(line, line.size() - (ended ? 1 : 0), special, &text);
    text.push_back(ended ? line.back() : special.end_of_file);
    echoes += line.size();
  }
  AppendQuoted(queues.rest, queues.rest.size(), special, &text);
  echoes += queues.rest.size();
  // VEOF has no echo; this one's is itself and LF, and it does nothing to an empty line.
  if (queues.rest.empty()) {
    text.push_back(special.reprint);
    echoes += 2;
  }
  Bytes echo;
  auto read_echo = [&] { ReadAll(master, &echo); };
  if (!WriteAll(master, text, read_echo)) return ErrnoStatus(errno, "cannot be filled");
  for (const int64_t end = Now() + kPatience; echo.size() < echoes; read_echo()) {
    if (Now() > end) return ErrnoStatus(ETIMEDOUT, "does not take what it held");
    Ready(master, POLLIN, 1);
  }
  return absl::OkStatus();
}

absl::Status GiveBytes(int master, int slave, const TerminalQueues& queues,
                       const TerminalSettings& settings) {
  if (!SetSettings(slave, NeutralSettings(settings, false))) {
    return ErrnoStatus(errno, "cannot be set");
  }
  if (!WriteAll(master, queues.rest, [] {})) return ErrnoStatus(errno, "cannot be filled");
  int waiting = 0;
  for (const int64_t end = Now() + kPatience;;) {
    if (ioctl(slave, FIONREAD, &waiting) == 0 &&
        static_cast<size_t>(waiting) >= queues.rest.size()) {
      return absl::OkStatus();
    }
    if (Now() > end) return ErrnoStatus(ETIMEDOUT, "does not take what it held");
    Ready(slave, POLLIN, 1);
  }
}

// Before the settings are the program's again, in which the output of the slave may be anything.
absl::Status GiveStopCharacter(int master, int slave, const TerminalSettings& settings) {
  TerminalSettings stopping = NeutralSettings(settings, settings.canonical());
  stopping.input |= IXON;
  stopping.characters[VSTOP] = 19;
  if (!SetSettings(slave, stopping) || !WriteAll(master, {19}, [] {})) {
    return ErrnoStatus(errno, "cannot be stopped again");
  }
  for (const int64_t end = Now() + kPatience; Ready(slave, POLLOUT);) {
    if (Now() > end) return ErrnoStatus(ETIMEDOUT, "cannot be stopped again");
    Ready(slave, POLLIN, 1);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status TakeQueues(int master, int slave, TerminalQueues* queues) {
  TerminalSettings settings;
  if (!GetSettings(slave, &settings)) return ErrnoStatus(errno, "has no settings");
  if (ReadAll(master, &queues->output) != 0) return ErrnoStatus(errno, "cannot be read");
  KM_RETURN_IF_ERROR(TakeStop(slave, settings, &queues->stop));
  KM_RETURN_IF_ERROR(TakeInput(slave, settings, queues));
  if (!Ready(master, POLLOUT)) {
    queues->master_stopped = true;
    if (ioctl(master, TCXONC, TCOON) != 0 || !Ready(master, POLLOUT)) {
      return absl::FailedPreconditionError("takes no input, and does not say why");
    }
  }
  // Echoes that waited for the output to go on.
  if (ReadAll(master, &queues->output) != 0) return ErrnoStatus(errno, "cannot be read");
  if (queues->empty() && !SetSettings(slave, settings)) return ErrnoStatus(errno, "cannot be set");
  return absl::OkStatus();
}

absl::Status GiveQueues(int master, int slave, const TerminalQueues& queues,
                        const TerminalSettings& settings) {
  if (!queues.lines.empty() || !queues.rest.empty()) {
    KM_RETURN_IF_ERROR(settings.canonical() ? GiveLines(master, slave, queues, settings)
                                            : GiveBytes(master, slave, queues, settings));
  }
  if (!queues.output.empty() &&
      (!SetSettings(slave, NeutralSettings(settings, settings.canonical())) ||
       !WriteAll(slave, queues.output, [] {}))) {
    return ErrnoStatus(errno, "cannot be filled");
  }
  if (queues.stop == OutputStop::kCharacter) {
    KM_RETURN_IF_ERROR(GiveStopCharacter(master, slave, settings));
  }
  if (!SetSettings(slave, settings)) return ErrnoStatus(errno, "cannot be set");
  if (!WriteAll(master, queues.backlog, [] {})) return ErrnoStatus(errno, "cannot be filled");
  if (queues.stop == OutputStop::kCall && ioctl(slave, TCXONC, TCOOFF) != 0) {
    return ErrnoStatus(errno, "cannot be stopped again");
  }
  if (queues.master_stopped && ioctl(master, TCXONC, TCOOFF) != 0) {
    return ErrnoStatus(errno, "cannot be stopped again");
  }
  return absl::OkStatus();
}

}  // namespace km
