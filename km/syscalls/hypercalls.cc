// What a program asks of the monitor itself; include/km/hypercall.h.
#include <km/hypercall.h>
#include <km/layout.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <cstddef>

#include "km/base/owned.h"
#include "km/files/generation_fd.h"
#include "km/process/generation.h"
#include "km/syscalls/handlers.h"

namespace km {
namespace {

// A string with a limit of its own: -EINVAL where it is longer. Null is the empty string.
int ReadText(Call& call, size_t index, size_t limit, std::string* text) {
  if (call.Addr(index).null()) return 0;
  int error = call.memory().CopyInString(text, call.Addr(index), limit);
  return error == -ENAMETOOLONG ? -EINVAL : error;
}

}  // namespace

SyscallResult HcPresent(Call&) { return KM_ABI_VERSION; }

SyscallResult HcGeneration(Call& call) {
  const absl::Span<const uint8_t> id = GenerationId(call.memory());
  return call.memory().CopyOut(call.Addr(0), id.data(), id.size());
}

SyscallResult HcGenerationFd(Call& call) {
  const int flags = call.Int(0);
  if ((flags & ~(EFD_CLOEXEC | EFD_NONBLOCK)) != 0) return -EINVAL;
  OwnedFd host(eventfd(0, EFD_CLOEXEC | flags));
  if (!host.valid()) return -errno;
  return call.process.files().Add(host.Release(), FileKind::kEventFd, kGenerationFdPath,
                                  (flags & EFD_CLOEXEC) != 0);
}

SyscallResult HcSnapshot(Call& call) {
  if (call.arguments[2] & ~uint64_t{KM_SNAPSHOT_CONTINUE}) return -EINVAL;
  SnapshotRequest& request = call.snapshot;
  if (int error = ReadText(call, 0, KM_SNAPSHOT_LABEL_MAX, &request.label); error != 0)
    return error;
  if (int error = ReadText(call, 1, KM_SNAPSHOT_DESCRIPTION_MAX, &request.description);
      error != 0) {
    return error;
  }
  request.go_on = call.arguments[2] & KM_SNAPSHOT_CONTINUE;
  return {0, NextAction::kSnapshot};
}

}  // namespace km
