#include "km/files/file_saver.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "km/base/log.h"
#include "km/base/status.h"
#include "km/files/file_locks.h"
#include "km/files/kind.h"
#include "km/files/launchers_terminal.h"
#include "km/files/signal_owner.h"
#include "km/files/terminals_elsewhere.h"

namespace km {
namespace {

constexpr uint64_t kPage = 4096, kObjectAlignment = uint64_t{2} << 20;

uint64_t RoundUp(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

// The ranges of a file that are not holes, page aligned. Moves the offset of `fd`, which is put
// back.
std::vector<std::pair<uint64_t, uint64_t>> DataOf(int fd, uint64_t size) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  const off_t offset = lseek(fd, 0, SEEK_CUR);
  off_t start = 0;
  while ((start = lseek(fd, start, SEEK_DATA)) >= 0 && static_cast<uint64_t>(start) < size) {
    off_t end = lseek(fd, start, SEEK_HOLE);
    if (end <= start) break;
    uint64_t from = static_cast<uint64_t>(start) / kPage * kPage;
    uint64_t to = RoundUp(std::min<uint64_t>(static_cast<uint64_t>(end), size), kPage);
    if (!ranges.empty() && from <= ranges.back().second) {
      ranges.back().second = to;
    } else {
      ranges.emplace_back(from, to);
    }
    start = end;
  }
  lseek(fd, offset, SEEK_SET);
  return ranges;
}

// Reads what the saved object's file holds, by a descriptor that is open for reading.
absl::Status MapObject(int fd, FileSaver::SavedObject* saved) {
  MemoryObject& object = saved->object;
  if (object.kind == KM_OBJECT_MEMFD) object.seals = static_cast<uint32_t>(fcntl(fd, F_GET_SEALS));
  if (object.size == 0) return absl::OkStatus();
  // Before 6.7 what is open for writing is not shared under F_SEAL_WRITE. Its bytes stay as they
  // are.
  const bool still = object.kind == KM_OBJECT_MEMFD && (object.seals & F_SEAL_WRITE) != 0;
  const int flags = still ? MAP_PRIVATE : MAP_SHARED;
  saved->bytes = OwnedMapping(mmap(nullptr, object.size, PROT_READ, flags, fd, 0), object.size);
  if (!saved->bytes.valid()) return ErrnoStatus(errno, "cannot be mapped");
  saved->data = DataOf(fd, object.size);
  return absl::OkStatus();
}

absl::Status MapAnew(int fd, FileSaver::SavedObject* saved) {
  const OwnedFd reading(
      open(absl::StrCat("/proc/self/fd/", fd).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!reading.valid()) return ErrnoStatus(errno, "cannot be read");
  return MapObject(reading.get(), saved);
}

int Work(void* work) {
  (*static_cast<absl::FunctionRef<void()>*>(work))();
  return 0;
}

// Calls `work` in a process that has this one's memory and a table of descriptors of its own:
// closing a descriptor of a file drops the locks (POSIX) that its table's owner has on it. This
// thread waits for it. False, with errno: it cannot be made.
bool WithOwnDescriptors(absl::FunctionRef<void()> work) {
  constexpr size_t kStack = 256 << 10;
  const OwnedMapping stack(
      mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), kStack);
  if (!stack.valid()) return false;
  // What the terminal sends to the process group is this process's to handle.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  // Ends without a signal, and is found by __WALL alone.
  const pid_t child = clone(Work, stack.data() + kStack, CLONE_VM | CLONE_VFORK, &work);
  const int error = errno;
  while (child > 0 && waitpid(child, nullptr, __WALL) < 0 && errno == EINTR) {
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return child > 0;
}

}  // namespace

void FileSaver::SaveAll(std::vector<std::string>* obstacles) {
  for (const FdTable::Entry& entry : table_.Entries()) {
    if (entry.number <= STDERR_FILENO && entry.file->description->given == entry.number) {
      given |= 1u << entry.number;
      continue;
    }
    const std::string kind = WithArticle(KindRow(entry.file->description->kind).name);
    // What a shell leaves open for its children is often of no use to the program: what it never
    // used it does not miss.
    if (entry.untouched) {
      Log(LogLevel::kInfo, absl::StrCat("descriptor ", entry.number, ", ", kind,
                                        " that was inherited and never used, is not in the "
                                        "snapshot"));
      continue;
    }
    if (absl::Status status = SaveOne(entry); !status.ok()) {
      obstacles->push_back(
          absl::StrCat("descriptor ", entry.number, ", ", kind, ", ", status.message()));
    }
  }
  terminal = SaveLaunchersTerminal(table_);
}

absl::Status FileSaver::SaveOne(const FdTable::Entry& entry) {
  KM_ASSIGN_OR_RETURN(uint32_t id, Description(entry.file));
  if (looked_at_.insert(id).second) {
    KM_RETURN_IF_ERROR(SaveLocks(*entry.file, id, &locks));
    KM_RETURN_IF_ERROR(SaveOwner(*entry.file, id, &owners));
  }
  descriptors.push_back({static_cast<uint32_t>(entry.number), id, entry.close_on_exec});
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> FileSaver::Description(const std::shared_ptr<OpenFile>& file) {
  const FileDescription& description = *file->description;
  auto [it, fresh] = ids_.try_emplace(&description, ids_.size() + 1);
  const uint32_t id = it->second;
  if (!fresh) return id;
  kept_.push_back(file);
  const FileKindRow& row = KindRow(description.given >= 0 ? FileKind::kGiven : description.kind);
  if (row.save == nullptr) {
    return absl::FailedPreconditionError(
        "is of a kind that snapshots do not carry yet: close it before");
  }
  FileRecord record;
  record.id = id;
  record.kind = row.kind;
  record.flags = static_cast<uint32_t>(fcntl(file->host.get(), F_GETFL) &
                                       ~(O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY));
  KM_RETURN_IF_ERROR(row.save(*file, *this, record));
  descriptions.push_back(std::move(record));
  return id;
}

int64_t FileSaver::Object(int host_fd, bool* first) {
  struct stat status;
  if (fstat(host_fd, &status) != 0) return -1;
  return Object(status.st_dev, status.st_ino, first);
}

uint32_t FileSaver::Object(dev_t device, ino_t inode, bool* first) {
  auto [it, fresh] = host_objects_.try_emplace({device, inode}, host_objects_.size() + 1);
  *first = fresh;
  return it->second;
}

int FileSaver::HostFd(dev_t device, ino_t inode) {
  if (open_.empty()) {
    for (const FdTable::Entry& entry : table_.Entries()) {
      struct stat status;
      const int host = entry.file->host.get();
      if (fstat(host, &status) == 0) open_[{status.st_dev, status.st_ino}] = host;
    }
  }
  auto it = open_.find({device, inode});
  return it != open_.end() ? it->second : -1;
}

bool FileSaver::TerminalElsewhere(dev_t device, ino_t inode) {
  if (!terminals_elsewhere_.has_value()) terminals_elsewhere_ = TerminalsElsewhere();
  return terminals_elsewhere_->contains({device, inode});
}

absl::StatusOr<uint64_t> FileSaver::Memory(int host_fd, uint32_t kind, const std::string& name) {
  struct stat status;
  if (fstat(host_fd, &status) != 0) return ErrnoStatus(errno, "fstat");
  auto [it, fresh] = memory_.try_emplace({status.st_dev, status.st_ino}, next_address_);
  if (!fresh) return it->second;
  const auto size = static_cast<uint64_t>(status.st_size);
  // Memory of the process alone has no limit.
  if (size > unnamed_limit_ && kind != KM_OBJECT_ANONYMOUS) {
    return absl::FailedPreconditionError(
        absl::StrCat("has no name, and its ", size, " bytes are more than the ", unnamed_limit_,
                     " that a snapshot carries of such a file (--max-unnamed=BYTES)"));
  }
  if (size > KM_OBJECT_END - next_address_) return ErrnoStatus(EFBIG, "is too large");
  SavedObject saved;
  saved.object = {next_address_, size, kind, 0, name};
  // To be mapped it must be open for reading. An O_PATH descriptor is opened once more.
  absl::Status mapped;
  const int flags = fcntl(host_fd, F_GETFL);
  if ((flags & O_PATH) == 0 && (flags & O_ACCMODE) != O_WRONLY) {
    mapped = MapObject(host_fd, &saved);
  } else if (!WithOwnDescriptors([&] { mapped = MapAnew(host_fd, &saved); })) {
    return ErrnoStatus(errno, "cannot be read");
  }
  KM_RETURN_IF_ERROR(mapped);
  objects_.push_back(std::move(saved));
  // One page between two objects at least, so that none looks like a part of another.
  next_address_ = RoundUp(next_address_ + size + kPage, kObjectAlignment);
  return objects_.back().object.address;
}

absl::StatusOr<uint64_t> FileSaver::AddMemory(MemoryObject object, OwnedMapping bytes,
                                              std::vector<std::pair<uint64_t, uint64_t>> data) {
  if (object.size > KM_OBJECT_END - next_address_) return ErrnoStatus(EFBIG, "is too large");
  object.address = next_address_;
  next_address_ = RoundUp(next_address_ + object.size + kPage, kObjectAlignment);
  objects_.push_back({std::move(object), std::move(bytes), std::move(data)});
  return objects_.back().object.address;
}

}  // namespace km
