#include "km/snapshot/new_file.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "km/base/status.h"

namespace km {

NewFile::~NewFile() {
  if (!name_.empty()) unlink(name_.c_str());
}

absl::Status NewFile::FindPlace(const std::string& path) {
  struct stat existing = {};
  target_ = path;
  if (links_ == Links::kReplace) {
    // rename(2) does not follow it.
  } else if (stat(path.c_str(), &existing) == 0) {
    if (!S_ISREG(existing.st_mode)) {
      return ErrnoStatus(S_ISDIR(existing.st_mode) ? EISDIR : EINVAL, "it is not a regular file");
    }
    const std::unique_ptr<char, decltype(&free)> real(realpath(path.c_str(), nullptr), &free);
    if (real == nullptr) return ErrnoStatus(errno, "finding it");
    target_ = real.get();
  } else if (errno != ENOENT) {
    return ErrnoStatus(errno, "finding it");
  }
  const size_t slash = target_.rfind('/');
  directory_ = slash == std::string::npos ? "./" : target_.substr(0, slash + 1);
  return absl::OkStatus();
}

absl::Status NewFile::MayCreate(const std::string& path) {
  NewFile file;
  KM_RETURN_IF_ERROR(file.FindPlace(path));
  if (faccessat(AT_FDCWD, file.directory_.c_str(), W_OK | X_OK, AT_EACCESS) == 0) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, absl::StrCat("creating a file in ", file.directory_));
}

absl::Status NewFile::Create(const std::string& path) {
  KM_RETURN_IF_ERROR(FindPlace(path));
  fd_ = OwnedFd(open(directory_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  // EISDIR: of kernels, and EINVAL: of file systems, that do not know the flag.
  if (!fd_.valid() && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    std::string name = directory_ + ".kmsnap-XXXXXX";
    fd_ = OwnedFd(mkostemp(name.data(), O_CLOEXEC));  // mode 0600
    if (fd_.valid()) name_ = name;
  }
  if (fd_.valid()) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("creating a file in ", directory_));
}

// A name of its own first: link(2) does not replace what has the name already, rename(2) does.
absl::Status NewFile::GiveName() {
  const std::string link = absl::StrFormat("/proc/self/fd/%d", fd_.get());
  do {
    uint64_t number = 0;
    if (getrandom(&number, sizeof(number), 0) != sizeof(number)) continue;
    const std::string name = absl::StrFormat("%s.kmsnap-%016x", directory_, number);
    if (linkat(AT_FDCWD, link.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      name_ = name;
    }
  } while (name_.empty() && (errno == EEXIST || errno == EINTR));
  return name_.empty() ? ErrnoStatus(errno, "giving it a name") : absl::OkStatus();
}

absl::Status NewFile::Commit(bool sync) {
  if (sync && fsync(fd_.get()) != 0) return ErrnoStatus(errno, "fsync");
  if (name_.empty()) KM_RETURN_IF_ERROR(GiveName());
  // Some file systems report only here that there was no room.
  if (close(fd_.Release()) != 0) return ErrnoStatus(errno, "close");
  if (rename(name_.c_str(), target_.c_str()) != 0) return ErrnoStatus(errno, "rename");
  name_.clear();
  if (!sync) return absl::OkStatus();
  const OwnedFd directory(open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // One may write into a directory that one may not read: then its entry goes to disk when it goes.
  if (directory.valid() && fsync(directory.get()) != 0 && errno != EINVAL) {
    return ErrnoStatus(errno, "fsync of its directory");
  }
  return absl::OkStatus();
}

}  // namespace km
