// ioctl(2) by a list of requests whose argument is known: a request that is not in it could carry a
// pointer or a descriptor that means something else to the host.
#include <asm/termbits.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <linux/random.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <optional>

#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/ioctl_structs.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/sockets.h"

namespace km {
namespace {

enum class Argument { kNumber, kBuffer, kProcessIdIn, kProcessIdOut, kFd };

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
    {TCSBRK, kNumber, 0},
    {TCSBRKP, kNumber, 0},
    {TCXONC, kNumber, 0},
    {TCFLSH, kNumber, 0},
    {TIOCEXCL, kNumber, 0},
    {TIOCNXCL, kNumber, 0},
    {TIOCSCTTY, kNumber, 0},
    {TIOCNOTTY, kNumber, 0},
    {TIOCGPGRP, kProcessIdOut, sizeof(pid_t)},
    {TIOCSPGRP, kProcessIdIn, sizeof(pid_t)},
    {TIOCGSID, kProcessIdOut, sizeof(pid_t)},
    {TIOCOUTQ, kBuffer, sizeof(int)},
    {TIOCGWINSZ, kBuffer, sizeof(winsize)},
    {TIOCSWINSZ, kBuffer, sizeof(winsize)},
    {TIOCGPTN, kBuffer, sizeof(int)},
    {TIOCSPTLCK, kBuffer, sizeof(int)},
    {TIOCGPTLCK, kBuffer, sizeof(int)},
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

// The process's own id where the host knows it by another (after a resume), in both directions.
int64_t ProcessIdCall(Call& call, const OpenFile& file, const Request& request) {
  auto guest = static_cast<pid_t>(call.process.identity().pid);
  pid_t id = 0;
  if (request.argument == kProcessIdIn) {
    if (int error = call.memory().CopyIn(&id, call.Addr(2)); error != 0) return error;
    if (id == guest) id = getpid();
    return call.thread.Block(SYS_ioctl, static_cast<uint64_t>(file.host.get()), request.number,
                             reinterpret_cast<uint64_t>(&id));
  }
  int64_t result = HostResult(syscall(SYS_ioctl, file.host.get(), request.number, &id));
  if (result != 0) return result;
  return call.memory().CopyOut(call.Addr(2), id == getpid() ? guest : id);
}

int64_t Make(Call& call, const std::shared_ptr<OpenFile>& file, const Request& request) {
  uint64_t argument = call.arguments[2];
  std::shared_ptr<OpenFile> other;
  switch (request.argument) {
    case kNumber:
      break;
    case kBuffer:
      argument = call.Host(argument, request.size);
      break;
    case kProcessIdIn:
    case kProcessIdOut:
      return ProcessIdCall(call, *file, request);
    case kFd:
      other = FileArg(call, 2);
      if (other == nullptr) return -EBADF;
      argument = HostFd(other);
      break;
  }
  return call.thread.Block(SYS_ioctl, HostFd(file), request.number, argument);
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
  if (std::optional<int64_t> result = StructIoctl(call, file, number)) return *result;
  if (std::optional<int64_t> result = SocketIoctl(call, file)) return *result;
  auto known = std::find_if(std::begin(kRequests), std::end(kRequests),
                            [number](const Request& r) { return r.number == number; });
  return known != std::end(kRequests) ? Make(call, file, *known) : -ENOTTY;
}

}  // namespace km
