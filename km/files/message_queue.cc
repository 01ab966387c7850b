#include "km/files/message_queue.h"

#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "km/base/log.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"

namespace km {
namespace {

struct QueueMessage {
  unsigned priority = 0;
  std::vector<uint8_t> bytes;
};

struct QueueAttributes {
  uint64_t messages = 0, size = 0;  // what it has room for: messages, bytes in each
  uint32_t mode = 0;
  uint64_t device = 0, inode = 0;
};

struct QueueState {
  uint32_t object = 0;
  bool unnamed = false;
  std::optional<QueueAttributes> attributes;  // with the first description of a queue
  std::vector<QueueMessage> messages;
  std::optional<QueueNotice> notice;
  std::optional<Owner> owner;  // with the attributes
};

absl::Status Check(const FileRecord& record, const QueueState& state) {
  const bool name = record.path.size() > 1 && record.path.size() <= NAME_MAX + 1 &&
                    record.path[0] == '/' && record.path.find('/', 1) == record.path.npos;
  const QueueAttributes room = state.attributes.value_or(QueueAttributes{});
  bool fits =
      state.messages.size() <= room.messages && room.messages <= INT_MAX && room.size <= INT_MAX;
  for (const QueueMessage& message : state.messages) {
    fits = fits && message.bytes.size() <= room.size;
  }
  const bool told = !state.notice.has_value() || state.notice->notify == SIGEV_NONE ||
                    (state.notice->notify == SIGEV_SIGNAL && state.notice->signal > 0 &&
                     state.notice->signal < NSIG);
  if ((name || state.unnamed) && fits && told) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrFormat("queue '%s' with %u messages of %u, in room for %u, is impossible",
                      record.path, state.messages.size(), room.size, room.messages));
}

absl::StatusOr<QueueState> Decode(const FileRecord& record) {
  QueueState state;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    switch (tag) {
      case KM_QUEUE_OBJECT:
        state.object = value->U32();
        state.unnamed = value->U32() != 0;
        return true;
      case KM_QUEUE_ATTRIBUTES: {
        QueueAttributes& attributes = state.attributes.emplace();
        attributes.messages = value->U64();
        attributes.size = value->U64();
        attributes.mode = value->U32();
        value->U32();
        attributes.device = value->U64();
        attributes.inode = value->U64();
        return true;
      }
      case KM_QUEUE_OWNER: {
        Owner& owner = state.owner.emplace();
        owner.uid = value->U32();
        owner.gid = value->U32();
        return true;
      }
      case KM_QUEUE_MESSAGE: {
        QueueMessage& message = state.messages.emplace_back();
        message.priority = value->U32();
        const absl::Span<const uint8_t> bytes = value->Bytes(value->rest().size());
        message.bytes.assign(bytes.begin(), bytes.end());
        return true;
      }
      case KM_QUEUE_NOTICE: {
        QueueNotice& notice = state.notice.emplace();
        notice.notify = static_cast<int>(value->U32());
        notice.signal = static_cast<int>(value->U32());
        notice.value = value->U64();
        return true;
      }
      default:
        return false;
    }
  }));
  KM_RETURN_IF_ERROR(Check(record, state));
  return state;
}

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_ASSIGN_OR_RETURN(QueueState state, Decode(record));
  std::string text = absl::StrCat("queue ", state.object, state.unnamed ? ", removed" : "");
  if (state.attributes.has_value()) {
    absl::StrAppend(&text, ", ", state.messages.size(), " of ", state.attributes->messages,
                    " messages of up to ", state.attributes->size, " bytes");
  }
  if (state.notice.has_value()) absl::StrAppend(&text, ", tells of the next message");
  return text;
}

int Notify(int host_fd, const QueueNotice& notice) {
  sigevent event = {};
  event.sigev_notify = notice.notify;
  event.sigev_signo = notice.signal;
  event.sigev_value.sival_ptr = reinterpret_cast<void*>(notice.value);
  return static_cast<int>(syscall(SYS_mq_notify, host_fd, &event));
}

// Who waits to be told of a message: SIGEV_* and the process, or 0.
struct Waiting {
  int notify = 0, process = 0;
};

absl::StatusOr<Waiting> WhoWaits(int reading) {
  char text[256] = {};
  Waiting waiting;
  const ssize_t size = pread(reading, text, sizeof(text) - 1, 0);
  if (size <= 0 || sscanf(text, "QSIZE:%*s NOTIFY:%d SIGNO:%*s NOTIFY_PID:%d", &waiting.notify,
                          &waiting.process) != 2) {
    return ErrnoStatus(size < 0 ? errno : EIO, "does not say what is in it");
  }
  return waiting;
}

// The last request of the program's for a notice of this queue.
QueueNotice LastNotice(const struct stat& queue, FdTable& table) {
  QueueNotice last;
  for (const FdTable::Entry& entry : table.Entries()) {
    struct stat status;
    if (entry.file->description->kind != FileKind::kMessageQueue ||
        fstat(entry.file->host.get(), &status) != 0 || status.st_ino != queue.st_ino ||
        status.st_dev != queue.st_dev) {
      continue;
    }
    QueueNotice notice = entry.file->description->notice();
    if (notice.number > last.number) last = notice;
  }
  return last;
}

// There is no other way to see a message than to take it: all are taken, and put back in order.
absl::Status CopyMessages(int both, uint64_t size, std::vector<QueueMessage>* messages) {
  absl::Status status;
  while (true) {
    QueueMessage message;
    message.bytes.resize(size);
    const ssize_t got = mq_receive(both, reinterpret_cast<char*>(message.bytes.data()),
                                   message.bytes.size(), &message.priority);
    if (got < 0) {
      if (errno != EAGAIN) status = ErrnoStatus(errno, "cannot be read");
      break;
    }
    message.bytes.resize(static_cast<size_t>(got));
    messages->push_back(std::move(message));
  }
  for (const QueueMessage& message : *messages) {
    if (mq_send(both, reinterpret_cast<const char*>(message.bytes.data()), message.bytes.size(),
                message.priority) == 0) {
      continue;
    }
    status = ErrnoStatus(errno, "has lost a message to others that use it at the same time");
    Log(LogLevel::kError, absl::StrCat("a POSIX message queue ", status.message()));
  }
  return status;
}

void Encode(const QueueState& state, ByteWriter* out) {
  size_t record = out->BeginRecord(KM_QUEUE_OBJECT);
  out->U32(state.object);
  out->U32(state.unnamed ? 1 : 0);
  out->EndRecord(record);
  if (state.attributes.has_value()) {
    record = out->BeginRecord(KM_QUEUE_ATTRIBUTES);
    out->U64(state.attributes->messages);
    out->U64(state.attributes->size);
    out->U32(state.attributes->mode);
    out->U32(0);
    out->U64(state.attributes->device);
    out->U64(state.attributes->inode);
    out->EndRecord(record);
  }
  if (state.owner.has_value()) {
    record = out->BeginRecord(KM_QUEUE_OWNER);
    out->U32(state.owner->uid);
    out->U32(state.owner->gid);
    out->EndRecord(record);
  }
  for (const QueueMessage& message : state.messages) {
    record = out->BeginRecord(KM_QUEUE_MESSAGE);
    out->U32(message.priority);
    out->Bytes(message.bytes);
    out->EndRecord(record);
  }
  if (!state.notice.has_value()) return;
  record = out->BeginRecord(KM_QUEUE_NOTICE);
  out->U32(static_cast<uint32_t>(state.notice->notify));
  out->U32(static_cast<uint32_t>(state.notice->signal));
  out->U64(state.notice->value);
  out->EndRecord(record);
}

// What is with the first description. A notice that the program waits for is none while messages
// are taken and put back, nor after a descriptor of the queue is closed: it is asked for again.
absl::Status SaveQueue(int host, const struct stat& queue, FdTable& table, QueueState* state) {
  mq_attr attributes = {};
  if (mq_getattr(host, &attributes) != 0) return ErrnoStatus(errno, "does not say what is in it");
  state->attributes = {static_cast<uint64_t>(attributes.mq_maxmsg),
                       static_cast<uint64_t>(attributes.mq_msgsize), queue.st_mode & 07777,
                       queue.st_dev, queue.st_ino};
  state->owner = {queue.st_uid, queue.st_gid};
  const bool full = attributes.mq_curmsgs != 0;
  OwnedFd reading(open(absl::StrCat("/proc/self/fd/", host).c_str(),
                       (full ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_CLOEXEC));
  if (!reading.valid()) return ErrnoStatus(errno, "cannot be read");
  KM_ASSIGN_OR_RETURN(Waiting waiting, WhoWaits(reading.get()));
  const bool own = waiting.process == getpid();
  if (own && waiting.notify == SIGEV_THREAD) {
    return absl::FailedPreconditionError(
        "tells a thread of its next message (SIGEV_THREAD), which a snapshot does not carry: ask "
        "for a signal instead");
  }
  if (full && !own && waiting.process != 0) {
    return absl::FailedPreconditionError(
        "has messages while another process waits to be told of one (mq_notify), which looking at "
        "them would do: receive them before");
  }
  QueueNotice notice = own ? LastNotice(queue, table) : QueueNotice{};
  if (own && notice.number == 0) {
    return absl::FailedPreconditionError("tells of its next message by way of a closed descriptor");
  }
  absl::Status status;
  if (full) {
    if (own) (void)syscall(SYS_mq_notify, host, nullptr);
    status = CopyMessages(reading.get(), state->attributes->size, &state->messages);
  }
  reading = OwnedFd();
  if (own) {
    state->notice = notice;
    if (Notify(host, notice) != 0 && status.ok()) {
      status = ErrnoStatus(errno, "cannot be asked for a notice again");
    }
  }
  return status;
}

absl::Status Save(const OpenFile& file, FileSaver& saver, FileRecord& record) {
  const int host = file.host.get();
  struct stat queue;
  if (fstat(host, &queue) != 0) return ErrnoStatus(errno, "fstat");
  QueueState state;
  bool first = false;
  state.object = saver.Object(queue.st_dev, queue.st_ino, &first);
  state.unnamed = queue.st_nlink == 0;
  record.path = state.unnamed ? file.description->path : HostPathOf(host);
  if (state.unnamed) record.path = std::string(absl::StripSuffix(record.path, " (deleted)"));
  if (first) KM_RETURN_IF_ERROR(SaveQueue(host, queue, saver.table(), &state));
  ByteWriter out;
  Encode(state, &out);
  record.state = out.Take();
  return absl::OkStatus();
}

// The kernel's name is without the slash.
OwnedFd Open(const std::string& path, uint64_t flags, mode_t mode = 0, mq_attr* attr = nullptr) {
  return OwnedFd(
      static_cast<int>(syscall(SYS_mq_open, path.c_str() + 1, flags | O_CLOEXEC, mode, attr)));
}

std::string Quoted(const std::string& path) { return absl::StrCat("message queue '", path, "'"); }

// The host's queue is used as it is, as a file is that has the name.
absl::Status CheckFound(const FileRecord& record, const QueueAttributes& wanted, int host,
                        FilePolicy policy) {
  mq_attr attributes = {};
  struct stat status;
  if (mq_getattr(host, &attributes) != 0 || fstat(host, &status) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot use ", Quoted(record.path)));
  }
  if (static_cast<uint64_t>(attributes.mq_maxmsg) != wanted.messages ||
      static_cast<uint64_t>(attributes.mq_msgsize) != wanted.size) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "%s has room for %d messages of %d bytes on this host, not for %u of %u: remove it before",
        Quoted(record.path), attributes.mq_maxmsg, attributes.mq_msgsize, wanted.messages,
        wanted.size));
  }
  const bool same = status.st_dev == wanted.device && status.st_ino == wanted.inode;
  if (same || policy == FilePolicy::kIgnore) return absl::OkStatus();
  const std::string text =
      absl::StrCat(Quoted(record.path),
                   " is another than when the snapshot was taken: the one of this host is ");
  if (policy == FilePolicy::kStrict) {
    return absl::FailedPreconditionError(absl::StrCat(text, "not used with --files=strict"));
  }
  Log(LogLevel::kWarning, absl::StrCat(text, "used, with what it holds"));
  return absl::OkStatus();
}

// Makes the queue, under `path`, with what it held.
absl::StatusOr<OwnedFd> Make(const std::string& path, const QueueState& state,
                             FileRestorer& restorer) {
  const QueueAttributes& wanted = *state.attributes;
  mq_attr attributes = {};
  attributes.mq_maxmsg = static_cast<long>(wanted.messages);
  attributes.mq_msgsize = static_cast<long>(wanted.size);
  OwnedFd made =
      Open(path, O_RDWR | O_CREAT | O_EXCL | O_NONBLOCK, wanted.mode & 0777, &attributes);
  if (!made.valid()) {
    return ErrnoStatus(errno,
                       absl::StrFormat("cannot make %s with room for %u messages of %u bytes (see "
                                       "RLIMIT_MSGQUEUE and /proc/sys/fs/mqueue)",
                                       Quoted(path), wanted.messages, wanted.size));
  }
  restorer.MadeQueue(path, state.unnamed);
  if (fchmod(made.get(), wanted.mode & 0777) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot set the mode of ", Quoted(path)));
  }
  if (state.owner.has_value()) {
    KM_RETURN_IF_ERROR(restorer.GiveOwner(made.get(), *state.owner, Quoted(path)));
  }
  for (const QueueMessage& message : state.messages) {
    if (mq_send(made.get(), reinterpret_cast<const char*>(message.bytes.data()),
                message.bytes.size(), message.priority) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot fill ", Quoted(path)));
    }
  }
  return made;
}

// A name that nobody has, until all descriptions are open on the queue. Not the one that it had:
// that others may have by now, or look for.
std::string PassingName(uint32_t object) {
  uint64_t random = 0;
  (void)getrandom(&random, sizeof(random), 0);
  return absl::StrFormat("/km-%u-%016x", object, random);
}

// Makes a queue that has no name any more.
absl::Status MakeUnnamed(const QueueState& state, FileRestorer& restorer) {
  if (!state.attributes.has_value()) {
    return absl::DataLossError("a removed message queue is not said to be anything");
  }
  const std::string path = PassingName(state.object);
  KM_ASSIGN_OR_RETURN(OwnedFd made, Make(path, state, restorer));
  restorer.PassingName(state.object) = path;
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer& restorer) {
  KM_ASSIGN_OR_RETURN(QueueState state, Decode(record));
  const uint64_t flags = record.flags & (O_ACCMODE | O_NONBLOCK);
  std::string path = record.path;
  if (state.unnamed) {
    if (restorer.PassingName(state.object).empty()) {
      KM_RETURN_IF_ERROR(MakeUnnamed(state, restorer));
    }
    path = restorer.PassingName(state.object);
  }
  OwnedFd host = Open(path, flags);
  absl::Status made = absl::UnknownError("not made");
  if (!host.valid() && errno == ENOENT && state.attributes.has_value()) {
    made = Make(path, state, restorer).status();
    // Another one may have made it meanwhile: a resume of the same file.
    if (!made.ok() && ErrnoOf(made) != EEXIST) return made;
    host = Open(path, flags);
  }
  if (host.valid() && state.attributes.has_value() && !state.unnamed && !made.ok()) {
    KM_RETURN_IF_ERROR(CheckFound(record, *state.attributes, host.get(), restorer.policy()));
  }
  if (!host.valid()) return ErrnoStatus(errno, absl::StrCat("cannot open ", Quoted(record.path)));
  return host;
}

}  // namespace

bool IsRemovedQueue(const FileRecord& record) {
  if (record.kind != FileKind::kMessageQueue) return false;
  const absl::StatusOr<QueueState> state = Decode(record);
  return state.ok() && state->unnamed;
}

absl::Status RestoreNotices(FdTable& table, absl::Span<const FileRecord> descriptions,
                            absl::Span<const DescriptorRecord> descriptors) {
  uint64_t number = 0;
  for (const FileRecord& record : descriptions) {
    if (record.kind != FileKind::kMessageQueue) continue;
    KM_ASSIGN_OR_RETURN(QueueState state, Decode(record));
    if (!state.notice.has_value()) continue;
    const auto descriptor =
        std::find_if(descriptors.begin(), descriptors.end(),
                     [&record](const DescriptorRecord& d) { return d.description == record.id; });
    if (descriptor == descriptors.end()) continue;
    const std::shared_ptr<OpenFile> file = table.Get(descriptor->number);
    if (file == nullptr || Notify(file->host.get(), *state.notice) != 0) {
      return ErrnoStatus(file == nullptr ? EBADF : errno,
                         absl::StrCat("cannot be told of the next message of ", Quoted(record.path),
                                      ", as it had asked (mq_notify)"));
    }
    state.notice->number = ++number;
    file->description->SetNotice(*state.notice);
  }
  return absl::OkStatus();
}

const FileKindRow kMessageQueueKind = {
    FileKind::kMessageQueue, "POSIX message queue", Describe, Save, Restore, nullptr};

}  // namespace km
