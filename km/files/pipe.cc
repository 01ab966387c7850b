// Pipes and FIFOs: their ends, their room, and what is in them.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/host_path.h"
#include "km/files/kind.h"
#include "km/files/named_file.h"

namespace km {
namespace {

// What binds users without CAP_SYS_RESOURCE.
constexpr char kPipeLimits[] = "see /proc/sys/fs/pipe-user-pages-soft and pipe-max-size";

struct PipeState {
  uint32_t object = 0;
  uint32_t size = 0;
  uint64_t held = 0;                                // bytes
  std::vector<absl::Span<const uint8_t>> contents;  // in pieces: packets, where O_DIRECT made them
};

absl::StatusOr<PipeState> Decode(const FileRecord& record) {
  PipeState state;
  KM_RETURN_IF_ERROR(ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    switch (tag) {
      case KM_PIPE_OBJECT:
        state.object = value->U32();
        return true;
      case KM_PIPE_SIZE:
        state.size = value->U32();
        return true;
      case KM_PIPE_CONTENTS:
        state.contents.push_back(value->rest());
        state.held += value->rest().size();
        return true;
      default:
        return false;
    }
  }));
  if (state.size > INT_MAX || state.held > state.size) {
    return absl::DataLossError(absl::StrCat("a pipe of ", state.size, " bytes holds ", state.held));
  }
  return state;
}

absl::StatusOr<std::string> Describe(const FileRecord& record) {
  KM_ASSIGN_OR_RETURN(PipeState state, Decode(record));
  std::string text = absl::StrCat("pipe ", state.object);
  if (state.size != 0) absl::StrAppend(&text, ", ", state.held, " of ", state.size, " bytes in it");
  return text;
}

// Whether the first of what `reading` is to read is a packet, of O_DIRECT: of two copies of its
// first byte one read takes both, but for packets.
bool BeginsWithPacket(int reading) {
  int ends[2];
  if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return false;
  const OwnedFd copy(ends[0]), copy_end(ends[1]);
  char bytes[2];
  return tee(reading, copy_end.get(), 1, SPLICE_F_NONBLOCK) == 1 &&
         tee(reading, copy_end.get(), 1, SPLICE_F_NONBLOCK) == 1 &&
         read(copy.get(), bytes, sizeof(bytes)) == 1;
}

// Copies what is in the pipe without taking it out. tee(2) duplicates the buffers, so packets stay
// packets.
absl::Status SaveContents(int host_fd, ByteWriter* out) {
  int waiting = 0;
  if (ioctl(host_fd, FIONREAD, &waiting) != 0) return ErrnoStatus(errno, "ioctl(FIONREAD)");
  const int size = fcntl(host_fd, F_GETPIPE_SZ);
  size_t record = out->BeginRecord(KM_PIPE_SIZE);
  out->U32(static_cast<uint32_t>(size));
  out->EndRecord(record);
  if (waiting == 0) return absl::OkStatus();
  const OwnedFd reading(
      open(absl::StrCat("/proc/self/fd/", host_fd).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  int ends[2];
  if (!reading.valid() || pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) {
    return ErrnoStatus(errno, "cannot be read");
  }
  const OwnedFd copy(ends[0]), copy_end(ends[1]);
  // A smaller one may do for what is in it.
  const bool room = fcntl(copy_end.get(), F_SETPIPE_SZ, size) >= size;
  const int error = errno;
  const ssize_t copied =
      tee(reading.get(), copy_end.get(), static_cast<size_t>(size), SPLICE_F_NONBLOCK);
  if (copied < waiting && !room) {
    return ErrnoStatus(error, absl::StrCat("cannot be copied for want of another one with room for "
                                           "its ",
                                           size, " bytes (", kPipeLimits, ")"));
  }
  if (copied != waiting) return ErrnoStatus(copied < 0 ? errno : EIO, "cannot be copied");
  std::vector<uint8_t> buffer(static_cast<size_t>(waiting));
  ssize_t bytes = 0;
  int pieces = 0;
  while ((bytes = read(copy.get(), buffer.data(), buffer.size())) > 0) {
    record = out->BeginRecord(KM_PIPE_CONTENTS);
    out->Bytes({buffer.data(), static_cast<size_t>(bytes)});
    out->EndRecord(record);
    pieces += 1;
  }
  // One packet alone is told from a stream by an empty piece behind it.
  if (pieces == 1 && BeginsWithPacket(reading.get())) {
    out->EndRecord(out->BeginRecord(KM_PIPE_CONTENTS));
  }
  return absl::OkStatus();
}

absl::Status Save(const OpenFile& file, FileSaver& saver, FileRecord& record) {
  const int host = file.host.get();
  std::string path = HostPathOf(host);
  if (absl::StartsWith(path, "/")) {
    if (!HasName(host, path)) return absl::FailedPreconditionError("is a FIFO that was deleted");
    record.path = std::move(path);
  } else if (file.description->foreign) {
    return absl::FailedPreconditionError(
        "leads to another process, whose end is not in the snapshot: close it before");
  }
  bool first = false;
  const int64_t object = saver.Object(host, &first);
  if (object < 0) return ErrnoStatus(errno, "fstat");
  ByteWriter out;
  const size_t begin = out.BeginRecord(KM_PIPE_OBJECT);
  out.U32(static_cast<uint32_t>(object));
  out.EndRecord(begin);
  if (first) KM_RETURN_IF_ERROR(SaveContents(host, &out));
  record.state = out.Take();
  return absl::OkStatus();
}

// The pipe's own ends, or both ends of a FIFO in one: opening them again does not wait, and a write
// finds a reader.
absl::Status Hold(const FileRecord& record, FileRestorer& restorer, std::array<OwnedFd, 2>& held) {
  if (!record.path.empty()) {
    FileRecord both = record;
    both.flags = O_RDWR | O_NONBLOCK;
    KM_ASSIGN_OR_RETURN(held[0], OpenNamed(both, S_IFIFO, 0, restorer));
    return absl::OkStatus();
  }
  int ends[2];
  if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return ErrnoStatus(errno, "cannot make a pipe");
  held = {OwnedFd(ends[0]), OwnedFd(ends[1])};
  return absl::OkStatus();
}

// An end as pipe(2) made it. Every open(2) of it adds O_LARGEFILE, which fcntl(F_GETFL) shows.
constexpr uint32_t kLargeFile = 0100000;

bool IsOriginalEnd(const FileRecord& record) {
  return record.path.empty() && (record.flags & kLargeFile) == 0 &&
         (record.flags & O_ACCMODE) != O_RDWR;
}

absl::StatusOr<OwnedFd> OriginalEnd(const FileRecord& record, const std::array<OwnedFd, 2>& held) {
  const bool writing = (record.flags & O_ACCMODE) == O_WRONLY;
  OwnedFd end(fcntl(held[writing ? 1 : 0].get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  const uint32_t flags = record.flags & (O_NONBLOCK | O_DIRECT | O_APPEND | O_NOATIME);
  if (!end.valid() || fcntl(end.get(), F_SETFL, flags) != 0) {
    return ErrnoStatus(errno, "cannot have an end of a pipe");
  }
  return end;
}

absl::Status Fill(int host_fd, const PipeState& state, FileRestorer& restorer) {
  absl::Status small;
  if (state.size != 0 && fcntl(host_fd, F_SETPIPE_SZ, state.size) < 0) {
    small = ErrnoStatus(errno, absl::StrCat("cannot give a pipe room for ", state.size, " bytes (",
                                            kPipeLimits, ")"));
    restorer.Warn(absl::StrCat(small.message(), "; it has ", fcntl(host_fd, F_GETPIPE_SZ)));
  }
  // Others may have written to a FIFO since.
  int waiting = 0;
  if (ioctl(host_fd, FIONREAD, &waiting) != 0 || waiting != 0) return absl::OkStatus();
  // In packets, as they were read: a stream is read in one piece.
  const bool packets = state.contents.size() > 1;
  if (packets && fcntl(host_fd, F_SETFL, O_NONBLOCK | O_DIRECT) != 0) {
    return ErrnoStatus(errno, "fcntl(F_SETFL)");
  }
  for (absl::Span<const uint8_t> piece : state.contents) {
    if (write(host_fd, piece.data(), piece.size()) != static_cast<ssize_t>(piece.size())) {
      return small.ok() ? ErrnoStatus(errno, "cannot fill a pipe") : small;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<OwnedFd> Restore(const FileRecord& record, FileRestorer& restorer) {
  KM_ASSIGN_OR_RETURN(PipeState state, Decode(record));
  std::array<OwnedFd, 2>& held = restorer.Held(state.object);
  if (!held[0].valid()) KM_RETURN_IF_ERROR(Hold(record, restorer, held));
  if (state.size != 0) {
    FileRecord both;
    both.flags = O_RDWR | O_NONBLOCK;
    KM_ASSIGN_OR_RETURN(OwnedFd filled, Reopen(held[0].get(), both));
    KM_RETURN_IF_ERROR(Fill(filled.get(), state, restorer));
  }
  if (IsOriginalEnd(record) && held[1].valid()) return OriginalEnd(record, held);
  return Reopen(held[0].get(), record);
}

}  // namespace

const FileKindRow kPipeKind = {FileKind::kPipe, "pipe", Describe, Save, Restore, nullptr};

}  // namespace km
