#include "km/snapshot/live_writer.h"

#include <fcntl.h>
#include <km/notes.h>
#include <linux/close_range.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "km/base/status.h"
#include "km/memory/guarded_copy.h"
#include "km/memory/guest_addr.h"

namespace km {
namespace {

constexpr char kReady = 'r';
constexpr size_t kMaxMessage = 8 << 10;

// Shared memory goes on changing: of the bytes of each object a copy is made, in place of them. The
// program stands still meanwhile, and most of the time goes into pages for the copy: so large ones
// are asked for where they are filled.
absl::Status CopyObjects(Captured& captured) {
  std::vector<std::pair<uint64_t, const std::byte*>> copies;
  for (size_t i = 0; i < captured.objects.size(); ++i) {
    const uint64_t size = captured.objects[i].size();
    OwnedMapping copy(mmap(nullptr, size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
                      size);
    if (!copy.valid()) return ErrnoStatus(errno, "making room for a copy of shared memory");
    const uint64_t base = captured.memory.objects[i].first;
    for (const ImageMemory& piece : captured.image.memory) {
      if (piece.address < base || piece.address >= base + size) continue;
      const uint64_t at = piece.address - base;
      // The last page of a file may be one of which only a part is there.
      const uint64_t wanted = std::min(piece.size, size - at);
      if (wanted >= 2 * kLargePageSize) {
        (void)madvise(copy.data() + at, PageDown(wanted), MADV_HUGEPAGE);
      }
      // A file that somebody makes shorter must not end the monitor.
      if (!GuardedCopy(copy.data() + at, captured.objects[i].data() + at, wanted)) {
        return ErrnoStatus(EFAULT,
                           "somebody made a file shorter that the program shares as memory");
      }
    }
    copies.emplace_back(base, copy.data());
    captured.objects[i] = std::move(copy);
  }
  captured.memory.objects = std::move(copies);
  return absl::OkStatus();
}

void SendAll(int fd, const void* bytes, size_t size) {
  [[maybe_unused]] ssize_t written = write(fd, bytes, size);  // a pipe has room for this
}

void Tell(int result, const absl::Status& status) {
  const int error = ErrnoOf(status);
  SendAll(result, &error, sizeof(error));
  SendAll(result, status.message().data(), std::min(status.message().size(), kMaxMessage));
}

// In the child, which is the only thread of its process. What the program has open it must not keep
// open: whoever reads the other end of a pipe would wait for it.
[[noreturn]] void WriteAndExit(const Captured& captured, const std::string& path,
                               const WriteOptions& options, int result) {
  std::array<int, 3> kept = {result, options.file, -1};
  if (options.running != nullptr) kept[2] = options.running->descriptor();
  std::sort(kept.begin(), kept.end());
  unsigned next = 0;
  for (const int fd : kept) {
    const auto keep = static_cast<unsigned>(fd);
    if (fd < 0) continue;
    if (keep > next) close_range(next, keep - 1, 0);
    next = keep + 1;
  }
  close_range(next, ~0U, 0);
  // Nor attached: the program counts attachments. Their bytes are in a copy.
  for (const ImageMapping& mapping : captured.image.mappings) {
    if (!mapping.segment.has_value()) continue;
    munmap(const_cast<std::byte*>(captured.memory.window) + mapping.start,
           mapping.end - mapping.start);
  }
  prctl(PR_SET_NAME, "km-snapshot");
  // It has all that the monitor has, which the program must not find in /proc of another process.
  prctl(PR_SET_DUMPABLE, 0);
  SendAll(result, &kReady, 1);
  Tell(result, WriteSnapshot(captured.image, captured.memory, path, options));
  _exit(0);
}

// A child that ends without SIGCHLD, and that wait4(2) does not find unless it is asked for one of
// these (__WALL). It copies a process whose other threads are parked: none of them is inside malloc
// or holds a lock, so what fork(2)'s wrapper does about those is not missed.
pid_t Clone() { return static_cast<pid_t>(syscall(SYS_clone, 0, 0, 0, 0, 0)); }

}  // namespace

absl::StatusOr<std::unique_ptr<LiveWriter>> LiveWriter::Start(Captured captured,
                                                              const std::string& path,
                                                              const WriteOptions& options) {
  KM_RETURN_IF_ERROR(CopyObjects(captured));
  std::unique_ptr<LiveWriter> writer(new LiveWriter);
  for (const ImageMemory& piece : captured.image.memory) writer->total_ += piece.size;
  writer->progress_ = OwnedMapping(mmap(nullptr, sizeof(WriteProgress), PROT_READ | PROT_WRITE,
                                        MAP_SHARED | MAP_ANONYMOUS, -1, 0),
                                   sizeof(WriteProgress));
  int ends[2];
  if (!writer->progress_.valid() || pipe2(ends, O_CLOEXEC) != 0) {
    return ErrnoStatus(errno, "making what the snapshot's writer tells its progress by");
  }
  writer->result_ = OwnedFd(ends[0]);
  OwnedFd write_end(ends[1]);
  WriteOptions told = options;
  told.progress = new (writer->progress_.data()) WriteProgress;
  writer->child_ = Clone();
  if (writer->child_ < 0) {
    const int error = errno;
    writer->child_ = 0;
    if (error != EAGAIN) {
      return ErrnoStatus(error, "making a copy of the process for the snapshot's writer");
    }
    // The user may have no more processes: it is written here, where nothing runs meanwhile.
    told.running = nullptr;
    Tell(write_end.get(), WriteSnapshot(captured.image, captured.memory, path, told));
    return writer;
  }
  if (writer->child_ == 0) WriteAndExit(captured, path, told, write_end.get());
  write_end = OwnedFd();
  // Until it has let go of the program's files, or was killed.
  char ready = 0;
  while (read(writer->result_.get(), &ready, 1) < 0 && errno == EINTR) {
  }
  return writer;
}

LiveWriter::~LiveWriter() {
  if (child_ == 0) return;
  Cancel();
  Reap();
}

void LiveWriter::Cancel() { progress().cancelled = true; }

WriteProgress& LiveWriter::progress() const {
  return *reinterpret_cast<WriteProgress*>(progress_.data());
}

void LiveWriter::Reap() {
  if (child_ == 0) return;
  while (waitpid(child_, nullptr, __WALL) < 0 && errno == EINTR) {
  }
  child_ = 0;
}

absl::Status LiveWriter::Finish() {
  int error = EIO;
  char message[kMaxMessage];
  size_t size = 0;
  auto receive = [this](void* to, size_t room) {
    ssize_t count;
    do {
      count = read(result_.get(), to, room);
    } while (count < 0 && errno == EINTR);
    return count > 0 ? static_cast<size_t>(count) : 0;
  };
  const bool told = receive(&error, sizeof(error)) == sizeof(error);
  for (size_t count = 1; told && count != 0 && size < sizeof(message); size += count) {
    count = receive(message + size, sizeof(message) - size);
  }
  Reap();
  if (!told) {
    if (progress().unfinished[0] != '\0') unlink(progress().unfinished);
    return ErrnoStatus(EIO, "the snapshot's writer was killed");
  }
  if (error == 0) return absl::OkStatus();
  // The message says what the errno is.
  absl::Status status = ErrnoStatus(error, "");
  absl::Status named(status.code(), absl::string_view(message, size));
  status.ForEachPayload(
      [&](absl::string_view type, const absl::Cord& payload) { named.SetPayload(type, payload); });
  return named;
}

}  // namespace km
