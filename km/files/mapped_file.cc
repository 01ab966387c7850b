#include "km/files/mapped_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "absl/strings/str_cat.h"
#include "km/files/host_path.h"

namespace km {
namespace {

bool Identify(MappedFile* file) {
  struct stat status;
  if (!file->fd.valid() || fstat(file->fd.get(), &status) != 0) return false;
  file->device = status.st_dev;
  file->inode = status.st_ino;
  return true;
}

}  // namespace

bool IsOrdinaryFile(int host_fd) {
  struct stat status;
  struct statfs system;
  return fstat(host_fd, &status) == 0 && S_ISREG(status.st_mode) &&
         fstatfs(host_fd, &system) == 0 && system.f_type != PROC_SUPER_MAGIC;
}

std::shared_ptr<const MappedFile> MappedFile::Of(int host_fd) {
  auto file = std::make_shared<MappedFile>();
  file->fd = OwnedFd(open(absl::StrCat("/proc/self/fd/", host_fd).c_str(), O_PATH | O_CLOEXEC));
  file->path = HostPathOf(host_fd);
  return Identify(file.get()) ? file : nullptr;
}

std::shared_ptr<const MappedFile> MappedFile::Open(const std::string& path, int flags) {
  auto file = std::make_shared<MappedFile>();
  // O_NONBLOCK: whatever has the name now, opening it does not wait.
  file->fd = OwnedFd(open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  file->path = path;
  return Identify(file.get()) && IsOrdinaryFile(file->fd.get()) ? file : nullptr;
}

}  // namespace km
