#include "km/snapshot/capture_ipc.h"

#include <km/notes.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "km/base/host_files.h"
#include "km/base/status.h"

namespace km {
namespace {

constexpr uint64_t kPage = 4096;
constexpr int kMsgCopy = 040000;  // MSG_COPY of linux/msg.h

template <typename Permissions>
void Common(int id, int host, const Permissions& permissions, time_t changed, ImageIpc* to) {
  to->id = id;
  to->key = permissions.__key;
  to->mode = permissions.mode & 0777;
  to->uid = permissions.uid;
  to->gid = permissions.gid;
  to->host_id = host;
  to->changed = changed;
}

// How many mappings this process has of a segment: what the kernel counts as attachments.
uint64_t Attachments(int host) {
  uint64_t count = 0;
  for (const absl::string_view part : absl::StrSplit(HostText("/proc/self/maps"), '\n')) {
    const std::string line(part);
    unsigned long inode = 0;
    char name[16] = "";
    if (sscanf(line.c_str(), "%*s %*s %*s %*s %lu %15s", &inode, name) == 2 &&
        inode == static_cast<unsigned long>(host) && strncmp(name, "/SYSV", 5) == 0) {
      ++count;
    }
  }
  return count;
}

// Whether pages of the segment are in swap, where mincore(2) does not see them.
bool MayBeSwapped(int host) {
  bool swapped = true;
  for (const absl::string_view part : absl::StrSplit(HostText("/proc/sysvipc/shm"), '\n')) {
    const std::string line(part);
    int id = 0;
    unsigned long in_swap = 0;
    if (sscanf(line.c_str(), "%*d %d %*o %*u %*d %*d %*u %*u %*u %*u %*u %*u %*u %*u %*u %lu", &id,
               &in_swap) == 2 &&
        id == host) {
      swapped = in_swap != 0;
    }
  }
  return swapped;
}

// The ranges that have pages: reading others would make them.
std::vector<std::pair<uint64_t, uint64_t>> DataOf(int host, std::byte* bytes, uint64_t size) {
  constexpr uint64_t kAtOnce = 1 << 16;
  const uint64_t pages = (size + kPage - 1) / kPage;
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  std::vector<unsigned char> present(std::min(pages, kAtOnce));
  for (uint64_t done = 0; done < pages; done += kAtOnce) {
    const uint64_t count = std::min(kAtOnce, pages - done);
    if (mincore(bytes + done * kPage, count * kPage, present.data()) != 0) {
      return {{0, pages * kPage}};
    }
    for (uint64_t i = 0; i < count; ++i) {
      if ((present[i] & 1) == 0) continue;
      const uint64_t start = (done + i) * kPage;
      if (!ranges.empty() && ranges.back().second == start) {
        ranges.back().second += kPage;
      } else {
        ranges.emplace_back(start, start + kPage);
      }
    }
  }
  if (MayBeSwapped(host)) return {{0, pages * kPage}};
  return ranges;
}

absl::Status CaptureSegment(int id, int host, const shmid_ds& status, FileSaver& files,
                            Image& image) {
  ImageSegment segment;
  Common(id, host, status.shm_perm, status.shm_ctime, &segment);
  segment.size = status.shm_segsz;
  segment.flags = ((status.shm_perm.mode & SHM_DEST) != 0 ? KM_SEGMENT_REMOVED : 0) |
                  ((status.shm_perm.mode & SHM_LOCKED) != 0 ? KM_SEGMENT_LOCKED : 0);
  if (segment.key == IPC_PRIVATE && status.shm_nattch > Attachments(host)) {
    return absl::FailedPreconditionError(
        "is attached to another process, which would have another after a resume: detach it there");
  }
  void* bytes = shmat(host, nullptr, SHM_RDONLY);
  if (bytes == reinterpret_cast<void*>(-1)) return ErrnoStatus(errno, "cannot be read");
  const uint64_t whole = (segment.size + kPage - 1) / kPage * kPage;
  OwnedMapping mapping(bytes, whole);
  auto data = DataOf(host, mapping.data(), segment.size);
  MemoryObject object;
  object.size = segment.size;
  object.kind = KM_OBJECT_SEGMENT;
  object.name = absl::StrFormat("SYSV%08x", static_cast<uint32_t>(segment.key));
  KM_ASSIGN_OR_RETURN(segment.object,
                      files.AddMemory(std::move(object), std::move(mapping), std::move(data)));
  image.segments.push_back(std::move(segment));
  return absl::OkStatus();
}

absl::Status CaptureSemaphores(int id, int host, const semid_ds& status, const SysvObjects& objects,
                               Image& image) {
  ImageSemaphores set;
  Common(id, host, status.sem_perm, status.sem_ctime, &set);
  set.operated = status.sem_otime;
  std::vector<uint16_t> values(status.sem_nsems);
  if (syscall(SYS_semctl, host, 0, GETALL, values.data()) < 0) {
    return ErrnoStatus(errno, "cannot be read");
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const long pid = syscall(SYS_semctl, host, i, GETPID, 0);
    set.values.push_back({values[i], pid > 0, 0});
  }
  for (const auto& [number, sum] : objects.Undo(id)) {
    if (static_cast<size_t>(number) < set.values.size()) {
      set.values[static_cast<size_t>(number)].undo = sum;
    }
  }
  image.semaphores.push_back(std::move(set));
  return absl::OkStatus();
}

// A copy of each message, which stays where it is.
absl::Status CaptureQueue(int id, int host, const msqid_ds& status, Image& image) {
  ImageQueue queue;
  Common(id, host, status.msg_perm, status.msg_ctime, &queue);
  queue.room = status.msg_qbytes;
  // The largest message has all the bytes, and none has more than any may.
  std::vector<uint8_t> buffer(sizeof(long) + status.__msg_cbytes);
  for (uint64_t i = 0; i < status.msg_qnum; ++i) {
    const long size = syscall(SYS_msgrcv, host, buffer.data(), buffer.size() - sizeof(long), i,
                              kMsgCopy | IPC_NOWAIT);
    if (size < 0 && errno == ENOMSG) break;  // another process takes them
    if (size < 0 && errno == ENOSYS) {
      return absl::FailedPreconditionError(
          "has messages that this kernel lets nobody copy (CONFIG_CHECKPOINT_RESTORE): receive "
          "them before");
    }
    if (size < 0) return ErrnoStatus(errno, "cannot be read");
    ImageMessage& message = queue.messages.emplace_back();
    memcpy(&message.type, buffer.data(), sizeof(long));
    message.text.assign(buffer.begin() + sizeof(long), buffer.begin() + sizeof(long) + size);
  }
  image.queues.push_back(std::move(queue));
  return absl::OkStatus();
}

// After asking for the object: captures it, unless it is gone. One that others find by its key is
// theirs as well, and goes on without this process; one without is found by those it was told to.
template <typename F>
absl::Status IfThere(long result, bool keyed, bool made, const F& capture) {
  if (result < 0) {
    return errno == EACCES ? ErrnoStatus(errno, "cannot be read") : absl::OkStatus();
  }
  if (keyed || made) return capture();
  return absl::FailedPreconditionError(
      "was made by another process, without a key by which to find it after a resume");
}

}  // namespace

void CaptureIpc(Process& process, FileSaver& files, Image& image,
                std::vector<std::string>* obstacles) {
  const SysvObjects& objects = process.sysv();
  auto note = [obstacles](absl::string_view what, int id, const absl::Status& status) {
    if (status.ok()) return;
    obstacles->push_back(absl::StrCat("its System V ", what, " (id ", id, ") ", status.message()));
  };
  for (const auto& known : objects.Known(SysvKind::kMemory)) {
    const int id = known.first, host = known.second;
    shmid_ds status = {};
    const long result = syscall(SYS_shmctl, host, IPC_STAT, &status);
    // A removed one has no key any more.
    const bool removed = (status.shm_perm.mode & SHM_DEST) != 0;
    note("shared memory", id,
         IfThere(result, status.shm_perm.__key != IPC_PRIVATE || removed,
                 objects.Made(SysvKind::kMemory, host),
                 [&] { return CaptureSegment(id, host, status, files, image); }));
  }
  for (const auto& known : objects.Known(SysvKind::kSemaphores)) {
    const int id = known.first, host = known.second;
    semid_ds status = {};
    const long result = syscall(SYS_semctl, host, 0, IPC_STAT, &status);
    note("semaphore set", id,
         IfThere(result, status.sem_perm.__key != IPC_PRIVATE,
                 objects.Made(SysvKind::kSemaphores, host),
                 [&] { return CaptureSemaphores(id, host, status, objects, image); }));
  }
  for (const auto& known : objects.Known(SysvKind::kQueue)) {
    const int id = known.first, host = known.second;
    msqid_ds status = {};
    const long result = syscall(SYS_msgctl, host, IPC_STAT, &status);
    note("message queue", id,
         IfThere(result, status.msg_perm.__key != IPC_PRIVATE, objects.Made(SysvKind::kQueue, host),
                 [&] { return CaptureQueue(id, host, status, image); }));
  }
}

}  // namespace km
