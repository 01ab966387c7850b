// Epoll instances: what they watch, and what they are about to report, in its order.
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "km/base/log.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"

namespace km {
namespace {

struct Watch {
  uint32_t number = 0;  // descriptor
  uint32_t events = 0;  // as the kernel keeps them
  uint64_t data = 0;
  uint32_t place = 0;  // in the list of what is to be reported next, from 1 on; 0: not in it
  uint32_t ready = 0;  // an edge-triggered one: events that were there at the snapshot
  // While it is saved:
  int host = -1;          // the host's descriptor of the file
  bool by_other = false;  // it was made by a descriptor that was closed since
};

// The kernel always watches for these, but for a one-shot watch that has fired.
constexpr uint32_t kAlways = EPOLLERR | EPOLLHUP;
constexpr uint32_t kAnything = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP;
// How it watches, not what for. They stay when a one-shot watch has fired.
constexpr uint32_t kManner = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;

bool HasFired(const Watch& watch) {
  return (watch.events & EPOLLONESHOT) != 0 && (watch.events & ~kManner) == 0;
}

// What of the events that it is for is there now.
uint32_t ReadyNow(const Watch& watch, int host) {
  pollfd target = {host, static_cast<int16_t>(watch.events & ~kManner & INT16_MAX), 0};
  if (poll(&target, 1, 0) <= 0) return 0;
  return static_cast<uint32_t>(target.revents) & (watch.events | kAlways);
}

// ---- Records ----

absl::StatusOr<std::vector<Watch>> Decode(const FileRecord& record) {
  std::vector<Watch> watches;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    if (tag != KM_EPOLL_WATCH) return false;
    Watch& watch = watches.emplace_back();
    watch.number = value->U32();
    watch.events = value->U32();
    watch.data = value->U64();
    if (value->empty()) return true;  // of an older writer
    watch.place = value->U32();
    watch.ready = value->U32();
    return true;
  }));
  return watches;
}

std::vector<uint8_t> Encode(absl::Span<const Watch> watches) {
  ByteWriter out;
  for (const Watch& watch : watches) {
    const size_t begin = out.BeginRecord(KM_EPOLL_WATCH);
    out.U32(watch.number);
    out.U32(watch.events);
    out.U64(watch.data);
    out.U32(watch.place);
    out.U32(watch.ready);
    out.EndRecord(begin);
  }
  return out.Take();
}

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_ASSIGN_OR_RETURN(std::vector<Watch> watches, Decode(record));
  std::string text = "watches";
  for (const Watch& watch : watches) absl::StrAppend(&text, " ", watch.number);
  return watches.empty() ? "watches nothing" : text;
}

// ---- Saving ----

// A watch that Disarm could not let fire is for EPOLLERR and EPOLLHUP alone. Where the file never
// has those it is one that has fired.
bool NeverFails(FileKind kind) {
  return kind == FileKind::kSignalFd || kind == FileKind::kTimerFd || kind == FileKind::kInotify ||
         kind == FileKind::kEpoll;
}

// What is watched is a file, by the number that a descriptor of it had then. It stays watched when
// that is closed while a duplicate is open, and the number may be another file's by now.
struct WatchedFile {
  uint64_t inode = 0;
  dev_t device = 0;
  uint32_t before = 0;  // that the instance watches by the same number
};

// For each that the instance watches: by which host descriptor, events and data; and which file.
// False: it does not tell.
template <typename F>
bool ForEachWatch(int epoll, const F& on_watch) {
  const std::string info = FdInfoOf(epoll);
  absl::flat_hash_map<int, uint32_t> seen;
  for (const char* at = strstr(info.c_str(), "tfd:"); at != nullptr; at = strstr(at + 1, "tfd:")) {
    Watch watch;
    WatchedFile file;
    unsigned device = 0;  // as the kernel has it
    if (sscanf(at, "tfd: %d events: %x data: %" SCNx64 " pos:%*d ino:%" SCNx64 " sdev:%x",
               &watch.host, &watch.events, &watch.data, &file.inode, &device) != 5) {
      return false;
    }
    file.device = makedev(device >> 20, device & 0xfffff);
    file.before = seen[watch.host]++;
    on_watch(watch, file);
  }
  return true;
}

// Whether `host` is open on what is watched by the number `by`.
bool IsWatched(int epoll, int by, const WatchedFile& file, int host) {
  struct stat status;
  if (fstat(host, &status) != 0) return false;
  // A socket has an inode for itself, and there may be many: to be asked the kernel goes through
  // all that is watched.
  if (S_ISSOCK(status.st_mode)) {
    return status.st_ino == file.inode && status.st_dev == file.device;
  }
  const pid_t self = getpid();
  kcmp_epoll_slot slot = {static_cast<uint32_t>(epoll), static_cast<uint32_t>(by), file.before};
  const long result = syscall(SYS_kcmp, self, self, KCMP_EPOLL_TFD, host, &slot);
  return result >= 0 ? result == 0 : host == by;  // not every sandbox lets it be asked
}

// Those that watch this one are saved before: to look at what it has to report changes theirs.
absl::Status SaveWatchersOf(int epoll, FileSaver& saver) {
  if (!saver.epoll_watchers.has_value()) {
    auto& watchers = saver.epoll_watchers.emplace();
    for (const FdTable::Entry& entry : saver.table().Entries()) {
      if (entry.file->description->kind != FileKind::kEpoll) continue;
      ForEachWatch(entry.file->host.get(), [&](const Watch& watch, const WatchedFile&) {
        watchers[watch.host].push_back(entry.file);
      });
    }
  }
  auto it = saver.epoll_watchers->find(epoll);
  if (it == saver.epoll_watchers->end()) return absl::OkStatus();
  const std::vector<std::shared_ptr<OpenFile>> files = it->second;
  for (const auto& file : files) KM_RETURN_IF_ERROR(saver.Description(file).status());
  return absl::OkStatus();
}

// The program's descriptor of what is watched by the number `by`: that one, or a duplicate of it.
const FdTable::Entry* EntryOf(int epoll, int by, const WatchedFile& file,
                              absl::Span<const FdTable::Entry> entries,
                              const absl::flat_hash_map<int, const FdTable::Entry*>& by_host) {
  const auto it = by_host.find(by);
  if (it != by_host.end() && IsWatched(epoll, by, file, by)) return it->second;
  for (const FdTable::Entry& entry : entries) {
    if (IsWatched(epoll, by, file, entry.file->host.get())) return &entry;
  }
  return nullptr;
}

// By descriptor: the kernel's own order is that of addresses in it.
absl::StatusOr<std::vector<Watch>> Watches(int epoll, FdTable& table) {
  const std::vector<FdTable::Entry> entries = table.Entries();
  absl::flat_hash_map<int, const FdTable::Entry*> by_host;
  for (const FdTable::Entry& entry : entries) by_host[entry.file->host.get()] = &entry;
  std::vector<Watch> watches;
  bool all_open = true;
  const bool tells = ForEachWatch(epoll, [&](Watch watch, const WatchedFile& file) {
    const FdTable::Entry* entry = EntryOf(epoll, watch.host, file, entries, by_host);
    watch.by_other = entry != nullptr && entry->file->host.get() != watch.host;
    // What is found out by having it report could not be undone.
    if (entry == nullptr || (watch.by_other && (watch.events & (EPOLLET | EPOLLONESHOT)) != 0)) {
      all_open = false;
      return;
    }
    watch.host = entry->file->host.get();
    watch.number = static_cast<uint32_t>(entry->number);
    const bool only_failures = (watch.events & ~kManner) == kAlways;
    if ((watch.events & EPOLLONESHOT) != 0 && only_failures &&
        NeverFails(entry->file->description->kind)) {
      watch.events &= ~kAlways;
    }
    watches.push_back(watch);
  });
  if (!tells) return absl::InternalError("does not tell what it watches in /proc/self/fdinfo");
  if (!all_open) {
    return absl::FailedPreconditionError(
        "watches a file by a descriptor that was closed while a duplicate is open: remove it "
        "(EPOLL_CTL_DEL) before it is closed");
  }
  std::sort(watches.begin(), watches.end(),
            [](const Watch& a, const Watch& b) { return a.number < b.number; });
  return watches;
}

// Whose event it is. The kernel tells the program's data only, which several watches may have in
// common: then one that is ready and is not in the list yet.
Watch* WatchOf(const epoll_event& event, absl::Span<Watch* const> same_data) {
  for (Watch* watch : same_data) {
    if (watch->place != 0 || HasFired(*watch)) continue;
    if ((event.events & ~(watch->events | kAlways)) != 0) continue;
    if (same_data.size() == 1 || ReadyNow(*watch, watch->host) != 0) return watch;
  }
  return nullptr;
}

// Watches anew, in this order, what was taken from the list by looking at it. All of it, whatever
// fails: what is left out would never be reported.
absl::Status PutBack(int epoll, absl::Span<Watch* const> list) {
  const bool taken = std::any_of(list.begin(), list.end(), [](const Watch* watch) {
    return (watch->events & (EPOLLET | EPOLLONESHOT)) != 0;
  });
  if (!taken) return absl::OkStatus();  // those of the others go to its end by themselves
  absl::Status status;
  for (const Watch* watch : list) {
    if (watch->by_other) continue;
    epoll_event event = {};
    event.events = watch->events;
    event.data.u64 = watch->data;
    if (epoll_ctl(epoll, EPOLL_CTL_DEL, watch->host, nullptr) != 0 ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, watch->host, &event) != 0) {
      status.Update(
          ErrnoStatus(errno, absl::StrCat("cannot go on watching descriptor ", watch->number)));
    }
  }
  return status;
}

// What the instance would report now and in which order can only be found out by having it report:
// what that changes is undone. (Another instance that watches this one edge-triggered may see it.)
absl::Status FindReady(int epoll, std::vector<Watch>& watches) {
  if (watches.empty()) return absl::OkStatus();
  std::vector<epoll_event> events(watches.size());
  const int count = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), 0);
  if (count < 0) return ErrnoStatus(errno, "cannot be asked what it has to report");
  absl::flat_hash_map<uint64_t, std::vector<Watch*>> by_data;
  for (Watch& watch : watches) by_data[watch.data].push_back(&watch);
  std::vector<Watch*> list;
  const auto append = [&](Watch* watch) {
    list.push_back(watch);
    watch->place = static_cast<uint32_t>(list.size());
  };
  for (const epoll_event& event : absl::MakeSpan(events).first(static_cast<size_t>(count))) {
    const uint64_t data = event.data.u64;
    if (Watch* watch = WatchOf(event, by_data[data]); watch != nullptr) append(watch);
  }
  // Which of several it was cannot always be told: an edge too many is better than one that is
  // lost.
  for (const epoll_event& event : absl::MakeSpan(events).first(static_cast<size_t>(count))) {
    const uint64_t data = event.data.u64;
    if (by_data[data].size() < 2) continue;
    for (Watch* watch : by_data[data]) {
      if (watch->place == 0 && (watch->events & (EPOLLET | EPOLLONESHOT)) != 0 &&
          !HasFired(*watch) && ReadyNow(*watch, watch->host) != 0) {
        append(watch);
      }
    }
  }
  return PutBack(epoll, list);
}

absl::Status Save(const OpenFile& file, FileSaver& saver, FileRecord& record) {
  const int epoll = file.host.get();
  KM_RETURN_IF_ERROR(SaveWatchersOf(epoll, saver));
  KM_ASSIGN_OR_RETURN(std::vector<Watch> watches, Watches(epoll, saver.table()));
  KM_RETURN_IF_ERROR(FindReady(epoll, watches));
  for (Watch& watch : watches) {
    if ((watch.events & EPOLLET) != 0 && !HasFired(watch)) {
      watch.ready = ReadyNow(watch, watch.host);
    }
  }
  record.state = Encode(watches);
  return absl::OkStatus();
}

// ---- Restoring ----

absl::StatusOr<OwnedFd> Restore(const FileRecord&, FileRestorer&) {
  OwnedFd fd(epoll_create1(EPOLL_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot make an epoll instance");
  return fd;
}

absl::StatusOr<std::shared_ptr<OpenFile>> Target(const Watch& watch, FileRestorer& restorer) {
  std::shared_ptr<OpenFile> target = restorer.table().Get(watch.number);
  if (target == nullptr) {
    return absl::DataLossError(
        absl::StrCat("an epoll instance watches ", watch.number, ", which is no open descriptor"));
  }
  return target;
}

absl::Status Control(int epoll, int operation, const Watch& watch, uint32_t events,
                     FileRestorer& restorer) {
  KM_ASSIGN_OR_RETURN(std::shared_ptr<OpenFile> target, Target(watch, restorer));
  epoll_event event = {};
  event.events = events;
  event.data.u64 = watch.data;
  if (epoll_ctl(epoll, operation, target->host.get(), &event) == 0) return absl::OkStatus();
  if (errno == EEXIST) {
    // It was watched by two: the other one was closed since.
    const OwnedFd other(fcntl(target->host.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (epoll_ctl(epoll, operation, other.get(), &event) == 0) return absl::OkStatus();
  }
  if (errno == EPERM && target->description->given >= 0) {
    Log(LogLevel::kInfo,
        absl::StrCat("descriptor ", watch.number, ", as it was given, cannot be watched by epoll"));
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, absl::StrCat("an epoll instance cannot watch ", watch.number));
}

// Once around its list, in which there are `count` at most.
void TakeAll(int epoll, size_t count) {
  constexpr size_t kAtOnce = 16;
  epoll_event taken[kAtOnce];
  for (size_t i = 0; i <= count / kAtOnce; i++) {
    if (epoll_wait(epoll, taken, kAtOnce, 0) <= 0) return;
  }
}

// A byte into an empty pipe, so that its reading end is ready, and out again.
void FireByPipe(int epoll, size_t watches, const OpenFile& target) {
  const int host = target.host.get();
  if (target.description->kind != FileKind::kPipe || target.description->foreign ||
      !target.description->path.empty() || (fcntl(host, F_GETFL) & O_ACCMODE) != O_RDONLY) {
    return;
  }
  const std::string path = absl::StrCat("/proc/self/fd/", host);
  const OwnedFd both(open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  char byte = 0;
  if (!both.valid() || write(both.get(), &byte, 1) != 1) return;
  TakeAll(epoll, watches);
  if (read(both.get(), &byte, 1) != 1) Log(LogLevel::kError, "a byte is lost in a pipe");
}

// The host's descriptors of watches that are for anything.
absl::flat_hash_set<int> Armed(int epoll) {
  absl::flat_hash_set<int> armed;
  ForEachWatch(epoll, [&](const Watch& watch, const WatchedFile&) {
    if ((watch.events & ~kManner) != 0) armed.insert(watch.host);
  });
  return armed;
}

// One-shot watches that have fired: they fire once more, unseen, where the file is ready for
// anything. Where it is not, the watch is left with what cannot be switched off by a call.
absl::Status Disarm(int epoll, absl::Span<const Watch> watches, FileRestorer& restorer) {
  for (const Watch& watch : watches) {
    const uint32_t events = kAnything | EPOLLONESHOT | (watch.events & kManner);
    KM_RETURN_IF_ERROR(Control(epoll, EPOLL_CTL_ADD, watch, events, restorer));
  }
  TakeAll(epoll, watches.size());
  if (watches.empty()) return absl::OkStatus();
  absl::flat_hash_set<int> armed = Armed(epoll);
  for (const Watch& watch : watches) {
    KM_ASSIGN_OR_RETURN(std::shared_ptr<OpenFile> target, Target(watch, restorer));
    if (armed.contains(target->host.get())) FireByPipe(epoll, watches.size(), *target);
  }
  armed = Armed(epoll);
  for (const Watch& watch : watches) {
    KM_ASSIGN_OR_RETURN(std::shared_ptr<OpenFile> target, Target(watch, restorer));
    if (!armed.contains(target->host.get())) continue;
    const uint32_t events = EPOLLONESHOT | (watch.events & kManner);
    KM_RETURN_IF_ERROR(Control(epoll, EPOLL_CTL_MOD, watch, events, restorer));
  }
  return absl::OkStatus();
}

// An edge that the program was told of before the snapshot, of a file that is as it was then, with
// nothing new. It is told again of all others: of connections that were reset, for instance.
bool WasTold(const Watch& watch, FileRestorer& restorer) {
  if ((watch.events & EPOLLET) == 0 || (watch.events & EPOLLONESHOT) != 0 || watch.place != 0) {
    return false;
  }
  std::shared_ptr<OpenFile> target = restorer.table().Get(watch.number);
  if (target == nullptr || target->description->given >= 0 || target->description->foreign) {
    return false;
  }
  const bool ours = target->description->path.empty();  // nobody else can have changed it since
  return ours && (ReadyNow(watch, target->host.get()) & ~watch.ready) == 0;
}

absl::Status Finish(const FileRecord& record, const OpenFile& file, FileRestorer& restorer) {
  KM_ASSIGN_OR_RETURN(std::vector<Watch> watches, Decode(record));
  const int epoll = file.host.get();
  // What it reports of another instance depends on what that one has to report.
  for (const Watch& watch : watches) {
    KM_ASSIGN_OR_RETURN(std::shared_ptr<OpenFile> target, Target(watch, restorer));
    if (target->description->kind == FileKind::kEpoll) {
      KM_RETURN_IF_ERROR(restorer.Finish(*target->description));
    }
  }
  const auto fired = std::stable_partition(watches.begin(), watches.end(), HasFired);
  const auto told = std::stable_partition(
      fired, watches.end(), [&](const Watch& watch) { return WasTold(watch, restorer); });
  const auto listed =
      std::stable_partition(told, watches.end(), [](const Watch& w) { return w.place != 0; });
  std::stable_sort(told, listed, [](const Watch& a, const Watch& b) { return a.place < b.place; });
  const auto count = [&](auto end) { return static_cast<size_t>(end - watches.begin()); };
  KM_RETURN_IF_ERROR(Disarm(epoll, absl::MakeSpan(watches).first(count(fired)), restorer));
  for (auto it = fired; it != watches.end(); ++it) {
    if (it == told) TakeAll(epoll, watches.size());
    KM_RETURN_IF_ERROR(Control(epoll, EPOLL_CTL_ADD, *it, it->events, restorer));
  }
  if (told == watches.end()) TakeAll(epoll, watches.size());
  return absl::OkStatus();
}

}  // namespace

const FileKindRow kEpollKind = {
    FileKind::kEpoll, "epoll instance", Describe, Save, Restore, Finish};

}  // namespace km
