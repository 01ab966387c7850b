// Image -> System V objects of the host's, under the ids that the program knows.
#ifndef KM_SNAPSHOT_RESTORE_IPC_H_
#define KM_SNAPSHOT_RESTORE_IPC_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "km/files/file_restorer.h"
#include "km/process/process.h"
#include "km/snapshot/image.h"

namespace km {

// In the snapshot, whoever is the one that what this process makes belongs to: the program's user
// is whoever resumes, unless it had become another one.
Owner OwnerOfMade(const Image& image);

// Whether it has objects with a key or name, System V or POSIX, which other processes find.
bool HasNamedObjects(const Image& image);

// While it lives, no other resume of the file makes objects that have a key or name: who finds one
// finds it filled. `file`: a description of the snapshot file that no other process has, or -1. Who
// cannot have its turn in 10 seconds goes on without.
class TurnOfMaking {
 public:
  explicit TurnOfMaking(int file);
  ~TurnOfMaking();
  TurnOfMaking(const TurnOfMaking&) = delete;
  TurnOfMaking& operator=(const TurnOfMaking&) = delete;

 private:
  const int file_;
};

// For one resume, on the main thread, before any thread of the program runs. Not thread-safe. What
// it made on the host is removed again unless Keep says that the resume succeeded.
class IpcRestorer {
 public:
  IpcRestorer(const Image& image, int fd, FilePolicy policy, Process& process)
      : image_(image), fd_(fd), policy_(policy), process_(process) {}
  ~IpcRestorer();
  IpcRestorer(const IpcRestorer&) = delete;
  IpcRestorer& operator=(const IpcRestorer&) = delete;

  // Objects with a key that the host has are the host's, others are made anew with what they held
  // (docs/decisions/0021). Errors name the object.
  absl::Status Restore();
  // A mapping of a segment, which has been restored.
  absl::Status Attach(const ImageMapping& from, Mapping mapping);
  // When all of them are attached: those that the program removed go with their last attachment.
  absl::Status RemoveSegments();
  void Keep() { kept_ = true; }

 private:
  absl::Status Segment(const ImageSegment& from);
  absl::Status Semaphores(const ImageSemaphores& from);
  absl::Status UseSemaphores(const ImageSemaphores& from, int host);
  absl::Status FillSemaphores(const ImageSemaphores& from, int host);
  absl::Status Queue(const ImageQueue& from);
  absl::Status FillQueue(const ImageQueue& from, int host);
  absl::Status Fill(const ImageSegment& from, int host);
  absl::Status CheckFound(const ImageIpc& from, int host, int64_t changed, bool same_change,
                          absl::string_view what) const;

  const Image& image_;
  const int fd_;
  const FilePolicy policy_;
  Process& process_;
  bool kept_ = false;
  // Attachments by segment and where they begin: pieces of one share it.
  absl::flat_hash_map<std::pair<int32_t, uint64_t>, std::shared_ptr<const MappedFile>> files_;
};

}  // namespace km

#endif  // KM_SNAPSHOT_RESTORE_IPC_H_
