#include "km/files/file_locks.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "km/base/status.h"
#include "km/files/host_path.h"

namespace km {
namespace {

// "1: POSIX  ADVISORY  WRITE 1234 fe:00:5678 10 29": what, how, mode, pid, file, first, last byte.
// Source: lock_get_status() of fs/locks.c.
absl::Status Parse(absl::string_view line, uint32_t id, std::vector<LockRecord>* out) {
  const std::vector<std::string> words =
      absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
  constexpr size_t kWhat = 2, kHow = 3, kMode = 4, kFirst = 7, kLast = 8;
  LockRecord lock;
  lock.description = id;
  if (words.size() <= kLast || !absl::SimpleAtoi(words[kFirst], &lock.start)) {
    return absl::FailedPreconditionError(absl::StrCat("has a lock that km cannot read: ", line));
  }
  int64_t last = 0;
  if (words[kLast] != "EOF") {
    if (!absl::SimpleAtoi(words[kLast], &last)) {
      return absl::FailedPreconditionError(absl::StrCat("has a lock that km cannot read: ", line));
    }
    lock.length = last - lock.start + 1;
  }
  lock.exclusive = words[kMode] == "WRITE";
  if (words[kWhat] == "POSIX") {
    lock.kind = KM_LOCK_POSIX;
  } else if (words[kWhat] == "OFDLCK") {
    lock.kind = KM_LOCK_OFD;
  } else if (words[kWhat] == "FLOCK") {
    lock.kind = KM_LOCK_FLOCK;
  } else if (words[kWhat] == "LEASE" && words[kHow] == "ACTIVE") {
    lock.kind = KM_LOCK_LEASE;
  } else {
    return absl::FailedPreconditionError(
        absl::StrCat("has a lease that is being broken: give it up before"));
  }
  out->push_back(lock);
  return absl::OkStatus();
}

int Take(int host_fd, const LockRecord& lock) {
  struct flock range = {};
  range.l_type = static_cast<short>(lock.exclusive ? F_WRLCK : F_RDLCK);
  range.l_start = lock.start;
  range.l_len = lock.length;
  switch (lock.kind) {
    case KM_LOCK_POSIX:
      return fcntl(host_fd, F_SETLK, &range);
    case KM_LOCK_OFD:
      return fcntl(host_fd, F_OFD_SETLK, &range);
    case KM_LOCK_FLOCK:
      return flock(host_fd, (lock.exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB);
    case KM_LOCK_LEASE:
      return fcntl(host_fd, F_SETLEASE, range.l_type);
    default:
      errno = EINVAL;
      return -1;
  }
}

}  // namespace

absl::Status SaveLocks(const OpenFile& file, uint32_t id, std::vector<LockRecord>* out) {
  const FileDescription& description = *file.description;
  if (!description.foreign && !description.may_hold_locks) return absl::OkStatus();
  const std::string info = FdInfoOf(file.host.get());
  for (absl::string_view line : absl::StrSplit(info, '\n')) {
    if (!absl::StartsWith(line, "lock:")) continue;
    KM_RETURN_IF_ERROR(Parse(line, id, out));
  }
  return absl::OkStatus();
}

absl::Status RestoreLocks(FdTable& table, absl::Span<const LockRecord> locks,
                          absl::Span<const DescriptorRecord> descriptors) {
  for (const LockRecord& lock : locks) {
    auto it = std::find_if(descriptors.begin(), descriptors.end(), [&](const auto& descriptor) {
      return descriptor.description == lock.description;
    });
    if (it == descriptors.end()) return absl::DataLossError("it has a lock on no descriptor");
    std::shared_ptr<OpenFile> file = table.Get(it->number);
    if (file == nullptr || Take(file->host.get(), lock) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot take the lock that it held on '",
                                             file != nullptr ? file->description->path : "",
                                             "' (descriptor ", it->number, ")"));
    }
    file->description->may_hold_locks = true;
  }
  return absl::OkStatus();
}

}  // namespace km
