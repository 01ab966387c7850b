#include "km/files/fd_table.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "km/files/host_path.h"
#include "km/files/launchers_terminal.h"
#include "km/files/socket_unshown.h"

namespace km {
namespace {

FileKind AnonymousKind(const std::string& name) {
  struct Known {
    const char* name;
    FileKind kind;
  };
  constexpr Known kKnown[] = {
      {"anon_inode:[eventfd]", FileKind::kEventFd}, {"anon_inode:[eventpoll]", FileKind::kEpoll},
      {"anon_inode:[timerfd]", FileKind::kTimerFd}, {"anon_inode:[signalfd]", FileKind::kSignalFd},
      {"anon_inode:inotify", FileKind::kInotify},   {"anon_inode:[pidfd]", FileKind::kPidFd},
  };
  for (const Known& known : kKnown) {
    if (name == known.name) return known.kind;
  }
  return FileKind::kOther;
}

bool SameDescription(int one, int other) {
  pid_t self = getpid();
  return syscall(SYS_kcmp, self, self, KCMP_FILE, one, other) == 0;
}

}  // namespace

FileKind KindOfHostFd(int host_fd) {
  struct stat status;
  if (fstat(host_fd, &status) != 0) return FileKind::kOther;
  if (fcntl(host_fd, F_GETFL) & O_PATH) return FileKind::kPath;
  switch (status.st_mode & S_IFMT) {
    case S_IFREG:
      return absl::StartsWith(HostPathOf(host_fd), "/memfd:") ? FileKind::kMemFd
                                                              : FileKind::kRegular;
    case S_IFDIR:
      return FileKind::kDirectory;
    case S_IFIFO:
      return FileKind::kPipe;
    case S_IFSOCK:
      return FileKind::kSocket;
    case S_IFBLK:
      return FileKind::kBlockDevice;
    case S_IFCHR:
      return isatty(host_fd) ? FileKind::kTerminal : FileKind::kCharacterDevice;
    default:
      return AnonymousKind(HostPathOf(host_fd));
  }
}

std::shared_ptr<const MappedFile> FileDescription::Mapped(int host_fd) {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<const MappedFile> mapped = mapped_.lock();
  if (mapped == nullptr) mapped_ = mapped = MappedFile::Of(host_fd);
  return mapped;
}

std::shared_ptr<const BoundName> FileDescription::bound_name() const {
  absl::MutexLock lock(&mutex_);
  return bound_name_;
}

void FileDescription::SetBoundName(std::shared_ptr<const BoundName> name) {
  absl::MutexLock lock(&mutex_);
  bound_name_ = std::move(name);
}

QueueNotice FileDescription::notice() const {
  absl::MutexLock lock(&mutex_);
  return notice_;
}

void FileDescription::SetNotice(QueueNotice notice) {
  absl::MutexLock lock(&mutex_);
  notice_ = notice;
}

std::shared_ptr<SocketUnshown> FileDescription::unshown() const {
  absl::MutexLock lock(&mutex_);
  return unshown_;
}

std::shared_ptr<SocketUnshown> FileDescription::MakeUnshown() {
  absl::MutexLock lock(&mutex_);
  if (unshown_ == nullptr) unshown_ = std::make_shared<SocketUnshown>();
  return unshown_;
}

std::shared_ptr<OpenFile> OpenFile::Of(int host_fd, FileKind kind, std::string path) {
  auto description = std::make_shared<FileDescription>();
  description->kind = kind;
  description->path = std::move(path);
  return std::make_shared<OpenFile>(OwnedFd(host_fd), std::move(description));
}

OpenFile::~OpenFile() {
  if (host.get() < 0 || host.get() > STDERR_FILENO) return;
  int number = host.Release();
  OwnedFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null.valid()) dup3(null.get(), number, O_CLOEXEC);
}

void FdTable::ReserveStandard() {
  for (int fd = 0; fd <= STDERR_FILENO; ++fd) {
    // The lowest free number is this one. The flag marks it: what an exec hands on does not have
    // it.
    if (fcntl(fd, F_GETFD) < 0) OwnedFd(open("/dev/null", O_RDWR | O_CLOEXEC)).Release();
  }
}

void FdTable::MakeRoom(uint64_t descriptors) {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlimit most = {limit.rlim_max, limit.rlim_max};
  const uint64_t count = std::min<uint64_t>(descriptors, most.rlim_cur);
  const bool raise = count > limit.rlim_cur;
  const OwnedFd any(eventfd(0, EFD_CLOEXEC));
  if (count == 0 || (raise && setrlimit(RLIMIT_NOFILE, &most) != 0)) return;
  const OwnedFd last(fcntl(any.get(), F_DUPFD_CLOEXEC, static_cast<int>(count - 1)));
  if (raise) setrlimit(RLIMIT_NOFILE, &limit);
}

void FdTable::Adopt(int host_fd, int given) {
  auto description = std::make_shared<FileDescription>();
  description->kind = KindOfHostFd(host_fd);
  description->path = HostPathOf(host_fd);
  description->given = given;
  description->foreign = true;
  auto number = static_cast<size_t>(host_fd);
  auto file = std::make_shared<OpenFile>(OwnedFd(host_fd), std::move(description));
  // Above the limit too: one that is lowered closes nothing.
  absl::MutexLock lock(&mutex_);
  if (number >= slots_.size()) slots_.resize(number + 1);
  slots_[number].file.swap(file);
  slots_[number].close_on_exec = slots_[number].untouched = false;
}

void FdTable::AdoptStandard(uint32_t which) {
  for (int fd = 0; fd <= STDERR_FILENO; ++fd) {
    if ((which >> fd & 1) != 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0) Adopt(fd, fd);
  }
  std::optional<TerminalSettings> settings = LaunchersSettings(which);
  absl::MutexLock lock(&mutex_);
  launched_with_ = settings;
}

void FdTable::AdoptInherited() {
  OwnedFd directory(open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  alignas(dirent64) char entries[2048];
  ssize_t length = 0;
  while ((length = getdents64(directory.get(), entries, sizeof(entries))) > 0) {
    for (ssize_t at = 0; at < length;) {
      auto* entry = reinterpret_cast<const dirent64*>(entries + at);
      at += entry->d_reclen;
      int fd = 0;
      if (!absl::SimpleAtoi(entry->d_name, &fd) || fd <= STDERR_FILENO) continue;
      if ((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0) continue;
      fcntl(fd, F_SETFD, FD_CLOEXEC);
      Adopt(fd, -1);
      absl::MutexLock lock(&mutex_);
      if (static_cast<size_t>(fd) < slots_.size()) {
        slots_[static_cast<size_t>(fd)].untouched = true;
      }
    }
  }
}

std::shared_ptr<OpenFile> FdTable::Get(uint64_t fd) {
  absl::MutexLock lock(&mutex_);
  if (fd >= slots_.size()) return nullptr;
  slots_[fd].untouched = false;
  return slots_[fd].file;
}

int FdTable::Reserve(uint64_t lowest) {
  absl::MutexLock lock(&mutex_);
  uint64_t fd = std::max(lowest, lowest_free_);
  while (fd < slots_.size() && slots_[fd].taken()) ++fd;
  if (lowest <= lowest_free_) lowest_free_ = fd;
  if (fd >= limit_) return lowest != 0 && lowest >= limit_ ? -EINVAL : -EMFILE;
  if (fd >= slots_.size()) slots_.resize(fd + 1);
  slots_[fd].reserved = true;
  return static_cast<int>(fd);
}

void FdTable::Fill(int reserved, std::shared_ptr<OpenFile> file, bool close_on_exec) {
  absl::MutexLock lock(&mutex_);
  Slot& slot = slots_[static_cast<size_t>(reserved)];
  slot.file = std::move(file);
  slot.close_on_exec = close_on_exec;
  slot.untouched = slot.reserved = false;
}

void FdTable::Release(int reserved) {
  absl::MutexLock lock(&mutex_);
  auto fd = static_cast<uint64_t>(reserved);
  slots_[fd].reserved = false;
  lowest_free_ = std::min(lowest_free_, fd);
}

int FdTable::Install(std::shared_ptr<OpenFile> file, bool close_on_exec, uint64_t lowest) {
  ReservedFd reserved(*this, lowest);
  return reserved.error() != 0 ? reserved.error() : reserved.Fill(std::move(file), close_on_exec);
}

int FdTable::InstallAt(uint64_t fd, std::shared_ptr<OpenFile> file, bool close_on_exec) {
  std::shared_ptr<OpenFile> closed;  // closed after the lock is let go
  absl::MutexLock lock(&mutex_);
  if (fd >= limit_) return -EBADF;
  if (fd >= slots_.size()) slots_.resize(fd + 1);
  if (slots_[fd].reserved) return -EBUSY;
  closed = std::exchange(slots_[fd].file, std::move(file));
  slots_[fd].close_on_exec = close_on_exec;
  slots_[fd].untouched = false;
  return static_cast<int>(fd);
}

std::shared_ptr<OpenFile> FdTable::Take(uint64_t fd) {
  absl::MutexLock lock(&mutex_);
  if (fd >= slots_.size() || slots_[fd].file == nullptr) return nullptr;
  lowest_free_ = std::min(lowest_free_, fd);
  return std::exchange(slots_[fd].file, nullptr);
}

int FdTable::Close(uint64_t fd) { return Take(fd) != nullptr ? 0 : -EBADF; }

int FdTable::CloseOnExec(uint64_t fd) const {
  absl::MutexLock lock(&mutex_);
  if (fd >= slots_.size() || slots_[fd].file == nullptr) return -EBADF;
  return slots_[fd].close_on_exec ? 1 : 0;
}

int FdTable::SetCloseOnExec(uint64_t fd, bool close_on_exec) {
  absl::MutexLock lock(&mutex_);
  if (fd >= slots_.size() || slots_[fd].file == nullptr) return -EBADF;
  slots_[fd].close_on_exec = close_on_exec;
  return 0;
}

std::optional<TerminalSettings> FdTable::launched_with() const {
  absl::MutexLock lock(&mutex_);
  return launched_with_;
}

void FdTable::SetLaunchedWith(const TerminalSettings& settings) {
  absl::MutexLock lock(&mutex_);
  launched_with_ = settings;
}

uint64_t FdTable::limit() const {
  absl::MutexLock lock(&mutex_);
  return limit_;
}

void FdTable::SetLimit(uint64_t limit) {
  absl::MutexLock lock(&mutex_);
  limit_ = limit;
}

std::optional<FdTable::Entry> FdTable::FindHost(int host_fd) const {
  std::vector<Entry> entries = Entries();
  auto it = std::find_if(entries.begin(), entries.end(),
                         [host_fd](const Entry& e) { return e.file->host.get() == host_fd; });
  return it != entries.end() ? std::optional<Entry>(*it) : std::nullopt;
}

std::shared_ptr<FileDescription> FdTable::DescriptionOf(int host_fd) const {
  FileKind kind = KindOfHostFd(host_fd);
  struct stat status = {}, other;
  fstat(host_fd, &status);
  auto description = std::make_shared<FileDescription>();
  description->kind = kind;
  description->path = HostPathOf(host_fd);
  description->foreign = true;
  description->may_hold_locks = true;  // it may have been the program's own before it was in flight
  for (const Entry& entry : Entries()) {
    const FileDescription& open = *entry.file->description;
    // A file that the program sees of itself in /proc is a memfd to the host.
    if (open.kind != kind && kind != FileKind::kMemFd) continue;
    const int host = entry.file->host.get();
    if (fstat(host, &other) != 0 || other.st_ino != status.st_ino ||
        other.st_dev != status.st_dev) {
      continue;
    }
    if (SameDescription(host, host_fd)) return entry.file->description;
    description->foreign = open.foreign;  // another end, or another opening, of a file it has
  }
  return description;
}

uint64_t FdTable::capacity() const {
  constexpr uint64_t kFirst = 64;  // NR_OPEN_DEFAULT
  absl::MutexLock lock(&mutex_);
  return std::bit_ceil(std::max<uint64_t>(slots_.size(), kFirst));
}

std::vector<FdTable::Entry> FdTable::Entries() const {
  absl::MutexLock lock(&mutex_);
  std::vector<Entry> entries;
  for (size_t fd = 0; fd < slots_.size(); ++fd) {
    if (slots_[fd].file == nullptr) continue;
    const Slot& slot = slots_[fd];
    entries.push_back({static_cast<int>(fd), slot.file, slot.close_on_exec, slot.untouched});
  }
  return entries;
}

int FdTable::Add(int host_fd, FileKind kind, std::string path, bool close_on_exec) {
  return Install(OpenFile::Of(host_fd, kind, std::move(path)), close_on_exec);
}

}  // namespace km
