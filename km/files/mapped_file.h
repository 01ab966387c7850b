// The file behind a mapping.
#ifndef KM_FILES_MAPPED_FILE_H_
#define KM_FILES_MAPPED_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "km/base/owned.h"

namespace km {

// Whether it is a regular file of an ordinary file system. What looks regular in /proc may be the
// monitor's own memory.
bool IsOrdinaryFile(int host_fd);
// Whether it is anything in procfs.
bool InProc(int host_fd);

// Kept for as long as a mapping is: it tells where the file ends. The descriptor is mostly O_PATH:
// closing any other one of the file would drop the POSIX locks that the program holds on it.
struct MappedFile {
  OwnedFd fd;
  std::string path;
  uint64_t device = 0, inode = 0;
  bool read_only = false;  // of System V memory: attached with SHM_RDONLY

  // Of the file open in `host_fd`, with an O_PATH descriptor. Null when there is no descriptor
  // left.
  static std::shared_ptr<const MappedFile> Of(int host_fd);
  // The regular file that has the name now, with a descriptor that can be mapped (`flags` as
  // open(2)); null when there is none.
  static std::shared_ptr<const MappedFile> Open(const std::string& path, int flags);
  // New shared memory without a name, as behind MAP_SHARED | MAP_ANONYMOUS. `huge`: MAP_HUGETLB and
  // MAP_HUGE_* or 0. Null, with errno, when there is none to be had.
  static std::shared_ptr<const MappedFile> SharedMemory(uint64_t size, int huge);
  // Such memory that there is already, with a descriptor of its own.
  static std::shared_ptr<const MappedFile> SharedMemoryOf(int host_fd);
};

}  // namespace km

#endif  // KM_FILES_MAPPED_FILE_H_
