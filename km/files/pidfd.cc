#include "km/files/pidfd.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"

namespace km {

int PidfdProcess(int host_fd) {
  int pid = 0;
  for (absl::string_view text : absl::StrSplit(FdInfoOf(host_fd), '\n')) {
    if (absl::ConsumePrefix(&text, "Pid:\t")) (void)absl::SimpleAtoi(text, &pid);
  }
  return pid;
}

namespace {

absl::Status Save(const OpenFile& file, FileSaver& /*saver*/, FileRecord& /*record*/) {
  if (PidfdProcess(file.host.get()) == getpid()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "stands for another process, which is not in the snapshot: close it before");
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer& /*restorer*/) {
  constexpr uint32_t kNonblock = 04000;  // PIDFD_NONBLOCK
  OwnedFd host(static_cast<int>(syscall(SYS_pidfd_open, getpid(), record.flags & kNonblock)));
  if (!host.valid()) return ErrnoStatus(errno, "cannot open a pidfd of the process itself");
  return host;
}

}  // namespace

const FileKindRow kPidFdKind = {FileKind::kPidFd, "pidfd", DescribeNothing, Save, Restore, nullptr};

}  // namespace km
