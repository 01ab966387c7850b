#include "km/files/supplied.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "km/base/status.h"
#include "km/files/kind.h"
#include "km/files/mapped_file.h"
#include "km/files/named_file.h"
#include "km/files/socket_state.h"

namespace km {
namespace {

// What the descriptor has that the program relies upon; the rest is the launcher's affair.
constexpr int kSetFlags = O_APPEND | O_NONBLOCK;

absl::Status Misfit(const SuppliedFile& supplied, absl::string_view what,
                    absl::string_view instead_of) {
  return absl::InvalidArgumentError(absl::StrCat(SuppliedText(supplied), ": it is ", what,
                                                 "; the snapshot's descriptor is ", instead_of));
}

// Those that the monitor keeps something of, or that are made of the program's other descriptors.
bool CanBeSupplied(FileKind kind) {
  switch (kind) {
    case FileKind::kRegular:
    case FileKind::kDirectory:
    case FileKind::kPipe:
    case FileKind::kSocket:
    case FileKind::kTerminal:
    case FileKind::kCharacterDevice:
    case FileKind::kEventFd:
    case FileKind::kMemFd:
    case FileKind::kPath:
    case FileKind::kGiven:
      return true;
    default:
      return false;
  }
}

int IntOption(int fd, int name) {
  int value = -1;
  socklen_t size = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

// "a listening IPv4 stream socket".
std::string SocketText(int family, int type, bool listening, bool connected) {
  return absl::StrCat(listening   ? "a listening "
                      : connected ? "a connected "
                                  : "an unconnected ",
                      SocketFamilyName(family), " ", SocketTypeName(type), " socket");
}

absl::Status CheckSocket(const SuppliedFile& supplied, const FileRecord& record, int fd) {
  KM_ASSIGN_OR_RETURN(SocketState state, DecodeSocket(record));
  const bool was_listening = state.condition == KM_SOCKET_LISTENING;
  // A datagram socket may be connected at any time, and again.
  const bool streams = state.type != SOCK_DGRAM && state.type != SOCK_RAW;
  const bool was_connected =
      streams && (state.condition == KM_SOCKET_PAIRED || state.condition == KM_SOCKET_LOST);
  const int family = IntOption(fd, SO_DOMAIN), type = IntOption(fd, SO_TYPE);
  const bool listening = IntOption(fd, SO_ACCEPTCONN) == 1;
  sockaddr_storage peer;
  socklen_t size = sizeof(peer);
  const bool connected =
      streams && !listening && getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
  if (family == state.family && type == state.type &&
      IntOption(fd, SO_PROTOCOL) == state.protocol && listening == was_listening &&
      connected == was_connected) {
    return absl::OkStatus();
  }
  return Misfit(supplied, SocketText(family, type, listening, connected),
                SocketText(state.family, state.type, was_listening, was_connected));
}

const char* AccessName(uint32_t flags) {
  switch (flags & O_ACCMODE) {
    case O_RDONLY:
      return "open for reading";
    case O_WRONLY:
      return "open for writing";
    default:
      return "open for reading and writing";
  }
}

// Whether `fd` can stand for what `record` says; null: for anything.
absl::Status CheckFits(const SuppliedFile& supplied, const FileRecord* record, int fd) {
  const FileKind kind = KindOfHostFd(fd);
  if (!CanBeSupplied(kind)) {
    return absl::InvalidArgumentError(absl::StrCat(
        SuppliedText(supplied), ": ", WithArticle(KindRow(kind).name), " cannot be supplied"));
  }
  // Of /proc, a file may be the monitor's own memory.
  if (kind == FileKind::kRegular && !IsOrdinaryFile(fd)) {
    return absl::InvalidArgumentError(
        absl::StrCat(SuppliedText(supplied), ": files of /proc cannot be supplied"));
  }
  if (record == nullptr || record->kind == FileKind::kGiven) return absl::OkStatus();
  if (kind != record->kind) {
    return Misfit(supplied, WithArticle(KindRow(kind).name),
                  WithArticle(KindRow(record->kind).name));
  }
  if (kind == FileKind::kSocket) return CheckSocket(supplied, *record, fd);
  const auto has = static_cast<uint32_t>(fcntl(fd, F_GETFL)) & O_ACCMODE;
  const uint32_t needs = record->flags & O_ACCMODE;
  if (kind == FileKind::kPath || has == O_RDWR || has == needs) return absl::OkStatus();
  return Misfit(supplied, AccessName(has), AccessName(needs));
}

// Of a file that was not opened yet: opening it may already be impossible.
absl::Status CheckPlace(const SuppliedFile& supplied, const FileRecord& record,
                        const struct stat& status) {
  FileKind kind = FileKind::kOther;
  switch (status.st_mode & S_IFMT) {
    case S_IFREG:
      kind = FileKind::kRegular;
      break;
    case S_IFDIR:
      kind = FileKind::kDirectory;
      break;
    case S_IFIFO:
      kind = FileKind::kPipe;
      break;
    case S_IFBLK:
      kind = FileKind::kBlockDevice;
      break;
    case S_IFSOCK:
      kind = FileKind::kSocket;
      break;
    default:
      return absl::OkStatus();  // terminals tell when they are open
  }
  if (record.kind == FileKind::kGiven || record.kind == FileKind::kPath) return absl::OkStatus();
  if (record.kind == kind) {
    if (kind != FileKind::kSocket) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(SuppliedText(supplied),
                     ": a socket cannot be opened by its path: hand it on as fd:M, or move a "
                     "listener with --listen"));
  }
  return Misfit(supplied, WithArticle(KindRow(kind).name), WithArticle(KindRow(record.kind).name));
}

absl::StatusOr<OwnedFd> OpenPath(const SuppliedFile& supplied, const FileRecord& record) {
  auto failed = [&supplied](int error) {
    return ErrnoStatus(error, absl::StrCat(SuppliedText(supplied), ": cannot open it"));
  };
  const bool place = record.kind == FileKind::kPath;
  const int flags = place ? static_cast<int>(record.flags) & (O_DIRECTORY | O_NOFOLLOW) : 0;
  OwnedFd found(open(supplied.path.c_str(), O_PATH | O_CLOEXEC | flags));
  struct stat status;
  if (!found.valid() || fstat(found.get(), &status) != 0) return failed(errno);
  KM_RETURN_IF_ERROR(CheckPlace(supplied, record, status));
  if (place) return found;
  // The write end of a FIFO cannot be opened before there is a reader.
  OwnedFd both;
  if (S_ISFIFO(status.st_mode)) {
    FileRecord reads_too;
    reads_too.flags = O_RDWR | O_NONBLOCK;
    KM_ASSIGN_OR_RETURN(both, Reopen(found.get(), reads_too));
  }
  absl::StatusOr<OwnedFd> host = Reopen(found.get(), record);
  if (!host.ok()) return failed(ErrnoOf(host.status()));
  if (S_ISREG(status.st_mode) && lseek(host->get(), record.offset, SEEK_SET) < 0) {
    return failed(errno);
  }
  return host;
}

absl::StatusOr<OwnedFd> Duplicate(const SuppliedFile& supplied, const FileRecord* record) {
  // What an exec would not hand on is the monitor's own.
  const int flags = fcntl(supplied.fd, F_GETFD);
  const bool inherited = flags >= 0 && (flags & FD_CLOEXEC) == 0;
  OwnedFd host(
      inherited || supplied.received ? fcntl(supplied.fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : -1);
  if (!host.valid() && supplied.received) {
    return ErrnoStatus(errno, absl::StrCat(SuppliedText(supplied), ": cannot keep it"));
  }
  if (!host.valid()) {
    return absl::InvalidArgumentError(
        absl::StrCat(SuppliedText(supplied), ": km has inherited no descriptor ", supplied.fd));
  }
  KM_RETURN_IF_ERROR(CheckFits(supplied, record, host.get()));
  if (record == nullptr || record->kind == FileKind::kGiven || record->kind == FileKind::kPath) {
    return host;
  }
  const int wanted =
      (fcntl(host.get(), F_GETFL) & ~kSetFlags) | (static_cast<int>(record->flags) & kSetFlags);
  if (fcntl(host.get(), F_SETFL, wanted) != 0) {
    return ErrnoStatus(errno, absl::StrCat(SuppliedText(supplied), ": cannot set its flags"));
  }
  return host;
}

}  // namespace

std::string SuppliedText(const SuppliedFile& supplied) {
  std::string text = absl::StrCat(supplied.received ? "supply " : "--fd ", supplied.number);
  if (!supplied.path.empty()) return absl::StrCat(text, "=", supplied.path);
  return supplied.received ? text : absl::StrCat(text, "=fd:", supplied.fd);
}

absl::StatusOr<SuppliedFile> ParseSupplied(absl::string_view text) {
  SuppliedFile supplied;
  const size_t equals = text.find('=');
  absl::string_view what = equals == text.npos ? "" : text.substr(equals + 1);
  auto bad = [text] {
    return absl::InvalidArgumentError(
        absl::StrCat("what is supplied is N=PATH or N=fd:M, not '", text, "'"));
  };
  if (what.empty() || !absl::SimpleAtoi(text.substr(0, equals), &supplied.number)) return bad();
  if (!absl::ConsumePrefix(&what, "fd:")) {
    supplied.path = std::string(what);
  } else if (!absl::SimpleAtoi(what, &supplied.fd) || supplied.fd < 0) {
    return bad();
  }
  return supplied;
}

absl::StatusOr<OwnedFd> OpenSupplied(const SuppliedFile& supplied, const FileRecord* record) {
  if (record != nullptr && !CanBeSupplied(record->kind)) {
    return absl::InvalidArgumentError(
        absl::StrCat(SuppliedText(supplied), ": the snapshot's descriptor is ",
                     WithArticle(KindRow(record->kind).name), ", which only km can make"));
  }
  if (supplied.path.empty()) return Duplicate(supplied, record);
  FileRecord standard;
  standard.kind = FileKind::kGiven;
  standard.flags = supplied.number == STDIN_FILENO ? O_RDONLY : O_WRONLY;
  KM_ASSIGN_OR_RETURN(OwnedFd host, OpenPath(supplied, record != nullptr ? *record : standard));
  KM_RETURN_IF_ERROR(CheckFits(supplied, record, host.get()));
  return host;
}

}  // namespace km
