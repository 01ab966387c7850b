#include "km/files/pty.h"

#include <asm/termbits.h>
#include <fcntl.h>
#include <km/notes.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "km/base/log.h"
#include "km/base/status.h"

namespace km {
namespace {

constexpr int kPeer = O_RDWR | O_NONBLOCK;
constexpr size_t kMostQueued = 1 << 20;  // bytes: far beyond what the kernel keeps

// Sets what TIOCGX tells by TIOCSX, for as long as it lives.
class IntSetting {
 public:
  IntSetting(int fd, unsigned long get, unsigned long set, int value) : fd_(fd), set_(set) {
    changed_ =
        ioctl(fd, get, &old_) == 0 && (old_ != 0) != (value != 0) && ioctl(fd, set, &value) == 0;
  }
  ~IntSetting() {
    if (changed_) ioctl(fd_, set_, &old_);
  }
  IntSetting(const IntSetting&) = delete;
  IntSetting& operator=(const IntSetting&) = delete;
  int old() const { return old_; }

 private:
  const int fd_;
  const unsigned long set_;
  int old_ = 0;
  bool changed_ = false;
};

class NonBlocking {
 public:
  explicit NonBlocking(int fd) : fd_(fd), flags_(fcntl(fd, F_GETFL)) {
    fcntl(fd_, F_SETFL, flags_ | O_NONBLOCK);
  }
  ~NonBlocking() { fcntl(fd_, F_SETFL, flags_); }
  NonBlocking(const NonBlocking&) = delete;
  NonBlocking& operator=(const NonBlocking&) = delete;

 private:
  const int fd_, flags_;
};

bool Exclusive(int fd) {
  int value = 0;
  return ioctl(fd, TIOCGEXCL, &value) == 0 && value != 0;
}

// What there is no way to save, or to have again.
absl::Status CheckSavable(int master) {
  if ((fcntl(master, F_GETFL) & O_ACCMODE) != O_RDWR) {
    return absl::FailedPreconditionError(
        "is not open for both reading and writing, so that what is in it cannot be seen");
  }
  pollfd status = {master, POLLPRI, 0};
  if (poll(&status, 1, 0) == 1 && (status.revents & POLLPRI) != 0) {
    return absl::FailedPreconditionError(
        "has something to tell in packet mode that was not read (TIOCPKT): read it before");
  }
  termios locked = {};
  const termios none = {};
  if (ioctl(master, TIOCGLCKTRMIOS, &locked) == 0 && memcmp(&locked, &none, sizeof(none)) != 0) {
    return absl::FailedPreconditionError(
        "has settings that are locked (TIOCSLCKTRMIOS): unlock them before");
  }
  return absl::OkStatus();
}

void BytesRecord(uint32_t tag, const std::vector<uint8_t>& bytes, ByteWriter* out) {
  const size_t begin = out->BeginRecord(tag);
  out->Bytes(bytes);
  out->EndRecord(begin);
}

std::vector<uint8_t> TakeBytes(ByteReader* value) {
  const absl::Span<const uint8_t> bytes = value->Bytes(value->rest().size());
  return {bytes.begin(), bytes.end()};
}

}  // namespace

int PtyNumber(int fd) {
  int number = -1;
  return ioctl(fd, TIOCGPTN, &number) == 0 ? number : -1;
}

absl::StatusOr<OwnedFd> OpenPeer(int master, int flags, int slave) {
  const IntSetting unlocked(master, TIOCGPTLCK, TIOCSPTLCK, 0);
  const bool exclusive = slave >= 0 && Exclusive(slave);
  if (exclusive) ioctl(slave, TIOCNXCL);
  OwnedFd peer(ioctl(master, TIOCGPTPEER, flags | O_NOCTTY | O_CLOEXEC));
  const int error = errno;
  if (exclusive) ioctl(slave, TIOCEXCL);
  if (!peer.valid()) return ErrnoStatus(error, "cannot be opened at its other end");
  return peer;
}

absl::StatusOr<PtyState> SavePty(int master, int slave) {
  KM_RETURN_IF_ERROR(CheckSavable(master));
  PtyState state;
  const NonBlocking guard(master);
  KM_ASSIGN_OR_RETURN(const OwnedFd peer, OpenPeer(master, kPeer, slave));
  struct stat status;
  if (fstat(peer.get(), &status) != 0) return ErrnoStatus(errno, "fstat");
  state.mode = status.st_mode & 07777;
  int locked = 0;
  if (ioctl(master, TIOCGPTLCK, &locked) == 0 && locked != 0) state.flags |= KM_TERMINAL_LOCKED;
  if (Exclusive(peer.get())) state.flags |= KM_TERMINAL_EXCLUSIVE;
  if (Exclusive(master)) state.flags |= KM_TERMINAL_MASTER_EXCLUSIVE;
  const IntSetting unpacked(master, TIOCGPKT, TIOCPKT, 0);
  if (unpacked.old() != 0) state.flags |= KM_TERMINAL_PACKET;
  if (!GetSettings(peer.get(), &state.settings) || !GetWindow(peer.get(), &state.window)) {
    return ErrnoStatus(errno, "has no settings");
  }
  const absl::Status taken = TakeQueues(master, peer.get(), &state.queues);
  absl::Status given;
  if (!taken.ok() || !state.queues.empty()) {
    given = GiveQueues(master, peer.get(), state.queues, state.settings);
  }
  if (!given.ok()) {
    Log(LogLevel::kError, absl::StrCat("what waited in a terminal is lost to the process that "
                                       "goes on: the terminal ",
                                       given.message()));
  }
  KM_RETURN_IF_ERROR(taken);
  KM_RETURN_IF_ERROR(given);
  return state;
}

absl::StatusOr<OwnedFd> RestorePty(const PtyState& state) {
  OwnedFd master(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  if (!master.valid()) return ErrnoStatus(errno, "cannot make a pseudo-terminal");
  int unlocked = 0;
  ioctl(master.get(), TIOCSPTLCK, &unlocked);
  auto failed = [](const absl::Status& status) {
    return ErrnoStatus(ErrnoOf(status), absl::StrCat("a new pseudo-terminal ", status.message()));
  };
  absl::StatusOr<OwnedFd> peer = OpenPeer(master.get(), kPeer, -1);
  if (!peer.ok()) return failed(peer.status());
  absl::Status given = GiveQueues(master.get(), peer->get(), state.queues, state.settings);
  if (!given.ok()) return failed(given);
  if (!SetWindow(peer->get(), state.window) || fchmod(peer->get(), state.mode & 07777) != 0) {
    return ErrnoStatus(errno, "cannot set up a pseudo-terminal");
  }
  int packet = (state.flags & KM_TERMINAL_PACKET) != 0 ? 1 : 0;
  ioctl(master.get(), TIOCPKT, &packet);
  return master;
}

absl::Status FinishPty(int master, const PtyState& state) {
  if ((state.flags & KM_TERMINAL_EXCLUSIVE) != 0) {
    KM_ASSIGN_OR_RETURN(const OwnedFd peer, OpenPeer(master, kPeer, -1));
    ioctl(peer.get(), TIOCEXCL);
  }
  if ((state.flags & KM_TERMINAL_MASTER_EXCLUSIVE) != 0) ioctl(master, TIOCEXCL);
  int locked = (state.flags & KM_TERMINAL_LOCKED) != 0 ? 1 : 0;
  ioctl(master, TIOCSPTLCK, &locked);
  return absl::OkStatus();
}

void WritePty(const PtyState& state, ByteWriter* out) {
  size_t begin = out->BeginRecord(KM_TERMINAL_SETTINGS);
  WriteSettings(state.settings, out);
  out->EndRecord(begin);
  begin = out->BeginRecord(KM_TERMINAL_WINDOW);
  WriteWindow(state.window, out);
  out->EndRecord(begin);
  begin = out->BeginRecord(KM_TERMINAL_STATE);
  out->U32(state.flags | (state.queues.master_stopped ? KM_TERMINAL_MASTER_STOPPED : 0));
  out->U32(static_cast<uint32_t>(state.queues.stop));
  out->U32(state.mode);
  out->U32(0);
  out->EndRecord(begin);
  for (const auto& line : state.queues.lines) BytesRecord(KM_TERMINAL_LINE, line, out);
  if (!state.queues.rest.empty()) BytesRecord(KM_TERMINAL_REST, state.queues.rest, out);
  if (!state.queues.backlog.empty()) BytesRecord(KM_TERMINAL_BACKLOG, state.queues.backlog, out);
  if (!state.queues.output.empty()) BytesRecord(KM_TERMINAL_OUTPUT, state.queues.output, out);
}

bool ReadPty(uint32_t tag, ByteReader* value, PtyState* state) {
  switch (tag) {
    case KM_TERMINAL_SETTINGS:
      state->settings = ReadSettings(value);
      return true;
    case KM_TERMINAL_WINDOW:
      state->window = ReadWindow(value);
      return true;
    case KM_TERMINAL_STATE:
      state->flags = value->U32();
      state->queues.stop = static_cast<OutputStop>(value->U32());
      state->mode = value->U32();
      state->queues.master_stopped = (state->flags & KM_TERMINAL_MASTER_STOPPED) != 0;
      return true;
    case KM_TERMINAL_LINE:
      state->queues.lines.push_back(TakeBytes(value));
      return true;
    case KM_TERMINAL_REST:
      state->queues.rest = TakeBytes(value);
      return true;
    case KM_TERMINAL_BACKLOG:
      state->queues.backlog = TakeBytes(value);
      return true;
    case KM_TERMINAL_OUTPUT:
      state->queues.output = TakeBytes(value);
      return true;
    default:
      return false;
  }
}

absl::Status CheckPty(const PtyState& state) {
  const TerminalQueues& queues = state.queues;
  if (static_cast<uint32_t>(queues.stop) > static_cast<uint32_t>(OutputStop::kCharacter)) {
    return absl::DataLossError("a terminal is stopped in an unknown way");
  }
  if (!state.settings.canonical() && !queues.lines.empty()) {
    return absl::DataLossError("a terminal that is not read by lines holds some");
  }
  size_t input = queues.rest.size();
  for (const auto& line : queues.lines) input += line.size() + 1;
  if (input > kTerminalRoom + 1 || queues.backlog.size() > kMostQueued ||
      queues.output.size() > kMostQueued) {
    return absl::DataLossError(absl::StrCat("a terminal holds ", input, ", ", queues.backlog.size(),
                                            " and ", queues.output.size(), " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace km
