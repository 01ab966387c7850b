// What a snapshot keeps of the program's open files, as plain data.
#ifndef KM_FILES_FILE_RECORD_H_
#define KM_FILES_FILE_RECORD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "km/files/fd_table.h"
#include "km/files/terminal_settings.h"

namespace km {

// What tells that a name still leads to the same file, and that nobody changed it.
struct FileIdentity {
  uint64_t device = 0, inode = 0, size = 0;
  int64_t seconds = 0, nanoseconds = 0;  // of its last modification

  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

// An open file description.
struct FileRecord {
  uint32_t id = 0;  // what DescriptorRecord::description names
  FileKind kind = FileKind::kRegular;
  uint32_t flags = 0;  // as fcntl(F_GETFL) shows them: never O_CREAT, O_EXCL or O_TRUNC
  int64_t offset = 0;
  std::string path;            // absolute; empty where the kind has none
  std::vector<uint8_t> state;  // records (km/base/bytes.h) that the kind defines
};

struct DescriptorRecord {
  uint32_t number = 0;
  uint32_t description = 0;
  bool close_on_exec = false;
};

// A lock or lease that is held through a description.
struct LockRecord {
  uint32_t description = 0;
  uint32_t kind = 0;  // km_lock_kind
  bool exclusive = false;
  int64_t start = 0, length = 0;  // bytes; length 0: to the end
};

// Who gets the signals of a description, and what makes them.
struct OwnerRecord {
  uint32_t description = 0;
  uint32_t type = 0;    // km_owner_type
  uint32_t thread = 0;  // the program's, with KM_OWNER_THREAD
  uint32_t signal = 0;  // F_SETSIG
  uint32_t notify = 0;  // F_NOTIFY: DN_*
  bool async = false;   // O_ASYNC
};

// The terminal of whoever launched the process.
struct TerminalRecord {
  TerminalSettings launched;  // as the program got it
  TerminalSettings now;
  WindowSize window;
};

// Shared memory that descriptions are open on or mappings are of, and that has no name to open it
// by: a memfd, a file that was deleted. Its bytes are in the image at `address`, which lies beyond
// every address of the program's and stands for the object.
struct MemoryObject {
  uint64_t address = 0;  // a multiple of 2 MiB, KM_OBJECT_BASE to KM_OBJECT_END
  uint64_t size = 0;     // bytes
  uint32_t kind = 0;     // km_object_kind
  uint32_t seals = 0;    // F_SEAL_*
  std::string name;      // of a memfd, without "/memfd:"; of a file, where it was
};

}  // namespace km

#endif  // KM_FILES_FILE_RECORD_H_
