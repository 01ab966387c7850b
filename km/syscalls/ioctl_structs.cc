#include "km/syscalls/ioctl_structs.h"

#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "km/syscalls/paths.h"

namespace km {
namespace {

int64_t Block(Call& call, const std::shared_ptr<OpenFile>& file, uint64_t request,
              const void* argument) {
  return call.thread.Block(SYS_ioctl, HostFd(file), request, reinterpret_cast<uint64_t>(argument));
}

int64_t CloneRange(Call& call, const std::shared_ptr<OpenFile>& file) {
  file_clone_range range;
  if (int error = call.memory().CopyIn(&range, call.Addr(2)); error != 0) return error;
  auto from = call.process.files().Get(static_cast<uint32_t>(range.src_fd));
  if (from == nullptr) return -EBADF;
  range.src_fd = from->host.get();
  return Block(call, file, FICLONERANGE, &range);
}

int64_t DedupeRange(Call& call, const std::shared_ptr<OpenFile>& file) {
  file_dedupe_range head;
  if (int error = call.memory().CopyIn(&head, call.Addr(2)); error != 0) return error;
  uint64_t size = sizeof(head) + head.dest_count * sizeof(file_dedupe_range_info);
  if (size > kPageSize) return -ENOMEM;  // as the kernel
  alignas(file_dedupe_range) char bytes[kPageSize];
  if (int error = call.memory().CopyIn(bytes, call.Addr(2), size); error != 0) return error;
  memcpy(bytes, &head, sizeof(head));
  auto* range = reinterpret_cast<file_dedupe_range*>(bytes);
  std::vector<std::shared_ptr<OpenFile>> targets;
  std::vector<int64_t> numbers;
  for (uint16_t i = 0; i < head.dest_count; ++i) {
    numbers.push_back(range->info[i].dest_fd);
    targets.push_back(call.process.files().Get(static_cast<uint32_t>(numbers.back())));
    range->info[i].dest_fd = targets.back() != nullptr ? targets.back()->host.get() : -1;
  }
  int64_t result = Block(call, file, FIDEDUPERANGE, range);
  if (result < 0) return result;
  for (uint16_t i = 0; i < head.dest_count; ++i) range->info[i].dest_fd = numbers[i];
  int error = call.memory().CopyOut(call.Addr(2), bytes, size);
  return error != 0 ? error : result;
}

// A program asks again behind the last extent that it got, so that fewer than it has room for are
// no loss.
int64_t Fiemap(Call& call, const std::shared_ptr<OpenFile>& file) {
  constexpr uint32_t kMost = 4096;
  constexpr uint32_t kLimit = UINT32_MAX / sizeof(fiemap_extent);  // FIEMAP_MAX_EXTENTS
  fiemap head;
  if (int error = call.memory().CopyIn(&head, call.Addr(2)); error != 0) return error;
  if (head.fm_extent_count > kLimit) return -EINVAL;
  uint32_t asked = head.fm_extent_count;
  head.fm_extent_count = std::min(asked, kMost);
  uint64_t extents = head.fm_extent_count * sizeof(fiemap_extent);
  std::vector<uint64_t> words((sizeof(head) + extents) / sizeof(uint64_t));
  memcpy(words.data(), &head, sizeof(head));
  int64_t result = Block(call, file, FS_IOC_FIEMAP, words.data());
  if (result == kKicked) return result;
  // The kernel writes the head, where it says which flags it does not know, after a failure too.
  memcpy(&head, words.data(), sizeof(head));
  extents = std::min(head.fm_mapped_extents, head.fm_extent_count) * sizeof(fiemap_extent);
  head.fm_extent_count = asked;
  int error = call.memory().CopyOut(call.Addr(2), head);
  if (error == 0 && asked != 0) {
    error = call.memory().CopyOut(call.Addr(2) + sizeof(head),
                                  words.data() + sizeof(head) / sizeof(uint64_t), extents);
  }
  return error != 0 ? error : result;
}

}  // namespace

std::optional<int64_t> StructIoctl(Call& call, const std::shared_ptr<OpenFile>& file,
                                   uint32_t request) {
  switch (request) {
    case FICLONERANGE:
      return CloneRange(call, file);
    case FIDEDUPERANGE:
      return DedupeRange(call, file);
    case FS_IOC_FIEMAP:
      return Fiemap(call, file);
    default:
      return std::nullopt;
  }
}

}  // namespace km
