// Epoll instances: what they watch.
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "absl/container/flat_hash_map.h"
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
};

// The kernel always watches for these, but for a one-shot watch that has fired.
constexpr uint32_t kAlways = EPOLLERR | EPOLLHUP;
constexpr uint32_t kAnything = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP;

absl::StatusOr<std::vector<Watch>> Decode(const FileRecord& record) {
  std::vector<Watch> watches;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    if (tag != KM_EPOLL_WATCH) return false;
    Watch& watch = watches.emplace_back();
    watch.number = value->U32();
    watch.events = value->U32();
    watch.data = value->U64();
    return true;
  }));
  return watches;
}

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_ASSIGN_OR_RETURN(std::vector<Watch> watches, Decode(record));
  std::string text = "watches";
  for (const Watch& watch : watches) absl::StrAppend(&text, " ", watch.number);
  return watches.empty() ? "watches nothing" : text;
}

absl::Status Save(const OpenFile& file, FileSaver& saver, FileRecord& record) {
  absl::flat_hash_map<int, int> numbers;  // by the host's
  for (const FdTable::Entry& entry : saver.table().Entries()) {
    numbers[entry.file->host.get()] = entry.number;
  }
  const std::string info = FdInfoOf(file.host.get());
  ByteWriter out;
  for (const char* at = strstr(info.c_str(), "tfd:"); at != nullptr; at = strstr(at + 1, "tfd:")) {
    int host = 0;
    Watch watch;
    if (sscanf(at, "tfd: %d events: %x data: %" SCNx64, &host, &watch.events, &watch.data) != 3) {
      return absl::InternalError("does not tell what it watches in /proc/self/fdinfo");
    }
    auto it = numbers.find(host);
    if (it == numbers.end()) {
      return absl::FailedPreconditionError(
          "watches a file by a descriptor that was closed while a duplicate is open: remove it "
          "(EPOLL_CTL_DEL) before it is closed");
    }
    const auto number = static_cast<uint32_t>(it->second);
    numbers.erase(it);  // a second watch by the same number is by one that was closed
    const size_t begin = out.BeginRecord(KM_EPOLL_WATCH);
    out.U32(number);
    out.U32(watch.events);
    out.U64(watch.data);
    out.EndRecord(begin);
  }
  record.state = out.Take();
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Restore(const FileRecord&, FileRestorer&) {
  OwnedFd fd(epoll_create1(EPOLL_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot make an epoll instance");
  return fd;
}

absl::Status Control(int epoll, int operation, const Watch& watch, uint32_t events,
                     FileRestorer& restorer) {
  std::shared_ptr<OpenFile> target = restorer.table().Get(watch.number);
  if (target == nullptr) {
    return absl::DataLossError(
        absl::StrCat("an epoll instance watches ", watch.number, ", which is no open descriptor"));
  }
  epoll_event event = {};
  event.events = events;
  event.data.u64 = watch.data;
  if (epoll_ctl(epoll, operation, target->host.get(), &event) == 0) return absl::OkStatus();
  if (errno == EPERM && target->description->given >= 0) {
    Log(LogLevel::kInfo,
        absl::StrCat("descriptor ", watch.number, ", as it was given, cannot be watched by epoll"));
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, absl::StrCat("an epoll instance cannot watch ", watch.number));
}

// One-shot watches that have fired: they fire once more, unseen, where the file is ready for
// anything. Where it is not, the watch is left with what cannot be switched off by a call.
absl::Status Disarm(int epoll, absl::Span<const Watch> watches, FileRestorer& restorer) {
  for (const Watch& watch : watches) {
    KM_RETURN_IF_ERROR(Control(epoll, EPOLL_CTL_ADD, watch, kAnything | EPOLLONESHOT, restorer));
  }
  epoll_event fired[16];
  while (epoll_wait(epoll, fired, 16, 0) > 0) {
  }
  const std::string info = FdInfoOf(epoll);
  for (const Watch& watch : watches) {
    std::shared_ptr<OpenFile> target = restorer.table().Get(watch.number);
    const std::string line = absl::StrFormat("tfd: %8d events: %8x", target->host.get(),
                                             kAnything | kAlways | EPOLLONESHOT);
    if (info.find(line) == info.npos) continue;
    KM_RETURN_IF_ERROR(Control(epoll, EPOLL_CTL_MOD, watch, EPOLLONESHOT, restorer));
  }
  return absl::OkStatus();
}

absl::Status Finish(const FileRecord& record, const OpenFile& file, FileRestorer& restorer) {
  KM_ASSIGN_OR_RETURN(std::vector<Watch> watches, Decode(record));
  const auto armed = std::stable_partition(watches.begin(), watches.end(), [](const Watch& watch) {
    return (watch.events & EPOLLONESHOT) != 0 && (watch.events & kAlways) == 0;
  });
  const auto fired = static_cast<size_t>(armed - watches.begin());
  KM_RETURN_IF_ERROR(Disarm(file.host.get(), absl::MakeSpan(watches).first(fired), restorer));
  for (const Watch& watch : absl::MakeSpan(watches).subspan(fired)) {
    KM_RETURN_IF_ERROR(Control(file.host.get(), EPOLL_CTL_ADD, watch, watch.events, restorer));
  }
  return absl::OkStatus();
}

}  // namespace

const FileKindRow kEpollKind = {
    FileKind::kEpoll, "epoll instance", Describe, Save, Restore, Finish};

}  // namespace km
