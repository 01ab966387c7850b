#include "km/files/mapped_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

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

bool InProc(int host_fd) {
  struct statfs system;
  return fstatfs(host_fd, &system) == 0 && system.f_type == PROC_SUPER_MAGIC;
}

bool IsOrdinaryFile(int host_fd) {
  struct stat status;
  return fstat(host_fd, &status) == 0 && S_ISREG(status.st_mode) && !InProc(host_fd);
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

std::shared_ptr<const MappedFile> MappedFile::SharedMemory(uint64_t size, int huge) {
  // The flags for huge pages are those of mmap.
  static_assert(MFD_HUGE_SHIFT == MAP_HUGE_SHIFT);
  unsigned sizes = static_cast<unsigned>(huge) & ~unsigned{MAP_HUGETLB};
  unsigned flags = huge != 0 ? MFD_HUGETLB | sizes : 0;
  OwnedFd memory(memfd_create("km-shared", MFD_CLOEXEC | flags));
  if (!memory.valid() || ftruncate(memory.get(), static_cast<off_t>(size)) != 0) return nullptr;
  return SharedMemoryOf(memory.get());
}

std::shared_ptr<const MappedFile> MappedFile::SharedMemoryOf(int host_fd) {
  auto file = std::make_shared<MappedFile>();
  file->fd = OwnedFd(fcntl(host_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  file->path = "/dev/zero (deleted)";  // as the kernel names it
  return Identify(file.get()) ? file : nullptr;
}

}  // namespace km
