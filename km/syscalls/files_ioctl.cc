// ioctl(2) by a list of requests whose argument is known: a request that is not in it could carry a
// pointer or a descriptor that means something else to the host.
#include <asm/termbits.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <linux/random.h>
#include <linux/tty.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <optional>

#include "km/files/host_path.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/ioctl_structs.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/sockets.h"
#include "km/syscalls/terminal.h"

namespace km {
namespace {

enum class Argument {
  kNumber,
  kBuffer,
  kGroupIn,   // a pid_t that names a process group
  kGroupOut,  // ... or a session
  kFd,
  kNewFd,  // a number; the result is a new descriptor
};

struct Request {
  uint32_t number;
  Argument argument;
  uint32_t size;  // of the buffer
};

using enum Argument;

constexpr Request kRequests[] = {
    {TCGETS, kBuffer, sizeof(termios)},
    {TCSETS, kBuffer, sizeof(termios)},
    {TCSETSW, kBuffer, sizeof(termios)},
    {TCSETSF, kBuffer, sizeof(termios)},
    {TCGETS2, kBuffer, sizeof(termios2)},
    {TCSETS2, kBuffer, sizeof(termios2)},
    {TCSETSW2, kBuffer, sizeof(termios2)},
    {TCSETSF2, kBuffer, sizeof(termios2)},
    {TCGETA, kBuffer, sizeof(termio)},
    {TCSETA, kBuffer, sizeof(termio)},
    {TCSETAW, kBuffer, sizeof(termio)},
    {TCSETAF, kBuffer, sizeof(termio)},
    {TIOCGLCKTRMIOS, kBuffer, sizeof(termios)},
    {TIOCSLCKTRMIOS, kBuffer, sizeof(termios)},
    {TCSBRK, kNumber, 0},
    {TCSBRKP, kNumber, 0},
    {TCXONC, kNumber, 0},
    {TCFLSH, kNumber, 0},
    {TIOCEXCL, kNumber, 0},
    {TIOCNXCL, kNumber, 0},
    {TIOCGEXCL, kBuffer, sizeof(int)},
    {TIOCSBRK, kNumber, 0},
    {TIOCCBRK, kNumber, 0},
    {TIOCMGET, kBuffer, sizeof(int)},
    {TIOCMSET, kBuffer, sizeof(int)},
    {TIOCMBIS, kBuffer, sizeof(int)},
    {TIOCMBIC, kBuffer, sizeof(int)},
    {TIOCGSOFTCAR, kBuffer, sizeof(int)},
    {TIOCSSOFTCAR, kBuffer, sizeof(int)},
    {TIOCGETD, kBuffer, sizeof(int)},
    {TIOCGDEV, kBuffer, sizeof(int)},
    {TIOCSCTTY, kNumber, 0},
    {TIOCNOTTY, kNumber, 0},
    {TIOCGPGRP, kGroupOut, sizeof(pid_t)},
    {TIOCSPGRP, kGroupIn, sizeof(pid_t)},
    {TIOCGSID, kGroupOut, sizeof(pid_t)},
    {TIOCOUTQ, kBuffer, sizeof(int)},
    {TIOCGWINSZ, kBuffer, sizeof(winsize)},
    {TIOCSWINSZ, kBuffer, sizeof(winsize)},
    {TIOCGPTN, kBuffer, sizeof(int)},
    {TIOCSPTLCK, kBuffer, sizeof(int)},
    {TIOCGPTLCK, kBuffer, sizeof(int)},
    {TIOCGPTPEER, kNewFd, 0},
    {TIOCPKT, kBuffer, sizeof(int)},
    {TIOCGPKT, kBuffer, sizeof(int)},
    {TIOCSIG, kNumber, 0},
    {FIONREAD, kBuffer, sizeof(int)},
    {FIONBIO, kBuffer, sizeof(int)},
    {FIOASYNC, kBuffer, sizeof(int)},
    {FIOQSIZE, kBuffer, sizeof(loff_t)},
    {FIGETBSZ, kBuffer, sizeof(int)},
    {FICLONE, kFd, 0},
    {FS_IOC_GETFLAGS, kBuffer, sizeof(long)},
    {FS_IOC_SETFLAGS, kBuffer, sizeof(long)},
    {FS_IOC_GETVERSION, kBuffer, sizeof(long)},
    {FS_IOC_SETVERSION, kBuffer, sizeof(long)},
    {FS_IOC_FSGETXATTR, kBuffer, sizeof(fsxattr)},
    {FS_IOC_FSSETXATTR, kBuffer, sizeof(fsxattr)},
    {FS_IOC_GETFSLABEL, kBuffer, FSLABEL_MAX},
    {FS_IOC_SETFSLABEL, kBuffer, FSLABEL_MAX},
    {BLKROGET, kBuffer, sizeof(int)},
    {BLKGETSIZE, kBuffer, sizeof(long)},
    {BLKGETSIZE64, kBuffer, sizeof(uint64_t)},
    {BLKFLSBUF, kNumber, 0},
    {BLKRAGET, kBuffer, sizeof(long)},
    {BLKSSZGET, kBuffer, sizeof(int)},
    {BLKBSZGET, kBuffer, sizeof(int)},
    {BLKPBSZGET, kBuffer, sizeof(int)},
    {BLKIOMIN, kBuffer, sizeof(int)},
    {BLKIOOPT, kBuffer, sizeof(int)},
    {BLKALIGNOFF, kBuffer, sizeof(int)},
    {BLKROTATIONAL, kBuffer, sizeof(short)},
    {BLKDISCARDZEROES, kBuffer, sizeof(int)},
    {BLKDISCARD, kBuffer, 2 * sizeof(uint64_t)},
    {BLKZEROOUT, kBuffer, 2 * sizeof(uint64_t)},
    {BLKGETDISKSEQ, kBuffer, sizeof(uint64_t)},
    {HDIO_GETGEO, kBuffer, sizeof(hd_geometry)},
    {RNDGETENTCNT, kBuffer, sizeof(int)},
};

// A group or session may be one that the host knows by another number (after a resume).
int64_t GroupIn(Call& call, const OpenFile& file, const Request& request) {
  pid_t id = 0;
  auto address = reinterpret_cast<uint64_t>(&id);
  // The host finds out which error comes first.
  if (call.memory().CopyIn(&id, call.Addr(2)) != 0) address = 0;
  id = call.process.ids().HostGroup(id);
  return BlockOn(call, file, SYS_ioctl, {request.number, address, 0, 0, 0});
}

int64_t GroupOut(Call& call, const OpenFile& file, const Request& request) {
  pid_t id = 0;
  int64_t result = HostResult(syscall(SYS_ioctl, file.host.get(), request.number, &id));
  if (result != 0) return result;
  const ProcessIds& ids = call.process.ids();
  id = request.number == TIOCGSID ? ids.GuestSession(id) : ids.GuestGroup(id);
  return call.memory().CopyOut(call.Addr(2), id);
}

// What reaches past the program to whoever uses the terminal next: typing for him, taking the
// console's messages, hanging up. EIO and EPERM are what Linux itself says where it does not allow
// it. A line discipline is code in the host's kernel.
std::optional<int64_t> Refused(Call& call, const OpenFile& file) {
  if (file.description->kind != FileKind::kTerminal) return std::nullopt;
  switch (call.Uint(1)) {
    case TIOCSTI:
      return -EIO;
    case TIOCCONS:
    case TIOCVHANGUP:
      return -EPERM;
    case TIOCSETD: {
      int discipline = 0;
      if (int error = call.memory().CopyIn(&discipline, call.Addr(2)); error != 0) return error;
      return discipline == N_TTY ? 0 : -EINVAL;
    }
    default:
      return std::nullopt;
  }
}

int64_t NewFd(Call& call, const OpenFile& file, const Request& request) {
  bool close_on_exec = (call.arguments[2] & O_CLOEXEC) != 0;
  ReservedFd reserved(call.process.files());
  if (reserved.error() != 0) return reserved.error();
  auto made = static_cast<int>(
      HostResult(syscall(SYS_ioctl, file.host.get(), request.number, call.Int(2) | O_CLOEXEC)));
  if (made < 0) return made;
  return reserved.Fill(OpenFile::Of(made, KindOfHostFd(made), HostPathOf(made)), close_on_exec);
}

// Of an inotify instance.
int64_t Unread(Call& call, const OpenFile& file) {
  const size_t bytes = file.description->held_events.Unread(file.host.get());
  return call.memory().CopyOut(call.Addr(2), static_cast<int>(bytes));
}

int64_t Make(Call& call, const std::shared_ptr<OpenFile>& file, const Request& request) {
  if (request.number == FIONREAD && file->description->held_events.active()) {
    return Unread(call, *file);
  }
  uint64_t argument = call.arguments[2];
  std::shared_ptr<OpenFile> other;
  switch (request.argument) {
    case kNumber:
      break;
    case kBuffer:
      argument = call.Host(argument, request.size);
      break;
    case kGroupIn:
      return GroupIn(call, *file, request);
    case kGroupOut:
      return GroupOut(call, *file, request);
    case kNewFd:
      return NewFd(call, *file, request);
    case kFd:
      other = FileArg(call, 2);
      if (other == nullptr) return -EBADF;
      argument = HostFd(other);
      break;
  }
  return BlockOn(call, *file, SYS_ioctl, {request.number, argument, 0, 0, 0});
}

}  // namespace

SyscallResult Ioctl(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr || file->description->kind == FileKind::kPath) return -EBADF;
  uint32_t number = call.Uint(1);
  // Descriptor flags are the table's, not the host's.
  if (number == FIOCLEX || number == FIONCLEX) {
    return call.process.files().SetCloseOnExec(call.Uint(0), number == FIOCLEX);
  }
  if (auto refused = Refused(call, *file); refused.has_value()) return *refused;
  if (std::optional<int64_t> result = StructIoctl(call, file, number)) return *result;
  if (std::optional<int64_t> result = SocketIoctl(call, file)) return *result;
  auto known = std::find_if(std::begin(kRequests), std::end(kRequests),
                            [number](const Request& r) { return r.number == number; });
  return known != std::end(kRequests) ? Make(call, file, *known) : -ENOTTY;
}

}  // namespace km
