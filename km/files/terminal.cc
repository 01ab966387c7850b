// Terminals: pseudo-terminals whose master the program holds, with what waits in them; the terminal
// of the launcher's, opened once more.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"
#include "km/files/launchers_terminal.h"
#include "km/files/pty.h"

namespace km {
namespace {

// Linux's Documentation/admin-guide/devices.txt: slaves of pseudo-terminals.
constexpr unsigned kFirstSlaveMajor = 136, kSlavesOfMajor = 256;

struct TerminalState {
  uint32_t what = 0;
  uint32_t master = 0;  // of a slave: the description of its master
  uint32_t which = 0;   // of the launcher's: KM_TERMINAL_CONTROLLING, or bit N for what N is
  PtyState pty;         // of a master
};

absl::StatusOr<TerminalState> Decode(const FileRecord& record) {
  TerminalState state;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    if (tag != KM_TERMINAL_WHAT) return ReadPty(tag, value, &state.pty);
    state.what = value->U32();
    (state.what == KM_TERMINAL_IS_LAUNCHERS ? state.which : state.master) = value->U32();
    return true;
  }));
  if (state.what < KM_TERMINAL_IS_MASTER || state.what > KM_TERMINAL_IS_LAUNCHERS) {
    return absl::DataLossError("a terminal is neither a master nor a slave");
  }
  if (state.what == KM_TERMINAL_IS_LAUNCHERS &&
      (state.which == 0 || state.which >= 2 * KM_TERMINAL_CONTROLLING)) {
    return absl::DataLossError("a terminal of the launcher's is none of those there are");
  }
  KM_RETURN_IF_ERROR(CheckPty(state.pty));
  return state;
}

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_ASSIGN_OR_RETURN(TerminalState state, Decode(record));
  if (state.what == KM_TERMINAL_IS_HUNG_UP) return std::string("hung up");
  if (state.what == KM_TERMINAL_IS_SLAVE) return absl::StrCat("slave of ", state.master);
  if (state.what == KM_TERMINAL_IS_LAUNCHERS) return std::string("that of whoever resumes");
  const TerminalQueues& queues = state.pty.queues;
  size_t input = queues.rest.size() + queues.backlog.size();
  for (const auto& line : queues.lines) input += line.size();
  const WindowSize& window = state.pty.window;
  return absl::StrCat("master, ", window.columns, "x", window.rows, ", ",
                      state.pty.settings.canonical() ? "by lines, " : "by bytes, ", input,
                      " bytes for the slave, ", queues.output.size(), " for the master");
}

void WriteWhat(uint32_t what, uint32_t which, ByteWriter* out) {
  const size_t begin = out->BeginRecord(KM_TERMINAL_WHAT);
  out->U32(what);
  out->U32(which);
  out->EndRecord(begin);
}

bool HungUp(int fd) {
  pollfd status = {fd, 0, 0};
  return poll(&status, 1, 0) == 1 && (status.revents & POLLHUP) != 0;
}

// The program's descriptors of the slave with that number; of one of several devpts file systems.
std::vector<std::shared_ptr<OpenFile>> SlavesOf(unsigned number, FdTable& table) {
  std::vector<std::shared_ptr<OpenFile>> slaves;
  const dev_t device = makedev(kFirstSlaveMajor + number / kSlavesOfMajor, number % kSlavesOfMajor);
  for (const FdTable::Entry& entry : table.Entries()) {
    struct stat status;
    if (entry.file->description->kind == FileKind::kTerminal &&
        fstat(entry.file->host.get(), &status) == 0 && status.st_rdev == device &&
        PtyNumber(entry.file->host.get()) < 0) {
      slaves.push_back(entry.file);
    }
  }
  return slaves;
}

// While it lives, no signal is made by what comes to the terminal.
class NoAsync {
 public:
  void Add(int fd) {
    const int flags = fcntl(fd, F_GETFL);
    if ((flags & O_ASYNC) == 0) return;
    fcntl(fd, F_SETFL, flags & ~O_ASYNC);
    fds_.push_back(fd);
  }
  NoAsync() = default;
  ~NoAsync() {
    for (int fd : fds_) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC);
  }
  NoAsync(const NoAsync&) = delete;
  NoAsync& operator=(const NoAsync&) = delete;

 private:
  std::vector<int> fds_;
};

absl::Status SaveMaster(const OpenFile& file, FileSaver& saver, FileRecord& record) {
  const int host = file.host.get();
  if (file.description->foreign) {
    return absl::FailedPreconditionError(
        "is shared with another process, which is not in the snapshot: close it before");
  }
  const auto slaves = SlavesOf(static_cast<unsigned>(PtyNumber(host)), saver.table());
  pid_t session = 0;
  if (ioctl(host, TIOCGSID, &session) == 0) {
    return absl::FailedPreconditionError(
        "is the other end of the controlling terminal of a session, which cannot be made again: "
        "give it up (TIOCNOTTY) or close it before");
  }
  if (slaves.empty() && !HungUp(host)) {
    return absl::FailedPreconditionError(
        "has no other end in this process: open that, or close this, before");
  }
  struct stat status;
  if (!slaves.empty() && fstat(slaves.front()->host.get(), &status) == 0 &&
      saver.TerminalElsewhere(status.st_dev, status.st_ino)) {
    return absl::FailedPreconditionError(
        "has its other end open in another process too, which is not in the snapshot");
  }
  NoAsync quiet;
  quiet.Add(host);
  for (const auto& slave : slaves) quiet.Add(slave->host.get());
  const int slave = slaves.empty() ? -1 : slaves.front()->host.get();
  KM_ASSIGN_OR_RETURN(const PtyState state, SavePty(host, slave));
  ByteWriter out;
  WriteWhat(KM_TERMINAL_IS_MASTER, 0, &out);
  WritePty(state, &out);
  record.state = out.Take();
  return absl::OkStatus();
}

// The program's master of the slave that `file` is open on; null: it has none.
std::shared_ptr<OpenFile> MasterOf(const OpenFile& file, FdTable& table) {
  struct stat slave, peer_status;
  if (fstat(file.host.get(), &slave) != 0 || major(slave.st_rdev) < kFirstSlaveMajor) {
    return nullptr;
  }
  const unsigned number =
      (major(slave.st_rdev) - kFirstSlaveMajor) * kSlavesOfMajor + minor(slave.st_rdev);
  for (const FdTable::Entry& entry : table.Entries()) {
    if (entry.file->description->kind != FileKind::kTerminal ||
        PtyNumber(entry.file->host.get()) != static_cast<int>(number)) {
      continue;
    }
    // Numbers are unique in one devpts file system only.
    absl::StatusOr<OwnedFd> peer =
        OpenPeer(entry.file->host.get(), O_RDWR | O_NONBLOCK, file.host.get());
    if (peer.ok() && fstat(peer->get(), &peer_status) == 0 && peer_status.st_dev == slave.st_dev &&
        peer_status.st_ino == slave.st_ino) {
      return entry.file;
    }
  }
  return nullptr;
}

absl::Status Save(const OpenFile& file, FileSaver& saver, FileRecord& record) {
  const int host = file.host.get();
  if (PtyNumber(host) >= 0) return SaveMaster(file, saver, record);
  ByteWriter out;
  if (HungUp(host)) {
    WriteWhat(KM_TERMINAL_IS_HUNG_UP, 0, &out);
  } else {
    const std::shared_ptr<OpenFile> master = MasterOf(file, saver.table());
    const uint32_t which = WhichLaunchersTerminal(host, saver.table());
    if (master != nullptr) {
      KM_ASSIGN_OR_RETURN(const uint32_t id, saver.Description(master));
      WriteWhat(KM_TERMINAL_IS_SLAVE, id, &out);
    } else if (which != 0) {
      record.path = HostPathOf(host);  // the others get new names
      WriteWhat(KM_TERMINAL_IS_LAUNCHERS, which, &out);
    } else {
      return absl::FailedPreconditionError(
          "has its other end in another process, which is not in the snapshot: close it before");
    }
  }
  record.state = out.Take();
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Peer(int master, const FileRecord& record) {
  absl::StatusOr<OwnedFd> peer =
      OpenPeer(master, static_cast<int>(record.flags & (O_ACCMODE | O_NONBLOCK)), -1);
  if (!peer.ok()) {
    return ErrnoStatus(ErrnoOf(peer.status()),
                       absl::StrCat("a pseudo-terminal ", peer.status().message()));
  }
  return peer;
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer& restorer) {
  KM_ASSIGN_OR_RETURN(TerminalState state, Decode(record));
  OwnedFd host;
  if (state.what == KM_TERMINAL_IS_MASTER) {
    KM_ASSIGN_OR_RETURN(host, RestorePty(state.pty));
  } else if (state.what == KM_TERMINAL_IS_SLAVE) {
    KM_ASSIGN_OR_RETURN(const std::shared_ptr<OpenFile> master, restorer.Description(state.master));
    KM_ASSIGN_OR_RETURN(host, Peer(master->host.get(), record));
  } else if (state.what == KM_TERMINAL_IS_LAUNCHERS) {
    KM_ASSIGN_OR_RETURN(host, OpenLaunchersTerminal(record, state.which, restorer));
  } else {
    KM_ASSIGN_OR_RETURN(const OwnedFd master, RestorePty(state.pty));
    KM_ASSIGN_OR_RETURN(host, Peer(master.get(), record));
  }
  const auto flags = static_cast<int>(record.flags & (O_NONBLOCK | O_APPEND | O_NOATIME));
  if (fcntl(host.get(), F_SETFL, flags) != 0) return ErrnoStatus(errno, "fcntl(F_SETFL)");
  return host;
}

absl::Status Finish(const FileRecord& record, const OpenFile& file, FileRestorer& /*restorer*/) {
  KM_ASSIGN_OR_RETURN(TerminalState state, Decode(record));
  return state.what == KM_TERMINAL_IS_MASTER ? FinishPty(file.host.get(), state.pty)
                                             : absl::OkStatus();
}

}  // namespace

const FileKindRow kTerminalKind = {
    FileKind::kTerminal, "terminal", Describe, Save, Restore, Finish};

}  // namespace km
