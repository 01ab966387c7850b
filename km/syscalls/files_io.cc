// Bytes in and out of open files.
#include <fcntl.h>
#include <linux/limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "km/base/pending_signal.h"
#include "km/signals/siginfo.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/open_path.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/proc_files.h"
#include "km/syscalls/signal_reads.h"
#include "km/syscalls/terminal.h"
#include "km/syscalls/transfer.h"

namespace km {

uint64_t Buffer(const Call& call, uint64_t address, uint64_t size) {
  return call.Host(address, std::min(size, kMaxTransfer));
}

namespace {

// The host sends SIGPIPE to the thread that wrote, this one, where it stays blocked - but not for
// every EPIPE: which depends on the kind of file and on flags. Whether it did.
bool TakeHostSignal(Call& call, int sig) {
  siginfo_t info;
  const PendingSignal taken = TakePendingSignal(sig, &info);
  if (taken == PendingSignal::kOthers) call.process.Signal(info);
  return taken == PendingSignal::kOwn;
}

}  // namespace

bool PassHostSignal(Call& call, int sig) {
  if (!TakeHostSignal(call, sig)) return false;
  auto pid = static_cast<int32_t>(call.process.identity().pid);
  call.process.SignalThread(call.thread.tid, SenderSiginfo(sig, SI_USER, pid, getuid()));
  return true;
}

// Linux sends these to the thread that wrote; the host has sent them to the monitor, which blocks
// them. A pipe whose last reader goes in the middle of a write brings one as well. EFBIG without
// one is that of a file's own limit.
int64_t AfterWrite(Call& call, int64_t result, uint64_t asked) {
  const bool short_of = result > 0 && static_cast<uint64_t>(result) < asked;
  if (result == -EPIPE || short_of) PassHostSignal(call, SIGPIPE);
  if (result == -EFBIG) PassHostSignal(call, SIGXFSZ);
  return result;
}

int CopyIovecs(const Call& call, GuestAddr address, uint64_t count, std::vector<iovec>* out,
               uint64_t skip) {
  out->resize(count);
  int error = call.memory().CopyIn(out->data(), address, count * sizeof(iovec));
  for (iovec& part : *out) {
    const uint64_t skipped = std::min(skip, part.iov_len);
    skip -= skipped;
    part.iov_len -= skipped;
    auto base = reinterpret_cast<uint64_t>(part.iov_base) + skipped;
    part.iov_base = reinterpret_cast<void*>(Buffer(call, base, part.iov_len));
  }
  return error;
}

namespace {

bool IsBlocking(const OpenFile& file) {
  return (fcntl(file.host.get(), F_GETFL) & O_NONBLOCK) == 0;
}

// Elsewhere a transfer is one message.
bool IsConnection(const OpenFile& file) {
  int type = 0;
  socklen_t size = sizeof(type);
  return file.description->kind == FileKind::kSocket &&
         getsockopt(file.host.get(), SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

}  // namespace

bool WritesAll(const OpenFile& file, int flags) {
  const FileKind kind = file.description->kind;
  // Of MSG_ZEROCOPY each call is told.
  if ((flags & (MSG_DONTWAIT | MSG_OOB | MSG_ZEROCOPY)) != 0 || !IsBlocking(file)) return false;
  return kind == FileKind::kPipe || kind == FileKind::kTerminal || IsConnection(file);
}

bool ReadsAll(const OpenFile& file, int flags) {
  if ((flags & MSG_DONTWAIT) != 0 || !IsBlocking(file)) return false;
  if (file.description->kind == FileKind::kCharacterDevice) {
    constexpr unsigned kMemoryDevices = 1;
    struct stat status;
    return fstat(file.host.get(), &status) == 0 && major(status.st_rdev) == kMemoryDevices;
  }
  return (flags & MSG_WAITALL) != 0 && (flags & (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE)) == 0 &&
         IsConnection(file);
}

int64_t MoveAll(Call& call, uint64_t asked, absl::FunctionRef<bool()> whole,
                absl::FunctionRef<int64_t()> make) {
  Thread& thread = call.thread;
  const uint64_t before = thread.done = std::min(thread.done, asked);
  const int64_t result = make();
  // Nothing more; what was done is kept.
  if (result == kRestart || result == kRestartNoHandler) return result;
  const uint64_t done = before + static_cast<uint64_t>(std::max<int64_t>(result, 0));
  if (result > 0 && done < asked && thread.attention.load() != 0 && whole()) {
    thread.done = done;
    return kRestart;
  }
  return done > 0 ? static_cast<int64_t>(done) : result;
}

int64_t WriteAll(Call& call, const OpenFile& file, uint64_t asked, absl::FunctionRef<bool()> whole,
                 absl::FunctionRef<int64_t()> make) {
  bool closed = false;
  auto goes_on = [&] {
    closed = PassHostSignal(call, SIGPIPE);
    return !closed && whole();
  };
  auto make_quietly = [&] {
    const int64_t result = make();
    // A connection that was closed behind some bytes says so by their number alone.
    const bool quiet = call.thread.done > 0 && file.description->kind == FileKind::kSocket;
    if (result == -EPIPE && quiet) TakeHostSignal(call, SIGPIPE);
    return result;
  };
  const int64_t result = MoveAll(call, asked, goes_on, make_quietly);
  return closed ? result : AfterWrite(call, result, asked);
}

uint64_t TotalOf(const std::vector<iovec>& parts) {
  uint64_t total = 0;
  for (const iovec& part : parts) total += part.iov_len;
  return total;
}

namespace {

bool Reads(long number) {
  return number == SYS_read || number == SYS_readv || number == SYS_pread64 ||
         number == SYS_preadv || number == SYS_preadv2;
}

bool HoldsEvents(const OpenFile& file) {
  return file.description->kind == FileKind::kInotify && file.description->held_events.active();
}

// Of an inotify instance, what came before a snapshot.
int64_t ReadHeldEvents(Call& call, const OpenFile& file, GuestAddr buffer, uint64_t size) {
  std::vector<uint8_t> events;
  const int error =
      file.description->held_events.Read(file.host.get(), std::min(size, kMaxTransfer), &events);
  // The rest is the host's, which a thread may have to wait for.
  if (error == 0 && events.empty()) return kRestart;
  if (error == 0 && call.memory().CopyOut(buffer, events.data(), events.size()) == 0) {
    return static_cast<int64_t>(events.size());
  }
  return error != 0 ? -error : -EFAULT;
}

int64_t Transfer(Call& call, long number) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (IsStandIn(*file)) return ProcTransfer(call, number, file);
  if (HoldsEvents(*file) && number == SYS_read) {
    return ReadHeldEvents(call, *file, call.Addr(1), call.arguments[2]);
  }
  if (file->description->signal_fd != nullptr) {
    return Reads(number) ? ReadSignals(call, *file, call.Addr(1), call.arguments[2]) : -EINVAL;
  }
  const uint64_t asked = std::min(call.arguments[2], kMaxTransfer);
  auto make = [&] {
    const uint64_t done = call.thread.done, size = call.arguments[2] - done;
    return BlockOn(call, *file, number,
                   {Buffer(call, call.arguments[1] + done, size), size, call.arguments[3], 0, 0});
  };
  if (!Reads(number)) {
    return WriteAll(
        call, *file, asked, [&] { return WritesAll(*file, 0); }, make);
  }
  return MoveAll(
      call, asked, [&] { return ReadsAll(*file, 0); }, make);
}

// The offset of preadv and pwritev comes in two halves of which x86-64 uses the first whole.
int64_t TransferVector(Call& call, long number) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (IsStandIn(*file)) return ProcTransfer(call, number, file);
  // The kernel takes no more than the lower half of the count.
  if (call.Uint(2) > kMaxIovecs) return -EINVAL;
  std::vector<iovec> parts;
  if (int error = CopyIovecs(call, call.Addr(1), call.Uint(2), &parts, call.thread.done);
      error != 0) {
    return error;
  }
  const bool reads =
      number == SYS_readv || (number == SYS_preadv2 && call.arguments[3] == ~uint64_t{0});
  const bool events = HoldsEvents(*file) && reads;
  if (events || file->description->signal_fd != nullptr) {
    iovec first = {};
    if (!Reads(number) || parts.empty()) return parts.empty() ? 0 : -EINVAL;
    if (int error = call.memory().CopyIn(&first, call.Addr(1)); error != 0) return error;
    const GuestAddr to(reinterpret_cast<uint64_t>(first.iov_base));
    if (events) return ReadHeldEvents(call, *file, to, first.iov_len);
    return ReadSignals(call, *file, to, first.iov_len);
  }
  const uint64_t asked = std::min(TotalOf(parts) + call.thread.done, kMaxTransfer);
  auto make = [&] {
    return BlockOn(call, *file, number,
                   {reinterpret_cast<uint64_t>(parts.data()), parts.size(), call.arguments[3],
                    call.arguments[4], call.arguments[5]});
  };
  const bool waits = number == SYS_readv || number == SYS_writev || call.arguments[5] == 0;
  const int flags = waits ? 0 : MSG_DONTWAIT;  // RWF_NOWAIT
  if (!Reads(number)) {
    return WriteAll(
        call, *file, asked, [&] { return WritesAll(*file, flags); }, make);
  }
  return MoveAll(
      call, asked, [&] { return ReadsAll(*file, flags); }, make);
}

// A call on a descriptor and plain numbers.
int64_t OnFile(Call& call, long number) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  return call.thread.Block(number, HostFd(file), call.arguments[1], call.arguments[2],
                           call.arguments[3]);
}

}  // namespace

SyscallResult Read(Call& call) { return Transfer(call, SYS_read); }
SyscallResult Pread64(Call& call) { return Transfer(call, SYS_pread64); }
SyscallResult Write(Call& call) { return Transfer(call, SYS_write); }
SyscallResult Pwrite64(Call& call) { return Transfer(call, SYS_pwrite64); }
SyscallResult Readv(Call& call) { return TransferVector(call, SYS_readv); }
SyscallResult Preadv(Call& call) { return TransferVector(call, SYS_preadv); }
SyscallResult Preadv2(Call& call) { return TransferVector(call, SYS_preadv2); }
SyscallResult Writev(Call& call) { return TransferVector(call, SYS_writev); }
SyscallResult Pwritev(Call& call) { return TransferVector(call, SYS_pwritev); }
SyscallResult Pwritev2(Call& call) { return TransferVector(call, SYS_pwritev2); }

SyscallResult Lseek(Call& call) {
  auto file = FileArg(call, 0);
  if (file == nullptr) return -EBADF;
  if (IsStandIn(*file)) return ProcSeek(call, file);
  return HostResult(syscall(SYS_lseek, file->host.get(), call.arguments[1], call.Uint(2)));
}

SyscallResult Sendfile(Call& call) {
  auto out = FileArg(call, 0);
  auto in = FileArg(call, 1);
  if (out == nullptr || in == nullptr) return -EBADF;
  if (IsStandIn(*in) || IsStandIn(*out)) return -EINVAL;
  // The host has moved the position on, here or in the program's memory.
  auto make = [&] {
    return BlockOn(
        call, *out, SYS_sendfile,
        {HostFd(in), call.HostArg(2, sizeof(off_t)), call.arguments[3] - call.thread.done, 0, 0});
  };
  const uint64_t asked = std::min(call.arguments[3], kMaxTransfer);
  // Into a pipe it moves what there is room for.
  const bool pipe = out->description->kind == FileKind::kPipe;
  return WriteAll(
      call, *out, asked, [&] { return !pipe && WritesAll(*out, 0); }, make);
}

SyscallResult CopyFileRange(Call& call) {
  auto in = FileArg(call, 0);
  auto out = FileArg(call, 2);
  if (in == nullptr || out == nullptr) return -EBADF;
  if (IsStandIn(*in) || IsStandIn(*out)) return -EXDEV;
  return AfterWrite(
      call, call.thread.Block(SYS_copy_file_range, HostFd(in), call.HostArg(1, sizeof(off_t)),
                              HostFd(out), call.HostArg(3, sizeof(off_t)), call.arguments[4],
                              call.arguments[5]));
}

SyscallResult Fsync(Call& call) { return OnFile(call, SYS_fsync); }
SyscallResult Fdatasync(Call& call) { return OnFile(call, SYS_fdatasync); }
SyscallResult Syncfs(Call& call) { return OnFile(call, SYS_syncfs); }
SyscallResult Readahead(Call& call) { return OnFile(call, SYS_readahead); }
SyscallResult Fallocate(Call& call) { return AfterWrite(call, OnFile(call, SYS_fallocate)); }
SyscallResult Fadvise64(Call& call) { return OnFile(call, SYS_fadvise64); }
SyscallResult Ftruncate(Call& call) { return AfterWrite(call, OnFile(call, SYS_ftruncate)); }

SyscallResult Sync(Call& call) { return call.thread.Block(SYS_sync); }

SyscallResult Truncate(Call& call) {
  HostPath path;
  if (int64_t error = PinnedPath(call, AT_FDCWD, 0, &path); error != 0) return error;
  struct stat status;
  if (stat(path.c_str(), &status) == 0 &&
      call.process.identity().RunsFrom(status.st_dev, status.st_ino)) {
    return -ETXTBSY;
  }
  return AfterWrite(call, call.thread.Block(SYS_truncate, reinterpret_cast<uint64_t>(path.c_str()),
                                            call.arguments[1]));
}

}  // namespace km
