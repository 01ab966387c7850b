#include "km/files/unnamed_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "km/base/records.h"
#include "km/base/status.h"
#include "km/files/named_file.h"

namespace km {
namespace {

constexpr uint32_t kModeBits = 07777, kExecuteBits = 0111;
// Newer than the headers.
constexpr unsigned kNoExecSeal = 0x8, kExec = 0x10;  // MFD_NOEXEC_SEAL, MFD_EXEC
constexpr uint32_t kSealExec = 0x20;                 // F_SEAL_EXEC

// F_SEAL_EXEC seals the rights of execution as they are, and of a file that may be executed all
// that is written too.
OwnedFd MakeMemFd(const MemoryObject& object, std::optional<uint32_t> mode) {
  const std::string name = object.name.substr(0, 200);
  constexpr unsigned kAny = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const bool sealed = (object.seals & kSealExec) != 0;
  const bool executable =
      mode.has_value() ? (*mode & kExecuteBits) != 0 : !sealed || (object.seals & F_SEAL_WRITE);
  OwnedFd fd(memfd_create(name.c_str(), kAny | (sealed && !executable ? kNoExecSeal : kExec)));
  // Kernels before 6.3 know neither; where vm.memfd_noexec forbids the second there is no other.
  if (!fd.valid()) fd = OwnedFd(memfd_create(name.c_str(), kAny));
  if (fd.valid() && mode.has_value()) (void)fchmod(fd.get(), 0600 | (*mode & kExecuteBits));
  return fd;
}

}  // namespace

absl::Status SaveMemoryObject(int host_fd, uint32_t kind, const std::string& name, FileSaver& saver,
                              FileRecord& record) {
  KM_ASSIGN_OR_RETURN(uint64_t address, saver.Memory(host_fd, kind, name));
  struct stat status;
  if (fstat(host_fd, &status) != 0) return ErrnoStatus(errno, "fstat");
  ByteWriter out;
  out.U64Record(KM_UNNAMED_OBJECT, address);
  const size_t attributes = out.BeginRecord(KM_UNNAMED_ATTRIBUTES);
  out.U32(status.st_mode & kModeBits);
  out.U32(status.st_uid);
  out.U32(status.st_gid);
  out.EndRecord(attributes);
  record.state = out.Take();
  return absl::OkStatus();
}

bool ReadUnnamed(uint32_t tag, ByteReader* value, UnnamedState* state) {
  if (tag == KM_UNNAMED_OBJECT) {
    state->object = value->U64();
    return true;
  }
  if (tag != KM_UNNAMED_ATTRIBUTES) return false;
  state->mode = value->U32() & kModeBits;
  state->owner.uid = value->U32();
  state->owner.gid = value->U32();
  return true;
}

std::string UnnamedText(const UnnamedState& state) {
  std::string text = absl::StrCat("its contents at ", absl::Hex(state.object));
  if (state.mode.has_value()) {
    absl::StrAppendFormat(&text, ", mode %04o, user %u, group %u", *state.mode, state.owner.uid,
                          state.owner.gid);
  }
  return text;
}

UnnamedState UnnamedOf(const FileRecord& record) {
  UnnamedState state;
  (void)ForEachRecord(ByteReader(record.state), [&](uint32_t tag, ByteReader* value) {
    return ReadUnnamed(tag, value, &state);
  });
  return state;
}

uint64_t MemoryObjectOf(const FileRecord& record) { return UnnamedOf(record).object; }

absl::StatusOr<OwnedFd> RestoreMemoryObject(const FileRecord& record, FileRestorer& restorer) {
  KM_ASSIGN_OR_RETURN(int object, restorer.Memory(MemoryObjectOf(record)));
  // fcntl(F_GETFL) shows O_TMPFILE, which only the first open of such a file can have.
  const auto is_first = [](uint32_t flags) { return (flags & O_TMPFILE) == O_TMPFILE; };
  const bool first = is_first(record.flags) && (record.flags & O_ACCMODE) == O_RDWR &&
                     is_first(static_cast<uint32_t>(fcntl(object, F_GETFL)));
  OwnedFd host;
  if (first) {
    host = OwnedFd(fcntl(object, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    const uint32_t flags = record.flags & (O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME);
    if (!host.valid() || fcntl(host.get(), F_SETFL, flags) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot have '", record.path, "'"));
    }
  } else {
    KM_ASSIGN_OR_RETURN(host, Reopen(object, record));
  }
  if (lseek(host.get(), record.offset, SEEK_SET) < 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot seek in '", record.path, "'"));
  }
  return host;
}

absl::Status FinishMemoryObject(const FileRecord& record, const OpenFile& file,
                                FileRestorer& restorer) {
  const UnnamedState state = UnnamedOf(record);
  if (state.object == 0 || !state.mode.has_value()) return absl::OkStatus();
  const std::string what = absl::StrCat("'", record.path, "'");
  const int host = file.host.get();
  KM_RETURN_IF_ERROR(restorer.GiveOwner(host, state.owner, what));
  struct stat status;
  if (fstat(host, &status) != 0) return ErrnoStatus(errno, "fstat");
  if ((status.st_mode & kModeBits) == *state.mode || fchmod(host, *state.mode) == 0) {
    return absl::OkStatus();
  }
  const std::string text = absl::StrFormat("%s had mode %04o, and cannot be given it: %s", what,
                                           *state.mode, ErrnoStatus(errno, "fchmod").message());
  if (restorer.policy() == FilePolicy::kStrict) return absl::FailedPreconditionError(text);
  if (restorer.policy() == FilePolicy::kWarn) restorer.Warn(text);
  return absl::OkStatus();
}

absl::flat_hash_map<uint64_t, uint32_t> ModesOf(absl::Span<const FileRecord> records) {
  absl::flat_hash_map<uint64_t, uint32_t> modes;
  for (const FileRecord& record : records) {
    if (record.kind != FileKind::kMemFd && record.kind != FileKind::kRegular) continue;
    const UnnamedState state = UnnamedOf(record);
    if (state.mode.has_value()) modes[state.object] = *state.mode;
  }
  return modes;
}

absl::StatusOr<OwnedFd> MakeMemoryObject(const MemoryObject& object, std::optional<uint32_t> mode) {
  OwnedFd fd;
  if (object.kind == KM_OBJECT_MEMFD) fd = MakeMemFd(object, mode);
  if (object.kind == KM_OBJECT_DELETED_FILE) {
    // On the file system where it was, if that can be: statfs(2) and limits are then the same.
    size_t slash = object.name.rfind('/');
    std::string directory = slash == std::string::npos ? "/" : object.name.substr(0, slash + 1);
    fd = OwnedFd(open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!fd.valid()) fd = OwnedFd(open(P_tmpdir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  }
  if (!fd.valid()) {
    fd = OwnedFd(memfd_create(object.name.substr(0, 200).c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  }
  if (!fd.valid()) return ErrnoStatus(errno, absl::StrCat("cannot make '", object.name, "' anew"));
  if (ftruncate(fd.get(), static_cast<off_t>(object.size)) != 0) {
    return ErrnoStatus(
        errno, absl::StrCat("cannot make '", object.name, "' ", object.size, " bytes long"));
  }
  return fd;
}

bool SealedBeforeMapped(const MemoryObject& object) {
  return object.kind == KM_OBJECT_MEMFD && (object.seals & F_SEAL_WRITE) != 0;
}

absl::Status SealMemoryObject(const MemoryObject& object, int host_fd) {
  const int seals = static_cast<int>(object.seals);
  if (object.kind != KM_OBJECT_MEMFD || fcntl(host_fd, F_GET_SEALS) == seals ||
      fcntl(host_fd, F_ADD_SEALS, seals) == 0) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, absl::StrCat("cannot seal '", object.name, "' again"));
}

}  // namespace km
