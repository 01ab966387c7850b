// Image -> file.
#ifndef KM_SNAPSHOT_WRITER_H_
#define KM_SNAPSHOT_WRITER_H_

#include <linux/limits.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "km/snapshot/image.h"
#include "km/snapshot/touched_pages.h"

namespace km {

// Where the bytes of Image::memory are. They must not change while they are written.
struct MemorySource {
  // Where the bytes of an address of the image are in the monitor.
  const std::byte* At(uint64_t address) const;

  const std::byte* window = nullptr;  // the host address of guest address 0
  // Of memory objects: address in the image, and where the object is mapped. Ascending.
  std::vector<std::pair<uint64_t, const std::byte*>> objects;
  // What the host's page tables refuse to read (PROT_NONE, PROT_EXEC alone): ascending, page
  // aligned. It is read by the kernel. Everything else is read in place and must not fault: pages
  // past the end of a mapped file are not in Image::memory.
  std::vector<AddressRange> unreadable;
};

// What a writer tells, and is told, while it writes.
struct WriteProgress {
  std::atomic<uint64_t> done = 0;       // bytes of memory
  std::atomic<bool> cancelled = false;  // then it ends with ECANCELED
  // Of the file that is not complete, where it has a name: one that is killed leaves it. "": it has
  // none.
  char unfinished[PATH_MAX] = "";
};

struct WriteOptions {
  bool sync = true;                  // fsync the file and its directory
  uint64_t size_limit = UINT64_MAX;  // EFBIG for a longer file (RLIMIT_CORE of a core dump)
  WriteProgress* progress = nullptr;
  // An empty file that is open for writing, to which somebody else gives the name: `path` then is
  // for messages. -1: it is made, and appears under its name.
  int file = -1;
  // Of the process that the memory is a copy-on-write copy of, where that runs on: what it writes
  // meanwhile belongs to the working set in the file.
  TouchedPages* running = nullptr;
};

// Writes `image` and its memory to the file `path` of the host. The file appears under its name
// when it is complete (NewFile); after an error `path` is what it was.
//
// Image::memory may be in pieces of any number; file_offset in it is ignored. With fatal_signal set
// the file is a plain core dump, without notes of ours, and as the kernel's takes the place of a
// symbolic link instead of following it. ErrnoOf(status) is what a guest is told.
// Thread-safe.
absl::Status WriteSnapshot(const Image& image, const MemorySource& memory, const std::string& path,
                           const WriteOptions& options);

}  // namespace km

#endif  // KM_SNAPSHOT_WRITER_H_
