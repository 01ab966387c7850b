// Eventfds: the count, and whether a read takes one or all of it.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/generation_fd.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"

namespace km {
namespace {

struct State {
  uint64_t count = 0;
  bool semaphore = false;
  bool generation = false;
};

absl::StatusOr<State> Decode(const FileRecord& record) {
  State state;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    if (tag != KM_EVENTFD_STATE) return false;
    state.count = value->U64();
    state.semaphore = value->U32() != 0;
    state.generation = value->U32() != 0;
    return true;
  }));
  if (state.count != UINT64_MAX) return state;
  return absl::DataLossError("an eventfd's count is impossible");
}

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_ASSIGN_OR_RETURN(State state, Decode(record));
  return absl::StrCat("count ", state.count, state.semaphore ? ", semaphore" : "",
                      state.generation ? ", counts resumes" : "");
}

absl::Status Save(const OpenFile& file, FileSaver&, FileRecord& record) {
  std::string info = FdInfoOf(file.host.get());
  const char* count = strstr(info.c_str(), "eventfd-count:");
  State state;
  if (count == nullptr || sscanf(count, "eventfd-count: %" SCNx64, &state.count) != 1) {
    return absl::InternalError("does not tell its count in /proc/self/fdinfo");
  }
  // Kernels before 6.5 do not tell.
  state.semaphore = file.description->semaphore || absl::StrContains(info, "eventfd-semaphore: 1");
  ByteWriter out;
  const size_t begin = out.BeginRecord(KM_EVENTFD_STATE);
  out.U64(state.count);
  out.U32(state.semaphore ? 1 : 0);
  out.U32(file.description->path == kGenerationFdPath ? 1 : 0);
  out.EndRecord(begin);
  record.state = out.Take();
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer&) {
  KM_ASSIGN_OR_RETURN(State state, Decode(record));
  OwnedFd fd(eventfd(0, EFD_CLOEXEC | (record.flags & O_NONBLOCK ? EFD_NONBLOCK : 0) |
                            (state.semaphore ? EFD_SEMAPHORE : 0)));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot make an eventfd");
  if (state.generation && state.count < UINT64_MAX - 1) ++state.count;
  if (state.count != 0 && write(fd.get(), &state.count, sizeof(state.count)) < 0) {
    return ErrnoStatus(errno, "cannot give an eventfd its count");
  }
  return fd;
}

absl::Status Finish(const FileRecord& record, const OpenFile& file, FileRestorer&) {
  KM_ASSIGN_OR_RETURN(State state, Decode(record));
  file.description->semaphore = state.semaphore;
  if (state.generation) file.description->path = kGenerationFdPath;
  return absl::OkStatus();
}

}  // namespace

const FileKindRow kEventFdKind = {FileKind::kEventFd, "eventfd", Describe, Save, Restore, Finish};

}  // namespace km
