// Asynchronous I/O of the kernel's own. The host's contexts, and the rings that it reports through,
// are in the monitor's memory; the program names a context by the address of a page of its own.
// There libaio looks for a ring, finds no magic number, and asks the kernel.
#include <linux/aio_abi.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "km/files/aio_contexts.h"
#include "km/process/clock.h"
#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/paths.h"
#include "km/syscalls/proc_files.h"
#include "km/syscalls/signal_masks.h"
#include "km/syscalls/transfer.h"

namespace km {
namespace {

constexpr size_t kChunk = 64;  // requests or events in one call of the host's

// ---- Requests ----

// A request on its way to the host, and what must not go before it has arrived.
struct Submission {
  std::shared_ptr<AioRequest> request = std::make_shared<AioRequest>();
  std::shared_ptr<OpenFile> file, event_file;
  std::vector<iovec> parts;
};

bool Writes(const Submission& submission) {
  const auto operation = submission.request->host.aio_lio_opcode;
  return operation == IOCB_CMD_PWRITE || operation == IOCB_CMD_PWRITEV;
}

// Where the request's bytes are. 0 or a negative errno.
int UseBuffer(const Call& call, Submission* submission) {
  iocb& host = submission->request->host;
  switch (host.aio_lio_opcode) {
    case IOCB_CMD_PREAD:
    case IOCB_CMD_PWRITE:
      host.aio_buf = Buffer(call, host.aio_buf, host.aio_nbytes);
      return 0;
    case IOCB_CMD_PREADV:
    case IOCB_CMD_PWRITEV: {
      auto count = static_cast<uint32_t>(host.aio_nbytes);  // as the kernel cuts it
      if (count > kMaxIovecs) return -EINVAL;
      int error = CopyIovecs(call, GuestAddr(host.aio_buf), count, &submission->parts);
      host.aio_buf = reinterpret_cast<uint64_t>(submission->parts.data());
      return error;
    }
    case IOCB_CMD_FSYNC:
    case IOCB_CMD_FDSYNC:
    case IOCB_CMD_POLL:
      return 0;  // no address
    default:
      return -EINVAL;
  }
}

// The program's iocb at `address` as the host is to see it. 0 or a negative errno.
int Prepare(const Call& call, uint64_t context, uint64_t address, Submission* submission) {
  AioRequest& request = *submission->request;
  iocb& host = request.host;
  if (int error = call.memory().CopyIn(&host, GuestAddr(address)); error != 0) return error;
  request.context = context;
  request.address = address;
  request.data = host.aio_data;
  FdTable& files = call.process.files();
  submission->file = files.Get(host.aio_fildes);
  if (submission->file == nullptr) return -EBADF;
  if (IsStandIn(*submission->file)) return -EINVAL;  // as natively
  host.aio_fildes = static_cast<uint32_t>(submission->file->host.get());
  if (host.aio_flags & IOCB_FLAG_RESFD) {
    submission->event_file = files.Get(host.aio_resfd);
    if (submission->event_file == nullptr) return -EBADF;
    host.aio_resfd = static_cast<uint32_t>(submission->event_file->host.get());
  }
  // The kernel's mark, by which io_cancel knows an iocb that was submitted.
  const uint32_t key = 0;
  int error = call.memory().CopyOut(GuestAddr(address) + offsetof(iocb, aio_key), key);
  return error != 0 ? error : UseBuffer(call, submission);
}

// Some of the requests whose addresses are at `list`. How many the host took, or why it took none.
int64_t SubmitSome(Call& call, aio_context_t host, GuestAddr list, size_t count) {
  AioContexts& contexts = call.process.aio_contexts();
  std::vector<Submission> batch;
  int error = 0;
  while (batch.size() < count) {
    uint64_t address = 0;
    Submission next;
    error = call.memory().CopyIn(&address, list + batch.size() * sizeof(address));
    if (error == 0) error = Prepare(call, call.arguments[0], address, &next);
    if (error != 0) break;
    batch.push_back(std::move(next));
  }
  if (batch.empty()) return error;
  std::vector<iocb*> requests;
  for (const Submission& submission : batch) {
    contexts.Begin(submission.request);
    requests.push_back(&submission.request->host);
  }
  int64_t taken = call.thread.Block(SYS_io_submit, host, requests.size(),
                                    reinterpret_cast<uint64_t>(requests.data()));
  const auto begun = static_cast<size_t>(std::max<int64_t>(taken, 0));
  for (size_t i = begun; i < batch.size(); ++i) contexts.Forget(*batch[i].request);
  // Whatever a request comes to, the thread that makes it gets the signal at once.
  if (std::any_of(batch.begin(), batch.begin() + static_cast<std::ptrdiff_t>(begun), Writes)) {
    PassHostSignal(call, SIGPIPE);
    PassHostSignal(call, SIGXFSZ);
  }
  return taken;
}

// ---- Events ----

// The time that the call still waits: none is for ever.
std::optional<timespec> TimeLeft(const Call& call) {
  if (!call.thread.deadline_ns.has_value()) return std::nullopt;
  int64_t left = *call.thread.deadline_ns - call.process.clock().Monotonic();
  return ToTimespec(std::max<int64_t>(left, 0));
}

// Takes events until there are `least`, and up to `most` that are there. 0, or what ended it early.
int64_t Collect(Call& call, aio_context_t host, size_t least, size_t most,
                std::vector<io_event>* taken) {
  AioContexts& contexts = call.process.aio_contexts();
  *taken = contexts.TakeReady(call.arguments[0], most);
  while (taken->size() < most) {
    io_event events[kChunk];
    size_t room = std::min(kChunk, most - taken->size());
    const timespec none = {};
    int64_t got = HostResult(syscall(SYS_io_getevents, host, 0, room, events, &none));
    if (got == 0 && taken->size() < least) {
      std::optional<timespec> left = TimeLeft(call);
      got = call.thread.Block(SYS_io_getevents, host, std::min(room, least - taken->size()), room,
                              reinterpret_cast<uint64_t>(events),
                              left.has_value() ? reinterpret_cast<uint64_t>(&*left) : 0);
    }
    if (got <= 0) return got;
    contexts.Complete(events, static_cast<size_t>(got));
    taken->insert(taken->end(), events, events + got);
  }
  return 0;
}

int64_t GetEvents(Call& call) {
  AioContexts& contexts = call.process.aio_contexts();
  uint64_t name = call.arguments[0];
  auto least = static_cast<int64_t>(call.arguments[1]);
  auto most = static_cast<int64_t>(call.arguments[2]);
  aio_context_t host = contexts.Host(name);
  if (host == 0 || least < 0 || most < least) return -EINVAL;
  std::vector<io_event> taken;
  int64_t error =
      Collect(call, host, static_cast<size_t>(least), static_cast<size_t>(most), &taken);
  if (error == kKicked) error = kRestartNoHandler;
  // Linux returns what it has when a signal comes. Without one, the call goes on from here.
  bool goes_on =
      error == kRestartNoHandler && !call.process.signals().HasDeliverable(call.thread.tid);
  if (error < 0 && (taken.empty() || goes_on)) {
    contexts.PutBack(name, taken);
    return error;
  }
  int fault = call.memory().CopyOut(call.Addr(3), taken.data(), taken.size() * sizeof(io_event));
  if (fault == 0) return static_cast<int64_t>(taken.size());
  contexts.PutBack(name, taken);
  return fault;
}

// The relative timeout in argument 4 becomes a deadline, the first time. 0 or -EFAULT.
int UseTimeout(Call& call) {
  if (call.Addr(4).null()) return 0;
  timespec timeout;
  if (int error = call.memory().CopyIn(&timeout, call.Addr(4)); error != 0) return error;
  if (!call.thread.deadline_ns.has_value()) {
    call.thread.deadline_ns =
        SaturatingAdd(call.process.clock().Monotonic(), ToNanoseconds(timeout));
  }
  return 0;
}

}  // namespace

SyscallResult IoSetup(Call& call) {
  uint64_t name = 0;
  if (int error = call.memory().CopyIn(&name, call.Addr(1)); error != 0) return error;
  if (name != 0) return -EINVAL;
  aio_context_t host = 0;
  int64_t result = HostResult(syscall(SYS_io_setup, call.Uint(0), &host));
  if (result != 0) return result;
  MapRequest page;
  page.length = kPageSize;
  page.protection = PROT_READ | PROT_WRITE;
  page.flags = MAP_PRIVATE | MAP_ANONYMOUS;
  int64_t address = call.process.space().Map(page);
  name = static_cast<uint64_t>(address);
  result = address < 0 ? address : call.memory().CopyOut(call.Addr(1), name);
  if (result == 0) {
    call.process.aio_contexts().Add(name, host, call.Uint(0));
    return 0;
  }
  syscall(SYS_io_destroy, host);
  if (address >= 0) call.process.space().Unmap(name, kPageSize);
  return result;
}

SyscallResult IoDestroy(Call& call) {
  aio_context_t host = call.process.aio_contexts().Host(call.arguments[0]);
  if (host == 0) return -EINVAL;
  // Waits for requests under way, whatever signals come; interrupted it has not begun.
  int64_t result = call.thread.Block(SYS_io_destroy, host);
  if (result == kKicked) return kRestartAlways;
  if (result != 0) return result;
  call.process.aio_contexts().Remove(call.arguments[0]);
  return call.process.space().Unmap(call.arguments[0], kPageSize);
}

SyscallResult IoSubmit(Call& call) {
  auto count = static_cast<int64_t>(call.arguments[1]);
  aio_context_t host = call.process.aio_contexts().Host(call.arguments[0]);
  if (count < 0 || host == 0) return -EINVAL;
  int64_t done = 0;
  while (done < count) {
    auto asked = std::min<int64_t>(count - done, kChunk);
    GuestAddr list = call.Addr(2) + static_cast<uint64_t>(done) * sizeof(uint64_t);
    int64_t taken = SubmitSome(call, host, list, static_cast<size_t>(asked));
    if (taken < 0) return done > 0 ? done : taken;
    done += taken;
    if (taken < asked) break;
  }
  return done;
}

SyscallResult IoCancel(Call& call) {
  uint32_t key = 0;
  int error = call.memory().CopyIn(&key, call.Addr(1) + offsetof(iocb, aio_key));
  if (error != 0) return error;
  AioContexts& contexts = call.process.aio_contexts();
  aio_context_t host = contexts.Host(call.arguments[0]);
  auto request = contexts.Find(call.arguments[0], call.arguments[1]);
  if (key != 0 || host == 0 || request == nullptr) return -EINVAL;
  // The event comes by io_getevents, as natively.
  io_event unused;
  return HostResult(syscall(SYS_io_cancel, host, &request->host, &unused));
}

SyscallResult IoGetevents(Call& call) {
  if (int error = UseTimeout(call); error != 0) return error;
  return GetEvents(call);
}

SyscallResult IoPgetevents(Call& call) {
  struct MaskArgument {
    uint64_t address, size;
  } mask = {};
  if (int error = UseTimeout(call); error != 0) return error;
  if (!call.Addr(5).null()) {
    if (int error = call.memory().CopyIn(&mask, call.Addr(5)); error != 0) return error;
  }
  if (int error = UseMask(call, GuestAddr(mask.address), mask.size); error != 0) return error;
  return GetEvents(call);
}

}  // namespace km
