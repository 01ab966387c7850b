// The program's descriptors. Their numbers are the program's own; behind each stands a descriptor
// of the host's that the program cannot name.
#ifndef KM_FILES_FD_TABLE_H_
#define KM_FILES_FD_TABLE_H_

#include <km/notes.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "km/base/owned.h"
#include "km/files/held_events.h"
#include "km/files/mapped_file.h"
#include "km/files/signal_fd.h"
#include "km/files/terminal_settings.h"
#include "km/files/watched_paths.h"

namespace km {

// The numbers are those of snapshot files.
enum class FileKind : uint32_t {
  kOther = KM_FILE_OTHER,
  kRegular = KM_FILE_REGULAR,
  kDirectory = KM_FILE_DIRECTORY,
  kPipe = KM_FILE_PIPE,
  kSocket = KM_FILE_SOCKET,
  kTerminal = KM_FILE_TERMINAL,
  kCharacterDevice = KM_FILE_CHARACTER_DEVICE,
  kBlockDevice = KM_FILE_BLOCK_DEVICE,
  kEventFd = KM_FILE_EVENTFD,
  kEpoll = KM_FILE_EPOLL,
  kTimerFd = KM_FILE_TIMERFD,
  kSignalFd = KM_FILE_SIGNALFD,
  kInotify = KM_FILE_INOTIFY,
  kMemFd = KM_FILE_MEMFD,
  kPath = KM_FILE_PATH,  // O_PATH
  // Of the program's own directory in /proc, made by the monitor: the host's descriptor stands in.
  kProc = KM_FILE_PROC,
  kGiven = KM_FILE_GIVEN,  // in snapshots only: see FileDescription::given
  kMessageQueue = KM_FILE_MESSAGE_QUEUE,
  kPidFd = KM_FILE_PIDFD,
};

// What fstat(2) and the host's name for it tell of a descriptor.
FileKind KindOfHostFd(int host_fd);

// The name of a UNIX socket that was bound through a path of the program's own /proc: the host
// knows it by another path, which is good for as long as `directory` is open.
struct BoundName {
  std::string path, host_path;
  OwnedFd directory;
};

// What mq_notify(2) was asked for.
struct QueueNotice {
  uint64_t number = 0;  // later ones have greater ones
  int notify = 0;       // SIGEV_*
  int signal = 0;       // with SIGEV_SIGNAL
  uint64_t value = 0;   // of the sigevent
};

// What getsockname(2) and getpeername(2) say of a socket: struct sockaddr_*; empty: without a name.
struct SocketNames {
  std::vector<uint8_t> own, peer;
};

// Of a file that the monitor makes in the program's own directory in /proc: what it reads as, made
// when its beginning was read last. The lock also keeps the file's position, which the host has.
struct ProcText {
  absl::Mutex mutex;
  std::optional<std::string> text ABSL_GUARDED_BY(mutex);
};
class SocketUnshown;  // km/files/socket_unshown.h

// An open file description, shared by descriptors that dup(2) made of each other.
class FileDescription {
 public:
  // What a mapping of it refers to: one for all of them. Null when there is no descriptor left.
  std::shared_ptr<const MappedFile> Mapped(int host_fd) ABSL_LOCKS_EXCLUDED(mutex_);
  // Null for all but a few sockets.
  std::shared_ptr<const BoundName> bound_name() const ABSL_LOCKS_EXCLUDED(mutex_);
  void SetBoundName(std::shared_ptr<const BoundName> name) ABSL_LOCKS_EXCLUDED(mutex_);

  // Of a POSIX message queue: the last request for a notice that was made through it; a number of
  // zero is none. It may have been served since.
  QueueNotice notice() const ABSL_LOCKS_EXCLUDED(mutex_);
  void SetNotice(QueueNotice notice) ABSL_LOCKS_EXCLUDED(mutex_);

  ProcText& proc_text() { return proc_text_; }
  // Of a socket: what the program told it that the host does not show. Null: nothing yet.
  std::shared_ptr<SocketUnshown> unshown() const ABSL_LOCKS_EXCLUDED(mutex_);
  // The same, made when there is none.
  std::shared_ptr<SocketUnshown> MakeUnshown() ABSL_LOCKS_EXCLUDED(mutex_);

  FileKind kind = FileKind::kOther;
  std::string path;  // absolute, as the host sees it; empty where it has none
  // Which of the monitor's own 0, 1 and 2 this is, or -1: whoever resumes the process has its own.
  int given = -1;
  // It came from another process, which may hold other ends or other descriptors of it.
  bool foreign = false;
  // The program's thread that gets the signals of this file (F_SETOWN_EX with F_OWNER_TID), and
  // then the signal's number (F_SETSIG). 0: the host knows the owner; SIGIO without a siginfo.
  std::atomic<uint32_t> owner_thread = 0;
  std::atomic<int> owner_signal = 0;
  std::atomic<uint32_t> notify = 0;  // what F_NOTIFY was last asked for
  // A lock or lease was asked for through it, by the program; `foreign`: perhaps by others.
  std::atomic<bool> may_hold_locks = false;
  std::atomic<bool> bound = false;  // a socket that the program gave its name: bind(2)
  // Of a socket: its options that may not be as a new one's, see SocketOptionBit. All, where nobody
  // knows what was set.
  std::atomic<uint64_t> socket_options = ~uint64_t{0};
  WatchedPaths watched;                 // of an inotify instance
  HeldEvents held_events;               // of one too: what comes before the host's
  std::shared_ptr<SignalFd> signal_fd;  // what a signalfd takes; set before it is installed
  bool semaphore = false;               // an eventfd with EFD_SEMAPHORE
  // A deleted file that a resume made anew: the host knows it by another name.
  bool made_anew = false;
  // Of a connected UNIX socket that a resume made anew; null: the host knows. Set before it is
  // installed.
  std::shared_ptr<const SocketNames> socket_names;

 private:
  mutable absl::Mutex mutex_;
  std::weak_ptr<const MappedFile> mapped_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const BoundName> bound_name_ ABSL_GUARDED_BY(mutex_);
  QueueNotice notice_ ABSL_GUARDED_BY(mutex_);
  ProcText proc_text_;
  std::shared_ptr<SocketUnshown> unshown_ ABSL_GUARDED_BY(mutex_);
};

// One descriptor of the program's: a host descriptor of its own, as natively, so that locks, epoll
// and close behave alike. Kept alive by a call that uses it while another thread closes it.
struct OpenFile {
  OpenFile(OwnedFd host_fd, std::shared_ptr<FileDescription> open_description)
      : host(std::move(host_fd)), description(std::move(open_description)) {}
  // A host descriptor just made, with a description of its own.
  static std::shared_ptr<OpenFile> Of(int host_fd, FileKind kind, std::string path);
  // Host descriptors 0 to 2 are not freed but turned into /dev/null: the monitor writes its
  // messages to 2, which must never be another file.
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  OwnedFd host;
  const std::shared_ptr<FileDescription> description;
};

// Thread-safe. Results are a descriptor, 0, or a negative errno.
class FdTable {
 public:
  struct Entry {
    int number = 0;
    std::shared_ptr<OpenFile> file;
    bool close_on_exec = false;
    bool untouched = false;  // inherited, and never used since
  };

  explicit FdTable(uint64_t limit) : limit_(limit) {}

  // Takes the numbers 0, 1 and 2 where the monitor was started without them, so that no file of its
  // own gets one. Before anything else is opened.
  static void ReserveStandard();
  // Makes room for so many host descriptors, as far as the host's limit goes. While there is one
  // thread: with more of them the kernel lets all processors pass by each time that it doubles the
  // table (expand_fdtable), 10 ms and more; with room already made it never does.
  static void MakeRoom(uint64_t descriptors);
  static constexpr uint64_t kRoom = 4096;  // that every monitor begins with
  // Gives the program the monitor's own 0, 1 and 2, but for those that ReserveStandard took.
  // Bit N of `which`: descriptor N.
  void AdoptStandard(uint32_t which = 7) ABSL_LOCKS_EXCLUDED(mutex_);
  // How the terminal that the monitor was started at was set then, if there is one.
  std::optional<TerminalSettings> launched_with() const ABSL_LOCKS_EXCLUDED(mutex_);
  void SetLaunchedWith(const TerminalSettings& settings) ABSL_LOCKS_EXCLUDED(mutex_);
  // Gives the program, at their numbers, all others that an exec of the monitor would hand on: the
  // monitor's own have FD_CLOEXEC. They keep their host descriptors: closing one would drop POSIX
  // locks.
  void AdoptInherited() ABSL_LOCKS_EXCLUDED(mutex_);

  // Null when `fd` is not open.
  std::shared_ptr<OpenFile> Get(uint64_t fd) ABSL_LOCKS_EXCLUDED(mutex_);
  // At the lowest free number from `lowest` on; -EMFILE.
  int Install(std::shared_ptr<OpenFile> file, bool close_on_exec, uint64_t lowest = 0)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes the lowest free number from `lowest` on for a descriptor to come, or says -EMFILE
  // (-EINVAL: `lowest` is beyond the limit). Until it is filled nothing is open there: see
  // ReservedFd.
  int Reserve(uint64_t lowest = 0) ABSL_LOCKS_EXCLUDED(mutex_);
  void Fill(int reserved, std::shared_ptr<OpenFile> file, bool close_on_exec)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Release(int reserved) ABSL_LOCKS_EXCLUDED(mutex_);
  // At `fd`; what was there is closed. -EBUSY when it is reserved.
  int InstallAt(uint64_t fd, std::shared_ptr<OpenFile> file, bool close_on_exec)
      ABSL_LOCKS_EXCLUDED(mutex_);
  int Close(uint64_t fd) ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes the entry out without closing; null when not open.
  std::shared_ptr<OpenFile> Take(uint64_t fd) ABSL_LOCKS_EXCLUDED(mutex_);
  int CloseOnExec(uint64_t fd) const ABSL_LOCKS_EXCLUDED(mutex_);  // 0, 1 or -EBADF
  int SetCloseOnExec(uint64_t fd, bool close_on_exec) ABSL_LOCKS_EXCLUDED(mutex_);

  uint64_t limit() const ABSL_LOCKS_EXCLUDED(mutex_);
  void SetLimit(uint64_t limit) ABSL_LOCKS_EXCLUDED(mutex_);

  // The one with that host descriptor.
  std::optional<Entry> FindHost(int host_fd) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Of a descriptor that came in a message: the description of another one of the program's, if
  // both are one to the host, or a new one.
  std::shared_ptr<FileDescription> DescriptionOf(int host_fd) const ABSL_LOCKS_EXCLUDED(mutex_);

  // How many numbers Linux's table would have room for: it grows by powers of two, and never
  // shrinks.
  uint64_t capacity() const ABSL_LOCKS_EXCLUDED(mutex_);

  // How many connections accept(2) has brought so far.
  uint64_t accepted() const { return accepted_.load(std::memory_order_relaxed); }
  void CountAccepted() { accepted_.fetch_add(1, std::memory_order_relaxed); }

  // All open descriptors, ascending.
  std::vector<Entry> Entries() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Wraps a host descriptor just made, of known or to be found kind, and installs it.
  int Add(int host_fd, FileKind kind, std::string path, bool close_on_exec)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Slot {
    std::shared_ptr<OpenFile> file;
    bool close_on_exec = false;
    bool untouched = false;
    bool reserved = false;

    bool taken() const { return file != nullptr || reserved; }
  };
  void Adopt(int host_fd, int given) ABSL_LOCKS_EXCLUDED(mutex_);

  std::atomic<uint64_t> accepted_ = 0;
  mutable absl::Mutex mutex_;
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mutex_);
  uint64_t lowest_free_ ABSL_GUARDED_BY(mutex_) = 0;  // no slot below it is free
  uint64_t limit_ ABSL_GUARDED_BY(mutex_);
  std::optional<TerminalSettings> launched_with_ ABSL_GUARDED_BY(mutex_);
};

// A number that is taken before its file is made, as Linux does: that there is none left is told
// before anything was opened, emptied or waited for. Let go of again unless it is filled.
class ReservedFd {
 public:
  explicit ReservedFd(FdTable& table, uint64_t lowest = 0)
      : table_(table), number_(table.Reserve(lowest)) {}
  ~ReservedFd() {
    if (number_ >= 0 && !filled_) table_.Release(number_);
  }
  ReservedFd(const ReservedFd&) = delete;
  ReservedFd& operator=(const ReservedFd&) = delete;

  // 0, or why there is none: then it is not to be filled.
  int error() const { return std::min(number_, 0); }
  // Once. The number.
  int Fill(std::shared_ptr<OpenFile> file, bool close_on_exec) {
    filled_ = true;
    table_.Fill(number_, std::move(file), close_on_exec);
    return number_;
  }

 private:
  FdTable& table_;
  const int number_;
  bool filled_ = false;
};

}  // namespace km

#endif  // KM_FILES_FD_TABLE_H_
