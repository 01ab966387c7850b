#include "km/snapshot/touched_pages.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "km/base/pagemap_scan.h"
#include "km/base/status.h"
#include "km/memory/guest_addr.h"

namespace km {
namespace {

// Bits of a pagemap entry (Documentation/admin-guide/mm/pagemap.rst).
constexpr uint64_t kEntryPresent = uint64_t{1} << 63, kEntrySwapped = uint64_t{1} << 62;

void Append(uint64_t start, uint64_t end, std::vector<AddressRange>* found, size_t first) {
  if (found->size() > first && start - found->back().end < TouchedPages::kGap) {
    found->back().end = end;
  } else {
    found->push_back({start, end});
  }
}

}  // namespace

absl::StatusOr<TouchedPages> TouchedPages::Open() {
  TouchedPages pages;
  pages.pagemap_ = OwnedFd(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pages.pagemap_.valid()) return ErrnoStatus(errno, "cannot open /proc/self/pagemap");
  return pages;
}

absl::Status TouchedPages::Find(uint64_t start, uint64_t end, std::vector<AddressRange>* found) {
  if (scan_works_) {
    absl::Status status = Scan(start, end, found);
    if (ErrnoOf(status) != ENOTTY) return status;
    scan_works_ = false;
  }
  return ReadEntries(start, end, found);
}

absl::Status TouchedPages::Scan(uint64_t start, uint64_t end, std::vector<AddressRange>* found) {
  const size_t first = found->size();
  PmScanArg scan = {};
  scan.start = start;
  scan.end = end;
  scan.category_inverted = kPageIsZero;
  scan.category_mask = kPageIsZero;
  scan.category_anyof_mask = kPageIsPresent | kPageIsSwapped;
  scan.return_mask = kPageIsPresent | kPageIsSwapped;
  const int error = ScanPagemap(pagemap_.get(), scan, [found, first](const PageRegion& region) {
    Append(region.start, region.end, found, first);
  });
  if (error != 0) return ErrnoStatus(error, "cannot scan /proc/self/pagemap");
  return absl::OkStatus();
}

absl::Status TouchedPages::ReadEntries(uint64_t start, uint64_t end,
                                       std::vector<AddressRange>* found) {
  std::vector<uint64_t> entries(4096);
  size_t first = found->size();
  while (start < end) {
    size_t count = std::min<size_t>(entries.size(), (end - start) / kPageSize);
    ssize_t bytes = pread(pagemap_.get(), entries.data(), count * sizeof(uint64_t),
                          static_cast<off_t>(start / kPageSize * sizeof(uint64_t)));
    if (bytes <= 0) return ErrnoStatus(bytes < 0 ? errno : EIO, "cannot read /proc/self/pagemap");
    count = static_cast<size_t>(bytes) / sizeof(uint64_t);
    for (size_t i = 0; i < count; ++i, start += kPageSize) {
      if (entries[i] & (kEntryPresent | kEntrySwapped)) {
        Append(start, start + kPageSize, found, first);
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace km
