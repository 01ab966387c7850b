// Reading and writing what the monitor makes of the program's own directory in /proc. The memfd
// that stands for the file has its position and flags, and no bytes.
#include <fcntl.h>
#include <km/layout.h>
#include <km/runtime_blobs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "absl/strings/strip.h"
#include "km/base/owned.h"
#include "km/base/pagemap_scan.h"
#include "km/memory/guarded_copy.h"
#include "km/syscalls/host.h"
#include "km/syscalls/proc_files.h"
#include "km/syscalls/proc_texts.h"
#include "km/syscalls/transfer.h"

namespace km {
namespace {

constexpr uint64_t kEntry = sizeof(uint64_t);  // of pagemap

struct Kind {
  bool writes, vector, positioned;
};

Kind KindOf(long number) {
  bool writes = number == SYS_write || number == SYS_pwrite64 || number == SYS_writev ||
                number == SYS_pwritev || number == SYS_pwritev2;
  bool plain =
      number == SYS_read || number == SYS_write || number == SYS_pread64 || number == SYS_pwrite64;
  bool here =
      number == SYS_read || number == SYS_write || number == SYS_readv || number == SYS_writev;
  return {writes, !plain, !here};
}

// How many of `size` bytes at `address` the program has mapped, without a gap.
uint64_t MappedAt(Process& process, uint64_t address, uint64_t size) {
  uint64_t at = address, end = address + size;
  for (const Mapping& mapping : process.space().Mappings()) {
    if (mapping.end <= at) continue;
    if (mapping.start > at || at >= end) break;
    at = mapping.end;
  }
  return std::min(at, end) - address;
}

// A piece of the monitor's memory, as the host's /proc/self/mem moves it: as natively, rights do
// not matter, and private pages are copied before they change.
int64_t HostMemory(bool writes, const void* at, const iovec& buffer, uint64_t length) {
  OwnedFd mem(open("/proc/self/mem", (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC));
  if (!mem.valid()) return -errno;
  return HostResult(
      syscall(writes ? SYS_pwrite64 : SYS_pread64, mem.get(), buffer.iov_base, length, at));
}

int64_t TransferMemory(Call& call, bool writes, uint64_t at, const iovec& buffer) {
  if (buffer.iov_len == 0) return 0;
  const auto vdso_size = static_cast<uint64_t>(km_runtime_vdso_end - km_runtime_vdso);
  if (!writes && at >= KM_VDSO_ADDRESS && at < KM_VDSO_ADDRESS + vdso_size) {
    uint64_t length = std::min(buffer.iov_len, KM_VDSO_ADDRESS + vdso_size - at);
    return HostMemory(writes, km_runtime_vdso + (at - KM_VDSO_ADDRESS), buffer, length);
  }
  uint64_t length = at < KM_GUEST_END ? std::min(buffer.iov_len, KM_GUEST_END - at) : 0;
  length = length != 0 ? MappedAt(call.process, at, length) : 0;
  if (length != 0) return HostMemory(writes, call.memory().window() + at, buffer, length);
  // As natively the bytes to write are fetched first.
  char byte;
  return writes && !GuardedCopy(&byte, buffer.iov_base, 1) ? -EFAULT : -EIO;
}

// pagemap: what the host says of the pages, without the numbers of their frames, as for everybody
// without CAP_SYS_ADMIN. What is not mapped is zero.
int64_t ReadPagemap(Call& call, uint64_t at, const iovec& buffer) {
  if (at % kEntry != 0 || buffer.iov_len % kEntry != 0) return -EINVAL;
  constexpr uint64_t kFrame = (uint64_t{1} << 55) - 1;
  constexpr size_t kMostEntries = 4096;
  uint64_t first = at / kEntry, last = KM_GUEST_END / kPageSize;
  if (first >= last) return 0;
  uint64_t count = std::min({buffer.iov_len / kEntry, last - first, uint64_t{kMostEntries}});
  std::vector<uint64_t> entries(count);
  OwnedFd pagemap = call.process.OpenPagemap();
  uint64_t page = reinterpret_cast<uint64_t>(call.memory().window()) / kPageSize + first;
  int64_t got = HostResult(
      pread(pagemap.get(), entries.data(), count * kEntry, static_cast<off_t>(page * kEntry)));
  if (got <= 0) return got;
  entries.resize(static_cast<uint64_t>(got) / kEntry);
  std::vector<Mapping> mappings = call.process.space().Mappings();
  auto mapping = mappings.begin();
  for (size_t i = 0; i < entries.size(); ++i) {
    uint64_t address = (first + i) * kPageSize;
    while (mapping != mappings.end() && mapping->end <= address) ++mapping;
    bool mapped = mapping != mappings.end() && mapping->start <= address;
    // Of a page that is swapped out these bits tell where.
    if (!mapped) entries[i] = 0;
    if (entries[i] & kEntryPresent) entries[i] &= ~kFrame;
  }
  bool copied = GuardedCopy(buffer.iov_base, entries.data(), entries.size() * kEntry);
  return copied ? static_cast<int64_t>(entries.size() * kEntry) : -EFAULT;
}

int64_t WriteComm(Call& call, const OwnName& own, const iovec& buffer) {
  char name[16] = {};
  size_t length = std::min(buffer.iov_len, sizeof(name) - 1);
  if (!GuardedCopy(name, buffer.iov_base, length)) return -EFAULT;
  // Threads of other processes than this one are not to be found here.
  uint32_t tid = own.tid != 0 ? own.tid : call.process.identity().pid;
  call.process.SetComm(tid, name);
  return static_cast<int64_t>(buffer.iov_len);
}

// A text is made when its beginning is read, and again when it is read from the beginning again;
// after its end was reached, or a resume, there is none.
int64_t ReadText(Call& call, ProcText& kept, const OwnName& own, uint64_t at, const iovec& buffer)
    ABSL_EXCLUSIVE_LOCKS_REQUIRED(kept.mutex) {
  if (at == 0 || !kept.text.has_value()) {
    std::optional<std::string> made = OwnText(call, own);
    if (!made.has_value()) return -ESRCH;
    kept.text = std::move(made);
  }
  const std::string& text = *kept.text;
  if (at >= text.size()) {
    // Whoever has read to the end needs it no more, however long the descriptor stays open.
    kept.text.reset();
    return 0;
  }
  uint64_t length = std::min(buffer.iov_len, text.size() - at);
  bool copied = GuardedCopy(buffer.iov_base, text.data() + at, length);
  return copied ? static_cast<int64_t>(length) : -EFAULT;
}

int64_t TransferOne(Call& call, bool writes, const std::string& path, ProcText& kept, uint64_t at,
                    const iovec& buffer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(kept.mutex) {
  absl::string_view name = path;
  absl::ConsumePrefix(&name, "/proc/self/");
  OwnName own = ParseOwnName(std::string(name));
  if (own.name == "mem") return TransferMemory(call, writes, at, buffer);
  if (writes) return own.name == "comm" ? WriteComm(call, own, buffer) : -EIO;
  return own.name == "pagemap" ? ReadPagemap(call, at, buffer)
                               : ReadText(call, kept, own, at, buffer);
}

}  // namespace

int64_t ProcTransfer(Call& call, long number, const std::shared_ptr<OpenFile>& file) {
  Kind kind = KindOf(number);
  int access = fcntl(file->host.get(), F_GETFL) & O_ACCMODE;
  if (access == (kind.writes ? O_RDONLY : O_WRONLY)) return -EBADF;
  std::vector<iovec> parts(1);
  parts[0].iov_len = std::min(call.arguments[2], kMaxTransfer);
  parts[0].iov_base = reinterpret_cast<void*>(Buffer(call, call.arguments[1], call.arguments[2]));
  if (kind.vector) {
    if (call.Uint(2) > kMaxIovecs) return -EINVAL;
    int error = CopyIovecs(call, call.Addr(1), call.Uint(2), &parts);
    if (error != 0) return error;
  }
  // preadv2 with an offset of -1 moves the position, too.
  bool positioned = kind.positioned && (number == SYS_pread64 || number == SYS_pwrite64 ||
                                        call.arguments[3] != ~uint64_t{0});
  ProcText& kept = file->description->proc_text();
  absl::MutexLock lock(&kept.mutex);
  uint64_t start = call.arguments[3];
  if (!positioned) start = static_cast<uint64_t>(lseek(file->host.get(), 0, SEEK_CUR));
  if (positioned && static_cast<int64_t>(start) < 0) return -EINVAL;
  int64_t done = 0;
  for (const iovec& part : parts) {
    int64_t moved = TransferOne(call, kind.writes, file->description->path, kept,
                                start + static_cast<uint64_t>(done), part);
    if (moved < 0 && done == 0) return moved;
    if (moved > 0) done += moved;
    if (moved < 0 || static_cast<uint64_t>(moved) < part.iov_len) break;
  }
  if (!positioned) lseek(file->host.get(), static_cast<off_t>(start) + done, SEEK_SET);
  return done;
}

int64_t ProcSeek(Call& call, const std::shared_ptr<OpenFile>& file) {
  uint32_t whence = call.Uint(2);
  if (whence != SEEK_SET && whence != SEEK_CUR) return -EINVAL;
  return HostResult(syscall(SYS_lseek, file->host.get(), call.arguments[1], whence));
}

}  // namespace km
