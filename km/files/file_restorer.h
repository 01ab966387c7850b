// Records -> the program's open files.
#ifndef KM_FILES_FILE_RESTORER_H_
#define KM_FILES_FILE_RESTORER_H_

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "km/base/owned.h"
#include "km/files/file_record.h"
#include "km/files/instant.h"
#include "km/files/supplied.h"

namespace km {

// What to do when a file is not what it was when the snapshot was taken (device and inode; of a
// regular file also size and time). One that is open with O_APPEND only grows: that is a matter for
// kStrict alone.
enum class FilePolicy { kStrict, kWarn, kIgnore };

// What whoever resumes wants of the open files.
struct FileOptions {
  FilePolicy policy = FilePolicy::kWarn;
  bool keep_tcp = false;  // go on with TCP connections; otherwise they are reset
  std::vector<SuppliedFile> supplied;
  std::vector<MovedListener> moved;
};

// A socket's family, type and protocol, and its name.
using NamedSocket = std::pair<std::array<int, 3>, std::vector<uint8_t>>;

struct Owner {
  uid_t uid = 0;
  gid_t gid = 0;

  friend bool operator==(const Owner&, const Owner&) = default;
};

// For one resume, before any thread of the program runs. Not thread-safe. The records come from a
// file that may say anything: every error is a status.
class FileRestorer {
 public:
  // `memory`: host descriptors of the memory objects by address, which are not kept.
  FileRestorer(FdTable& table, const FileOptions& options, absl::Span<const FileRecord> records,
               absl::flat_hash_map<uint64_t, OwnedFd>& memory);

  // Removes the names that message queues had for the time being, and those of all others that it
  // made and nobody took.
  ~FileRestorer();
  FileRestorer(const FileRestorer&) = delete;
  FileRestorer& operator=(const FileRestorer&) = delete;

  // First, while the working directory is the launcher's: opens what is supplied and moves
  // listeners. Fails where something does not fit the snapshot; nothing has happened then.
  absl::Status Supply(absl::Span<const DescriptorRecord> descriptors, uint32_t given);
  // One more, at any time before RestoreAll; a path is absolute.
  absl::Status SupplyOne(const SuppliedFile& supplied,
                         absl::Span<const DescriptorRecord> descriptors, uint32_t given);
  absl::Status RestoreAll(absl::Span<const DescriptorRecord> descriptors, uint32_t given);
  // What is to be done when nothing else can fail any more, in order: connections go on, which
  // stand still until then so that another resume can have them.
  std::vector<std::function<absl::Status()>> TakeLast() { return std::move(last_); }

  // ---- For the kinds ----

  // The description `id`, restored if it was not yet.
  absl::StatusOr<std::shared_ptr<OpenFile>> Description(uint32_t id);
  // Calls the kind's `finish` for a description that this restorer made, unless it was called. For
  // kinds that need another one to be finished first; fails where that goes deeper than any kernel
  // allows.
  absl::Status Finish(const FileDescription& description);
  // Gives a file that was made anew to whom it belonged, where that is not who made it. `host_fd`
  // may be one of O_PATH. What this process may not do is a matter of the policy; `what` names the
  // file.
  absl::Status GiveOwner(int host_fd, Owner owner, const std::string& what);
  // What is to be done when all files have been reached by the names that they are known by, and
  // before the program watches anything again: names change.
  void Settle(std::function<absl::Status()> work) { settle_.push_back(std::move(work)); }
  // What is to be done when all files have been made, and before any is finished: sockets whose
  // port the kernel chose give way to those that the program gave theirs.
  void WhenMade(std::function<absl::Status()> work) { made_.push_back(std::move(work)); }
  // To the log; a file that is open a hundred times is warned of once.
  void Warn(const std::string& text);
  // Two host descriptors that are kept open until all is restored, for the object with this number:
  // invalid the first time.
  std::array<OwnedFd, 2>& Held(uint32_t object) { return held_[object]; }
  // The host's descriptor of a memory object.
  absl::StatusOr<int> Memory(uint64_t address) const;
  // The name for the time being of a message queue that has none, by its number: empty at first.
  std::string& PassingName(uint32_t object) { return passing_names_[object]; }
  // A message queue was made under this name.
  void MadeQueue(std::string name, bool passing) {
    (passing ? passing_queues_ : made_queues_).push_back(std::move(name));
  }
  // The queues that were made, with their names: whoever takes them removes them if need be.
  std::vector<std::string> TakeMadeQueues() { return std::move(made_queues_); }
  // Of socket_fill.cc: host descriptors of the program's sockets for datagrams, by the names that
  // they had; whether those are in it that were supplied.
  absl::flat_hash_map<NamedSocket, int> named_sockets;
  bool supplied_sockets_noted = false;
  FdTable& table() { return table_; }
  Instant instant;  // set before RestoreAll
  // In the snapshot, whoever is the one that what this process makes belongs to. Set before
  // RestoreAll.
  Owner program;
  FilePolicy policy() const { return options_.policy; }
  bool keep_tcp() const { return options_.keep_tcp; }
  // See TakeLast.
  void AtLast(std::function<absl::Status()> work) { last_.push_back(std::move(work)); }
  // The host's descriptor for what the program has as `number`, 0 to 2, from whoever resumes.
  int Given(int number) const;

 private:
  struct Restored {
    const FileRecord* record = nullptr;
    std::shared_ptr<OpenFile> file;
    bool begun = false;
    OwnedFd supplied;
    bool finished = false;
  };
  absl::Status AdoptGiven(uint32_t given);
  absl::StatusOr<OwnedFd> HostFor(Restored& restored);
  void CloseInherited();

  absl::Status Finish(Restored& restored);
  // Of these, each that is of such a kind and was not finished yet.
  absl::Status FinishAll(const std::vector<uint32_t>& ids, bool (*of_kind)(FileKind kind));

  FdTable& table_;
  const FileOptions& options_;
  const absl::Span<const FileRecord> records_;
  std::vector<FileRecord> moved_;          // in place of those that the image has
  std::array<OwnedFd, 3> supplied_given_;  // in place of 0 to 2
  absl::flat_hash_map<uint32_t, Restored> by_id_;
  absl::flat_hash_map<const FileDescription*, uint32_t> ids_;
  int finishing_ = 0;  // calls of Finish within each other
  absl::flat_hash_map<uint64_t, OwnedFd>& memory_;
  absl::flat_hash_map<uint32_t, std::array<OwnedFd, 2>> held_;
  absl::flat_hash_map<uint32_t, std::string> passing_names_;
  std::vector<std::string> passing_queues_, made_queues_;
  std::vector<std::function<absl::Status()>> made_, settle_, last_;
  absl::flat_hash_set<std::string> warned_;
};

}  // namespace km

#endif  // KM_FILES_FILE_RESTORER_H_
