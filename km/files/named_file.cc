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

// What is different about the file now, or nothing. A log grows while nobody minds: only kStrict
// does. `flags`: it was open with.
std::string Difference(const FileIdentity& was, const struct stat& now, uint32_t flags,
                       FilePolicy policy) {
  if (was.device != now.st_dev || was.inode != now.st_ino) return "it is another file";
  const auto size = static_cast<uint64_t>(now.st_size);
  const bool may_grow = (flags & O_APPEND) != 0 && policy != FilePolicy::kStrict;
  if (!S_ISREG(now.st_mode) || (may_grow && size > was.size)) return "";
  if (was.size != size) return absl::StrCat("it had ", was.size, " bytes and has ", size);
  if (was.seconds != now.st_mtim.tv_sec || was.nanoseconds != now.st_mtim.tv_nsec) {
    return "it was changed since";
  }
  return "";
}

absl::Status CheckIdentity(const std::string& path, uint32_t flags, const FileIdentity& was,
                           const struct stat& now, FileRestorer& restorer) {
  const FilePolicy policy = restorer.policy();
  if (policy == FilePolicy::kIgnore) return absl::OkStatus();
  const std::string difference = Difference(was, now, flags, policy);
  if (difference.empty()) return absl::OkStatus();
  const std::string text =
      absl::StrCat("'", path, "', which it had open, is not what it was: ", difference);
  if (policy == FilePolicy::kWarn) {
    restorer.Warn(text);
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(text, " (--files=warn resumes all the same)"));
}

absl::StatusOr<std::optional<FileIdentity>> IdentityIn(const FileRecord& record) {
  std::optional<FileIdentity> identity;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    if (tag == KM_NAMED_IDENTITY) identity = ReadIdentity(value);
    return true;
  }));
  return identity;
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

std::optional<FileIdentity> IdentityOf(int host_fd) {
  struct stat status;
  if (fstat(host_fd, &status) != 0) return std::nullopt;
  return FileIdentity{status.st_dev, status.st_ino, static_cast<uint64_t>(status.st_size),
                      status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

void WriteIdentity(const FileIdentity& identity, ByteWriter* out) {
  out->U64(identity.device);
  out->U64(identity.inode);
  out->U64(identity.size);
  out->I64(identity.seconds);
  out->I64(identity.nanoseconds);
}

FileIdentity ReadIdentity(ByteReader* value) {
  FileIdentity identity;
  identity.device = value->U64();
  identity.inode = value->U64();
  identity.size = value->U64();
  identity.seconds = value->I64();
  identity.nanoseconds = value->I64();
  return identity;
}

void SaveIdentity(int host_fd, FileRecord& record) {
  const std::optional<FileIdentity> identity = IdentityOf(host_fd);
  if (!identity.has_value()) return;
  ByteWriter out;
  out.Bytes(record.state);
  const size_t begin = out.BeginRecord(KM_NAMED_IDENTITY);
  WriteIdentity(*identity, &out);
  out.EndRecord(begin);
  record.state = out.Take();
}

bool SkipIdentity(uint32_t tag, ByteReader* value) {
  if (tag != KM_NAMED_IDENTITY) return false;
  ReadIdentity(value);
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
  KM_ASSIGN_OR_RETURN(const std::optional<FileIdentity> identity, IdentityIn(record));
  if (!identity.has_value()) return absl::OkStatus();
  return CheckIdentity(record.path, record.flags, *identity, status, restorer);
}

absl::StatusOr<OwnedFd> OpenAgain(const std::string& path, uint32_t flags, mode_t type,
                                  const std::optional<FileIdentity>& identity,
                                  FileRestorer& restorer) {
  open_how how = {};
  how.flags = flags | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
  how.resolve = RESOLVE_NO_MAGICLINKS;
  OwnedFd host(static_cast<int>(syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof(how))));
  if (!host.valid()) {
    return ErrnoStatus(errno, absl::StrCat("cannot open '", path, "', which it had open"));
  }
  struct stat status;
  if (fstat(host.get(), &status) != 0) return ErrnoStatus(errno, "fstat");
  if ((status.st_mode & S_IFMT) != type || (type == S_IFREG && !IsOrdinaryFile(host.get()))) {
    return absl::FailedPreconditionError(
        absl::StrCat("'", path, "', which it had open, is of another kind now"));
  }
  if (identity.has_value()) {
    KM_RETURN_IF_ERROR(CheckIdentity(path, flags, *identity, status, restorer));
  }
  return host;
}

absl::StatusOr<OwnedFd> OpenNamed(const FileRecord& record, mode_t type, int extra,
                                  FileRestorer& restorer) {
  const uint32_t flags = record.flags & kKeptFlags;
  KM_ASSIGN_OR_RETURN(const std::optional<FileIdentity> identity, IdentityIn(record));
  KM_ASSIGN_OR_RETURN(OwnedFd host, OpenAgain(record.path, flags | static_cast<uint32_t>(extra),
                                              type, identity, restorer));
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
