#include "km/snapshot/restore_ipc.h"

#include <fcntl.h>
#include <km/notes.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "km/base/log.h"
#include "km/base/status.h"
#include "km/files/message_queue.h"

namespace km {
namespace {

using enum SysvKind;

constexpr uint64_t kPage = 4096;
constexpr char kSemaphoresName[] = "semaphore set", kQueueName[] = "message queue";

std::string NameOf(absl::string_view what, const ImageIpc& object) {
  std::string name = absl::StrCat("its System V ", what, " (id ", object.id);
  if (object.key != IPC_PRIVATE) absl::StrAppendFormat(&name, ", key %#x", object.key);
  return name + ")";
}

absl::Status Failed(int error, absl::string_view doing, absl::string_view what,
                    const ImageIpc& object) {
  return ErrnoStatus(error, absl::StrCat("cannot ", doing, " ", NameOf(what, object)));
}

// Whether the host has an object with the key; its id. An errno that is neither 0 nor ENOENT: it
// has one that this user may not use.
int Find(long call, const ImageIpc& object, int* host) {
  if (object.key == IPC_PRIVATE) return ENOENT;
  // Neither size nor number is asked for. SYS_msgget takes two arguments.
  const long id =
      call == SYS_msgget ? syscall(call, object.key, 0) : syscall(call, object.key, 0, 0);
  if (id < 0) return errno;
  *host = static_cast<int>(id);
  return 0;
}

struct Outcome {
  int error = 0;
  bool made = false;  // or to be made, with an error
};

// What the host has with the key, or else a new one that `make` makes (-1, with errno: it cannot).
// Another resume of the same file may make it in between.
template <typename Make>
Outcome FindOrMake(long call, const ImageIpc& object, Make make, int* host) {
  constexpr int kTries = 10;  // whoever goes on removing it may have it
  for (int i = 0;; ++i) {
    const int error = Find(call, object, host);
    if (error != ENOENT) return {error, false};
    *host = make();
    if (*host >= 0) return {0, true};
    if (errno != EEXIST || i == kTries) return {errno, true};
  }
}

absl::Status Failed(const Outcome& outcome, absl::string_view what, const ImageIpc& object) {
  return Failed(outcome.error, outcome.made ? "make" : "use", what, object);
}

int MakeFlags(const ImageIpc& object) {
  return static_cast<int>(object.mode & 0777) | IPC_CREAT | IPC_EXCL;
}

template <typename Record, typename Permissions>
bool SetOwner(const ImageIpc& from, const Image& image, Record* record,
              Permissions Record::*permissions) {
  Permissions& to = record->*permissions;
  const Owner made = OwnerOfMade(image);
  const bool other_uid = from.uid != made.uid, other_gid = from.gid != made.gid;
  if (other_uid) to.uid = from.uid;
  if (other_gid) to.gid = from.gid;
  return other_uid || other_gid;
}

bool Operate(int host, size_t number, int by, int flags) {
  sembuf operation = {static_cast<unsigned short>(number), static_cast<short>(by),
                      static_cast<short>(flags | IPC_NOWAIT)};
  return syscall(SYS_semop, host, &operation, 1) == 0;
}

// Sets the value and what the process's end takes back, without a moment at which a value cannot
// be.
bool SetSemaphore(int host, size_t number, const ImageSemaphore& to) {
  if (!to.operated && to.value == 0 && to.undo == 0) return true;  // as it was made
  const int start = to.undo < 0 ? -to.undo : 0;
  const int value = static_cast<int>(to.value);
  if (to.undo == 0) return syscall(SYS_semctl, host, number, SETVAL, value) == 0;
  if (syscall(SYS_semctl, host, number, SETVAL, start) != 0) return false;
  if (!Operate(host, number, to.undo, SEM_UNDO)) return false;
  const int rest = value - (start + to.undo);
  return rest == 0 || Operate(host, number, rest, 0);
}

}  // namespace

Owner OwnerOfMade(const Image& image) {
  const bool carried = std::any_of(
      image.threads.begin(), image.threads.end(),
      [](const ImageThread& thread) { return thread.settings.credentials.has_value(); });
  if (carried) return {geteuid(), getegid()};
  return {image.process.euid, image.process.egid};
}

IpcRestorer::~IpcRestorer() {
  if (!kept_) process_.sysv().RemoveMade(true);
}

bool HasNamedObjects(const Image& image) {
  const auto keyed = [](const ImageIpc& object) { return object.key != IPC_PRIVATE; };
  return std::any_of(image.segments.begin(), image.segments.end(), keyed) ||
         std::any_of(image.semaphores.begin(), image.semaphores.end(), keyed) ||
         std::any_of(image.queues.begin(), image.queues.end(), keyed) ||
         std::any_of(image.descriptions.begin(), image.descriptions.end(),
                     [](const FileRecord& record) {
                       return record.kind == FileKind::kMessageQueue && !IsRemovedQueue(record);
                     });
}

TurnOfMaking::TurnOfMaking(int file) : file_(file) {
  constexpr int kTries = 1000;
  constexpr useconds_t kPause = 10000;  // 10 s in all: whoever else has locked the file may keep it
  for (int i = 0; file_ >= 0 && i < kTries && flock(file_, LOCK_EX | LOCK_NB) != 0; ++i) {
    if (errno != EWOULDBLOCK) return;
    usleep(kPause);
  }
}

TurnOfMaking::~TurnOfMaking() {
  if (file_ >= 0) flock(file_, LOCK_UN);
}

absl::Status IpcRestorer::Restore() {
  for (const ImageSegment& from : image_.segments) KM_RETURN_IF_ERROR(Segment(from));
  for (const ImageSemaphores& from : image_.semaphores) KM_RETURN_IF_ERROR(Semaphores(from));
  for (const ImageQueue& from : image_.queues) KM_RETURN_IF_ERROR(Queue(from));
  return absl::OkStatus();
}

// The host's object is used as it is, as a file is that has the name. Whether it is the same one is
// judged by the policy for files.
absl::Status IpcRestorer::CheckFound(const ImageIpc& from, int host, int64_t changed,
                                     bool same_change, absl::string_view what) const {
  const bool same = host == from.host_id && (!same_change || changed == from.changed);
  if (same || policy_ == FilePolicy::kIgnore) return absl::OkStatus();
  const std::string text = absl::StrCat(
      NameOf(what, from), " is another than when the snapshot was taken: the one of this host is ");
  if (policy_ == FilePolicy::kStrict) {
    return absl::FailedPreconditionError(
        absl::StrCat(text, "not used with --files=strict (ipcs(1) shows it)"));
  }
  Log(LogLevel::kWarning, absl::StrCat(text, "used, with what it holds"));
  return absl::OkStatus();
}

absl::Status IpcRestorer::Segment(const ImageSegment& from) {
  constexpr char kWhat[] = "shared memory";
  int host = 0;
  const Outcome outcome = FindOrMake(
      SYS_shmget, from, [&from] { return shmget(from.key, from.size, MakeFlags(from)); }, &host);
  if (outcome.error != 0) return Failed(outcome, kWhat, from);
  shmid_ds status = {};
  if (!outcome.made) {
    if (shmctl(host, IPC_STAT, &status) != 0) return Failed(errno, "use", kWhat, from);
    if (status.shm_segsz != from.size) {
      return absl::FailedPreconditionError(
          absl::StrCat(NameOf(kWhat, from), " has ", status.shm_segsz, " bytes on this host, not ",
                       from.size, ": remove it before (ipcrm(1))"));
    }
    KM_RETURN_IF_ERROR(CheckFound(from, host, status.shm_ctime, true, kWhat));
    process_.sysv().Bind(kMemory, from.id, host);
    return absl::OkStatus();
  }
  process_.sysv().NoteMade(kMemory, host, from.key != IPC_PRIVATE);
  process_.sysv().Bind(kMemory, from.id, host);
  KM_RETURN_IF_ERROR(Fill(from, host));
  if (shmctl(host, IPC_STAT, &status) == 0 &&
      SetOwner(from, image_, &status, &shmid_ds::shm_perm) && shmctl(host, IPC_SET, &status) != 0) {
    return Failed(errno, "give its owner", kWhat, from);
  }
  if ((from.flags & KM_SEGMENT_LOCKED) != 0 && shmctl(host, SHM_LOCK, nullptr) != 0) {
    return Failed(errno, "lock (SHM_LOCK)", kWhat, from);
  }
  return absl::OkStatus();
}

// Holes stay holes.
absl::Status IpcRestorer::Fill(const ImageSegment& from, int host) {
  void* bytes = shmat(host, nullptr, 0);
  if (bytes == reinterpret_cast<void*>(-1)) return Failed(errno, "fill", "shared memory", from);
  const OwnedMapping to(bytes, (from.size + kPage - 1) / kPage * kPage);
  for (const ImageMemory& piece : image_.memory) {
    if (piece.address < from.object || piece.address - from.object >= to.size()) continue;
    const uint64_t offset = piece.address - from.object;
    const uint64_t end = piece.file_offset + std::min(piece.size, to.size() - offset);
    for (uint64_t at = piece.file_offset; at < end;) {
      const off_t data = lseek(fd_, static_cast<off_t>(at), SEEK_DATA);
      if ((data < 0 && errno == ENXIO) || data >= static_cast<off_t>(end)) break;
      const off_t hole = data < 0 ? -1 : lseek(fd_, data, SEEK_HOLE);
      if (hole < 0) return Failed(errno, "fill", "shared memory", from);
      at = static_cast<uint64_t>(data);
      const uint64_t stop = std::min(end, static_cast<uint64_t>(hole));
      while (at < stop) {
        const ssize_t got = pread(fd_, to.data() + offset + (at - piece.file_offset), stop - at,
                                  static_cast<off_t>(at));
        if (got <= 0) return Failed(got < 0 ? errno : EIO, "fill", "shared memory", from);
        at += static_cast<uint64_t>(got);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status IpcRestorer::Attach(const ImageMapping& from, Mapping mapping) {
  const auto segment =
      std::find_if(image_.segments.begin(), image_.segments.end(),
                   [&from](const ImageSegment& s) { return s.id == *from.segment; });
  std::shared_ptr<const MappedFile>& file = files_[{*from.segment, from.start - from.file_offset}];
  if (file == nullptr) {
    auto fresh = std::make_shared<MappedFile>();
    fresh->path = absl::StrFormat("/SYSV%08x (deleted)", static_cast<uint32_t>(segment->key));
    fresh->device = 1;  // the kernel's own mount, 00:01
    fresh->inode = static_cast<uint64_t>(segment->id);
    fresh->read_only = from.read_only;
    file = std::move(fresh);
  }
  mapping.file = file;
  mapping.offset = from.file_offset;
  mapping.name.clear();
  const int host = process_.sysv().Host(kMemory, segment->id);
  const uint64_t whole = (segment->size + kPage - 1) / kPage * kPage;
  const int64_t error = process_.space().AttachPiece(host, whole, std::move(mapping));
  if (error == 0) return absl::OkStatus();
  return Failed(static_cast<int>(-error), "attach", "shared memory", *segment);
}

absl::Status IpcRestorer::RemoveSegments() {
  for (const ImageSegment& from : image_.segments) {
    const int host = process_.sysv().Host(kMemory, from.id);
    if ((from.flags & KM_SEGMENT_REMOVED) == 0 || !process_.sysv().Made(kMemory, host)) continue;
    if (shmctl(host, IPC_RMID, nullptr) != 0) {
      return Failed(errno, "remove again", "shared memory", from);
    }
  }
  return absl::OkStatus();
}

absl::Status IpcRestorer::Semaphores(const ImageSemaphores& from) {
  SysvObjects& objects = process_.sysv();
  int host = 0;
  const auto make = [&from] {
    return semget(from.key, static_cast<int>(from.values.size()), MakeFlags(from));
  };
  const Outcome outcome = FindOrMake(SYS_semget, from, make, &host);
  if (outcome.error != 0) return Failed(outcome, kSemaphoresName, from);
  if (!outcome.made) {
    KM_RETURN_IF_ERROR(UseSemaphores(from, host));
  } else {
    objects.NoteMade(kSemaphores, host, from.key != IPC_PRIVATE);
    KM_RETURN_IF_ERROR(FillSemaphores(from, host));
  }
  objects.Bind(kSemaphores, from.id, host);
  for (size_t i = 0; i < from.values.size(); ++i) {
    if (from.values[i].undo == 0) continue;
    objects.NoteUndo(from.id, {sembuf{static_cast<unsigned short>(i),
                                      static_cast<short>(from.values[i].undo), SEM_UNDO}});
  }
  return absl::OkStatus();
}

// What the process held (SEM_UNDO) was given back when it ended: taken again.
absl::Status IpcRestorer::UseSemaphores(const ImageSemaphores& from, int host) {
  semid_ds status = {};
  if (semctl(host, 0, IPC_STAT, &status) != 0) return Failed(errno, "use", kSemaphoresName, from);
  if (status.sem_nsems != from.values.size()) {
    return absl::FailedPreconditionError(absl::StrCat(
        NameOf(kSemaphoresName, from), " has ", status.sem_nsems, " semaphores on this host, not ",
        from.values.size(), ": remove it before (ipcrm(1))"));
  }
  KM_RETURN_IF_ERROR(CheckFound(from, host, status.sem_ctime, false, kSemaphoresName));
  for (size_t i = 0; i < from.values.size(); ++i) {
    if (from.values[i].undo == 0 || Operate(host, i, from.values[i].undo, SEM_UNDO)) continue;
    if (errno != EAGAIN) {
      return Failed(errno, absl::StrCat("operate on semaphore ", i, " of"), kSemaphoresName, from);
    }
    return absl::FailedPreconditionError(
        absl::StrCat("semaphore ", i, " of ", NameOf(kSemaphoresName, from),
                     ", which it held when the snapshot was taken, is held by another process: "
                     "resume it when that has given it back"));
  }
  return absl::OkStatus();
}

absl::Status IpcRestorer::FillSemaphores(const ImageSemaphores& from, int host) {
  for (size_t i = 0; i < from.values.size(); ++i) {
    if (!SetSemaphore(host, i, from.values[i])) {
      return Failed(errno, absl::StrCat("set semaphore ", i, " of"), kSemaphoresName, from);
    }
  }
  semid_ds status = {};
  if (semctl(host, 0, IPC_STAT, &status) != 0) {
    return Failed(errno, "ask for", kSemaphoresName, from);
  }
  // Programs wait for a time that is not 0: the set is then ready.
  if (from.operated != 0 && status.sem_otime == 0) {
    const int by = from.values[0].value > 0 ? -1 : 1;
    sembuf both[] = {{0, static_cast<short>(by), IPC_NOWAIT}, {0, static_cast<short>(-by), 0}};
    if (semop(host, both, 2) != 0) return Failed(errno, "operate on", kSemaphoresName, from);
  }
  if (SetOwner(from, image_, &status, &semid_ds::sem_perm) &&
      semctl(host, 0, IPC_SET, &status) != 0) {
    return Failed(errno, "give its owner", kSemaphoresName, from);
  }
  return absl::OkStatus();
}

absl::Status IpcRestorer::Queue(const ImageQueue& from) {
  int host = 0;
  const Outcome outcome = FindOrMake(
      SYS_msgget, from, [&from] { return msgget(from.key, MakeFlags(from)); }, &host);
  if (outcome.error != 0) return Failed(outcome, kQueueName, from);
  if (!outcome.made) {
    msqid_ds status = {};
    if (msgctl(host, IPC_STAT, &status) != 0) return Failed(errno, "use", kQueueName, from);
    KM_RETURN_IF_ERROR(CheckFound(from, host, status.msg_ctime, true, kQueueName));
  } else {
    process_.sysv().NoteMade(kQueue, host, from.key != IPC_PRIVATE);
    KM_RETURN_IF_ERROR(FillQueue(from, host));
  }
  process_.sysv().Bind(kQueue, from.id, host);
  return absl::OkStatus();
}

absl::Status IpcRestorer::FillQueue(const ImageQueue& from, int host) {
  uint64_t held = from.messages.size();  // even an empty message takes room
  for (const ImageMessage& message : from.messages) held += message.text.size();
  msqid_ds status = {};
  auto set_room = [&](uint64_t room) {
    if (msgctl(host, IPC_STAT, &status) != 0) return Failed(errno, "ask for", kQueueName, from);
    if (status.msg_qbytes == room) return absl::OkStatus();
    status.msg_qbytes = room;
    if (msgctl(host, IPC_SET, &status) == 0) return absl::OkStatus();
    return Failed(errno, absl::StrCat("give room for ", room, " bytes to"), kQueueName, from);
  };
  // More than it may hold, as when the room was made smaller later: while it is filled.
  KM_RETURN_IF_ERROR(set_room(std::max(held, from.room)));
  std::vector<uint8_t> buffer;
  for (const ImageMessage& message : from.messages) {
    buffer.resize(sizeof(long));
    memcpy(buffer.data(), &message.type, sizeof(long));
    buffer.insert(buffer.end(), message.text.begin(), message.text.end());
    if (msgsnd(host, buffer.data(), message.text.size(), IPC_NOWAIT) != 0) {
      return Failed(errno, "fill", kQueueName, from);
    }
  }
  KM_RETURN_IF_ERROR(set_room(from.room));
  if (SetOwner(from, image_, &status, &msqid_ds::msg_perm) && msgctl(host, IPC_SET, &status) != 0) {
    return Failed(errno, "give its owner", kQueueName, from);
  }
  return absl::OkStatus();
}

}  // namespace km
