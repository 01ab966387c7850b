// The program's open files -> records.
#ifndef KM_FILES_FILE_SAVER_H_
#define KM_FILES_FILE_SAVER_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "km/base/owned.h"
#include "km/files/file_record.h"
#include "km/files/instant.h"
#include "km/files/tcp_connection.h"

namespace km {

// For one snapshot, while no thread of the program runs. Not thread-safe.
class FileSaver {
 public:
  // `unnamed_limit`: bytes of one file without a name that are carried. `keep_tcp`: connections
  // stand still, and whoever resumes can go on with them; otherwise they are lost.
  FileSaver(FdTable& table, uint64_t unnamed_limit, bool keep_tcp)
      : table_(table), unnamed_limit_(unnamed_limit), keep_tcp_(keep_tcp) {}

  // Saves every descriptor of the table, and what hangs on it. What cannot be carried is added to
  // `obstacles`, a line each.
  void SaveAll(std::vector<std::string>* obstacles);

  // ---- For the kinds ----

  // The id of the description behind `file`, which is saved if it was not yet.
  absl::StatusOr<uint32_t> Description(const std::shared_ptr<OpenFile>& file);
  // A number for an object of the host kernel's that several descriptions may be open on (a pipe);
  // *first when it is new. -1: fstat failed.
  int64_t Object(int host_fd, bool* first);
  uint32_t Object(dev_t device, ino_t inode, bool* first);
  // A host descriptor of the program's that is open on it; -1: there is none.
  int HostFd(dev_t device, ino_t inode);
  // Whether another process has that slave of a pseudo-terminal open, as far as this one can see.
  bool TerminalElsewhere(dev_t device, ino_t inode);
  // The address of the memory object that `host_fd` is open on (a memfd, a deleted file): its
  // bytes will be in the snapshot, once.
  absl::StatusOr<uint64_t> Memory(int host_fd, uint32_t kind, const std::string& name);
  // The same of memory that has no descriptor. `data`: ranges that are not holes, page aligned.
  absl::StatusOr<uint64_t> AddMemory(MemoryObject object, OwnedMapping bytes,
                                     std::vector<std::pair<uint64_t, uint64_t>> data);
  FdTable& table() { return table_; }
  bool keep_tcp() const { return keep_tcp_; }
  // Of epoll.cc: the instances that watch another one, by the host's descriptor of that.
  std::optional<absl::flat_hash_map<int, std::vector<std::shared_ptr<OpenFile>>>> epoll_watchers;
  Instant instant;  // set before SaveAll
  // For what is read, kept from one socket to the next.
  std::vector<uint8_t> scratch;
  OwnedFd diag;                          // see QueryUnixSocket
  int directory_entries_left = 1 << 20;  // see SocketFileAt: a program may have many sockets
  // The options of new sockets, by family, type and protocol: see SaveSocketOptions. None: such a
  // socket does not have it, or nothing needs to ask.
  absl::flat_hash_map<std::array<int, 3>, std::vector<std::optional<std::vector<uint8_t>>>>
      new_sockets;

  // ---- What came out ----

  std::vector<FileRecord> descriptions;
  std::vector<DescriptorRecord> descriptors;
  std::vector<LockRecord> locks;
  std::vector<OwnerRecord> owners;
  std::optional<TerminalRecord> terminal;
  HeldConnections connections;  // with keep_tcp
  uint32_t given = 0;           // bit N: descriptor N is the one that the monitor was given

  struct SavedObject {
    MemoryObject object;
    OwnedMapping bytes;  // of the file, readable; invalid when it is empty
    std::vector<std::pair<uint64_t, uint64_t>> data;  // ranges that are not holes, page aligned
  };
  std::vector<SavedObject> TakeObjects() { return std::move(objects_); }

 private:
  absl::Status SaveOne(const FdTable::Entry& entry);

  FdTable& table_;
  const uint64_t unnamed_limit_;
  const bool keep_tcp_;
  absl::flat_hash_map<const FileDescription*, uint32_t> ids_;
  absl::flat_hash_set<uint32_t> looked_at_;      // whose locks and owners are saved
  std::vector<std::shared_ptr<OpenFile>> kept_;  // so that no other gets the address
  absl::flat_hash_map<std::pair<dev_t, ino_t>, uint32_t> host_objects_;
  absl::flat_hash_map<std::pair<dev_t, ino_t>, int> open_;
  absl::flat_hash_map<std::pair<dev_t, ino_t>, uint64_t> memory_;
  std::optional<absl::flat_hash_set<std::pair<dev_t, ino_t>>> terminals_elsewhere_;
  std::vector<SavedObject> objects_;
  uint64_t next_address_ = KM_OBJECT_BASE;
};

}  // namespace km

#endif  // KM_FILES_FILE_SAVER_H_
