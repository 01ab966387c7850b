// inotify instances: what they watch. Source: inotify(7).
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"
#include "km/files/named_file.h"

namespace km {
namespace {

constexpr uint32_t kMaskOfWatch = IN_ALL_EVENTS | IN_EXCL_UNLINK | IN_ONESHOT;

constexpr char kCannotNumber[] = "cannot number inotify's watches (CONFIG_CHECKPOINT_RESTORE)";

struct Watch {
  int32_t number = 0;
  uint32_t mask = 0;
  std::string path;
};
struct InotifyState {
  int32_t next = 1;  // the number that the next watch gets
  std::vector<Watch> watches;
  std::vector<uint8_t> events;  // unread
};

absl::StatusOr<InotifyState> Decode(const FileRecord& record) {
  InotifyState state;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    switch (tag) {
      case KM_INOTIFY_NEXT:
        state.next = static_cast<int32_t>(value->U32());
        return true;
      case KM_INOTIFY_WATCH: {
        Watch watch;
        watch.number = static_cast<int32_t>(value->U32());
        watch.mask = value->U32();
        watch.path = std::string(value->CountedText());
        state.watches.push_back(std::move(watch));
        return true;
      }
      case KM_INOTIFY_EVENTS: {
        const absl::Span<const uint8_t> bytes = value->Bytes(value->rest().size());
        state.events.assign(bytes.begin(), bytes.end());
        return true;
      }
      default:
        return false;
    }
  }));
  if (!AreEvents(state.events)) return absl::DataLossError("its unread events are none");
  if (state.next <= 0) return absl::DataLossError("the number of its next watch is none");
  for (const Watch& watch : state.watches) {
    if (watch.number <= 0 || watch.number >= state.next || (watch.mask & ~kMaskOfWatch) != 0 ||
        watch.path.empty() || watch.path[0] != '/') {
      return absl::DataLossError(absl::StrCat("its watch ", watch.number, " is none"));
    }
  }
  return state;
}

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_ASSIGN_OR_RETURN(InotifyState state, Decode(record));
  std::string text;
  for (const Watch& watch : state.watches) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", "watch ", watch.number, " of '", watch.path,
                    "'");
  }
  if (!state.events.empty()) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", state.events.size(),
                    " bytes of unread events");
  }
  return text;
}

// What is read from it is gone from it: so it is held for the program, who reads that first.
absl::Status SaveEvents(int host, int next, HeldEvents& held, ByteWriter* out) {
  if (int error = held.Hold(host, next); error != 0) {
    return ErrnoStatus(error,
                       "has events that were not read, and no watch can be added to it to say so "
                       "afterwards; read them before");
  }
  const std::vector<uint8_t> events = held.events();
  if (events.empty()) return absl::OkStatus();
  const size_t begin = out->BeginRecord(KM_INOTIFY_EVENTS);
  out->Bytes(events);
  out->EndRecord(begin);
  return absl::OkStatus();
}

absl::Status Save(const OpenFile& file, FileSaver& /*saver*/, FileRecord& record) {
  const int host = file.host.get();
  ByteWriter out;
  const WatchedPaths& watched = file.description->watched;
  const int next = watched.last() + 1;
  size_t begin = out.BeginRecord(KM_INOTIFY_NEXT);
  out.U32(static_cast<uint32_t>(next));
  out.EndRecord(begin);
  std::vector<LiveWatch> watches = LiveWatches(host);  // in an order of the kernel's own
  std::sort(watches.begin(), watches.end(),
            [](const LiveWatch& a, const LiveWatch& b) { return a.number < b.number; });
  for (const LiveWatch& watch : watches) {
    const std::string path = watched.Path(watch.number);
    struct stat status;
    if (path.empty() || lstat(path.c_str(), &status) != 0 || status.st_ino != watch.inode ||
        status.st_dev != watch.device) {
      return absl::FailedPreconditionError(absl::StrCat(
          "watches '", path, "', which has another name or none now: close it before"));
    }
    begin = out.BeginRecord(KM_INOTIFY_WATCH);
    out.U32(static_cast<uint32_t>(watch.number));
    out.U32(watch.mask & kMaskOfWatch);
    out.CountedText(path);
    out.EndRecord(begin);
  }
  KM_RETURN_IF_ERROR(SaveEvents(host, next, file.description->held_events, &out));
  record.state = out.Take();
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer& /*restorer*/) {
  OwnedFd host(inotify_init1(IN_CLOEXEC | (record.flags & O_NONBLOCK ? IN_NONBLOCK : 0)));
  if (!host.valid()) return ErrnoStatus(errno, "cannot make an inotify instance");
  return host;
}

// Behind all others: what is opened for them must not be seen as an event.
absl::Status Finish(const FileRecord& record, const OpenFile& file, FileRestorer& /*restorer*/) {
  KM_ASSIGN_OR_RETURN(InotifyState state, Decode(record));
  const int host = file.host.get();
  for (const Watch& watch : state.watches) {
    if (int error = SetNextWatch(host, watch.number); error != 0) {
      return ErrnoStatus(error, kCannotNumber);
    }
    KM_ASSIGN_OR_RETURN(OwnedFd place, OpenPlace(watch.path, O_NOFOLLOW));
    const std::string link = absl::StrCat("/proc/self/fd/", place.get());
    const int number = inotify_add_watch(host, link.c_str(), watch.mask);
    if (number < 0) return ErrnoStatus(errno, absl::StrCat("cannot watch '", watch.path, "'"));
    if (number != watch.number) {
      return absl::FailedPreconditionError(
          absl::StrCat("'", watch.path, "' is the same file as another that it watched"));
    }
    file.description->watched.Remember(host, number, watch.path);
  }
  file.description->watched.SetLast(state.next - 1);
  if (int error = SetNextWatch(host, state.next); error != 0 && state.next != 1) {
    return ErrnoStatus(error, kCannotNumber);
  }
  if (int error = file.description->held_events.Put(host, state.next, std::move(state.events));
      error != 0) {
    return ErrnoStatus(error, "cannot add a watch that says that there are unread events");
  }
  return absl::OkStatus();
}

}  // namespace

const FileKindRow kInotifyKind = {
    FileKind::kInotify, "inotify instance", Describe, Save, Restore, Finish};

}  // namespace km
