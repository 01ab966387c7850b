#include "km/files/named_file.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/mapped_file.h"

namespace km {
namespace {

// What open(2) takes of the flags that F_GETFL shows; the others are set or mean nothing later.
constexpr uint32_t kKeptFlags =
    O_ACCMODE | O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME | O_DSYNC | O_SYNC;

struct Identity {
  uint64_t device = 0, inode = 0, size = 0;
  int64_t seconds = 0, nanoseconds = 0;  // of its last modification
};

Identity ReadFields(ByteReader* value) {
  Identity identity;
  identity.device = value->U64();
  identity.inode = value->U64();
  identity.size = value->U64();
  identity.seconds = value->I64();
  identity.nanoseconds = value->I64();
  return identity;
}

// What is different about the file now, or nothing. A file that is written to grows; one that is
// only read should be what it was.
std::string Difference(const Identity& was, const struct stat& now, bool reads_only) {
  if (was.device != now.st_dev || was.inode != now.st_ino) return "it is another file";
  if (!reads_only || !S_ISREG(now.st_mode)) return "";
  if (was.size != static_cast<uint64_t>(now.st_size)) {
    return absl::StrCat("it had ", was.size, " bytes and has ", now.st_size);
  }
  if (was.seconds != now.st_mtim.tv_sec || was.nanoseconds != now.st_mtim.tv_nsec) {
    return "it was changed since";
  }
  return "";
}

absl::Status CheckIdentity(const FileRecord& record, const struct stat& now,
                           FileRestorer& restorer) {
  if (restorer.policy() == FilePolicy::kIgnore) return absl::OkStatus();
  std::string difference;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    if (tag != KM_NAMED_IDENTITY) return true;
    difference = Difference(ReadFields(value), now, (record.flags & O_ACCMODE) == O_RDONLY);
    return true;
  }));
  if (difference.empty()) return absl::OkStatus();
  const std::string text =
      absl::StrCat("'", record.path, "', which it had open, is not what it was: ", difference);
  if (restorer.policy() == FilePolicy::kWarn) {
    restorer.Warn(text);
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(text, " (--files=warn resumes all the same)"));
}

}  // namespace

std::string PathNow(const OpenFile& file) {
  std::string path = HostPathOf(file.host.get());
  const bool anew = file.description->made_anew && absl::EndsWith(path, " (deleted)");
  return anew ? file.description->path : path;
}

bool HasName(int host_fd, const std::string& path) {
  struct stat by_descriptor, by_path;
  if (fstat(host_fd, &by_descriptor) != 0) return false;
  if (stat(path.c_str(), &by_path) == 0) {
    return by_descriptor.st_ino == by_path.st_ino && by_descriptor.st_dev == by_path.st_dev;
  }
  // A process that gave up its rights may not look there any more. Behind the name of a file that
  // was deleted the kernel says so.
  return errno == EACCES && by_descriptor.st_nlink > 0 && HostPathOf(host_fd) == path;
}

absl::Status CheckOutsideProc(int host_fd) {
  if (!InProc(host_fd)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "is in /proc, where it tells of the moment: close it before");
}

void SaveIdentity(int host_fd, FileRecord& record) {
  struct stat status;
  if (fstat(host_fd, &status) != 0) return;
  ByteWriter out;
  out.Bytes(record.state);
  const size_t begin = out.BeginRecord(KM_NAMED_IDENTITY);
  out.U64(status.st_dev);
  out.U64(status.st_ino);
  out.U64(static_cast<uint64_t>(status.st_size));
  out.I64(status.st_mtim.tv_sec);
  out.I64(status.st_mtim.tv_nsec);
  out.EndRecord(begin);
  record.state = out.Take();
}

bool ReadIdentity(uint32_t tag, ByteReader* value) {
  if (tag != KM_NAMED_IDENTITY) return false;
  ReadFields(value);
  return true;
}

void SaveOffset(int host_fd, FileRecord& record) {
  record.offset = std::max<int64_t>(lseek(host_fd, 0, SEEK_CUR), 0);
}

absl::StatusOr<OwnedFd> OpenPlace(const std::string& path, uint64_t flags) {
  open_how how = {};
  how.flags = flags | O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_NO_MAGICLINKS;
  OwnedFd host(static_cast<int>(syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof(how))));
  if (!host.valid()) {
    return ErrnoStatus(errno, absl::StrCat("cannot open '", path, "', which it had open"));
  }
  return host;
}

absl::Status CheckNamed(const FileRecord& record, int host_fd, FileRestorer& restorer) {
  struct stat status;
  if (fstat(host_fd, &status) != 0) return ErrnoStatus(errno, "fstat");
  return CheckIdentity(record, status, restorer);
}

absl::StatusOr<OwnedFd> OpenNamed(const FileRecord& record, mode_t type, int extra,
                                  FileRestorer& restorer) {
  const uint32_t flags = record.flags & kKeptFlags;
  open_how how = {};
  how.flags = flags | static_cast<uint32_t>(extra) | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
  how.resolve = RESOLVE_NO_MAGICLINKS;
  OwnedFd host(
      static_cast<int>(syscall(SYS_openat2, AT_FDCWD, record.path.c_str(), &how, sizeof(how))));
  if (!host.valid()) {
    return ErrnoStatus(errno, absl::StrCat("cannot open '", record.path, "', which it had open"));
  }
  struct stat status;
  if (fstat(host.get(), &status) != 0) return ErrnoStatus(errno, "fstat");
  if ((status.st_mode & S_IFMT) != type || (type == S_IFREG && !IsOrdinaryFile(host.get()))) {
    return absl::FailedPreconditionError(
        absl::StrCat("'", record.path, "', which it had open, is of another kind now"));
  }
  KM_RETURN_IF_ERROR(CheckIdentity(record, status, restorer));
  if (fcntl(host.get(), F_SETFL, flags) != 0) return ErrnoStatus(errno, "fcntl(F_SETFL)");
  if (type != S_IFIFO && lseek(host.get(), record.offset, SEEK_SET) < 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot seek in '", record.path, "'"));
  }
  return host;
}

absl::StatusOr<OwnedFd> Reopen(int host_fd, const FileRecord& record) {
  const uint32_t flags = record.flags & kKeptFlags;
  // Opening a pipe with O_DIRECT fails; setting it does not.
  OwnedFd host(open(absl::StrCat("/proc/self/fd/", host_fd).c_str(),
                    static_cast<int>(flags & ~O_DIRECT) | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
  if (!host.valid()) return ErrnoStatus(errno, "opening it once more");
  if (fcntl(host.get(), F_SETFL, flags) != 0) return ErrnoStatus(errno, "fcntl(F_SETFL)");
  return host;
}

}  // namespace km
