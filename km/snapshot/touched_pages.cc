#include "km/snapshot/touched_pages.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "km/base/host_files.h"
#include "km/base/pagemap_scan.h"
#include "km/base/status.h"
#include "km/memory/guest_addr.h"
#include "km/snapshot/working_set.h"

namespace km {
namespace {

// Bits of a pagemap entry (Documentation/admin-guide/mm/pagemap.rst).
constexpr uint64_t kEntryPresent = uint64_t{1} << 63, kEntrySwapped = uint64_t{1} << 62,
                   kEntryFile = uint64_t{1} << 61, kEntryExclusive = uint64_t{1} << 56;

uint64_t GapOf(TouchedPages::Which which) {
  switch (which) {
    case TouchedPages::Which::kTouched:
      return 256 << 10;
    case TouchedPages::Which::kChanged:
      return 64 << 10;
    default:
      return 1;
  }
}

bool ForWorkingSet(TouchedPages::Which which) {
  return which == TouchedPages::Which::kRecent || which == TouchedPages::Which::kLeftBehind;
}

void Append(uint64_t start, uint64_t end, TouchedPages::Which which,
            std::vector<AddressRange>* found, size_t first) {
  if (found->size() > first && start - found->back().end < GapOf(which)) {
    found->back().end = end;
  } else {
    found->push_back({start, end});
  }
}

bool Counts(uint64_t entry, TouchedPages::Which which) {
  const bool there = (entry & (kEntryPresent | kEntrySwapped)) != 0;
  const bool own = (entry & kEntryFile) == 0;
  switch (which) {
    case TouchedPages::Which::kTouched:
      return there;
    case TouchedPages::Which::kLeftBehind:
      return own && (entry & kEntryPresent) != 0 && (entry & kEntryExclusive) != 0;
    default:
      return there && own;
  }
}

// Parts of a range, at most kMaxParts, of which each is at least so long.
constexpr uint64_t kMinPart = uint64_t{1} << 30;
constexpr uint64_t kMaxParts = 1024;

// Those parts of [start, end) that have pages. The kernel tells how many a mapping has, and passes
// over page tables that are not there: so every other part is made a mapping of its own for a
// moment, by a flag that only a core dump of the monitor would heed.
std::vector<AddressRange> OccupiedParts(uint64_t start, uint64_t end) {
  const uint64_t step = std::max(kMinPart, (end - start) / kMaxParts / kMinPart * kMinPart);
  auto advise = [](uint64_t from, uint64_t to, int advice) {
    (void)madvise(reinterpret_cast<void*>(from), to - from, advice);
  };
  for (uint64_t part = start; part < end; part += std::min(2 * step, end - part)) {
    advise(part, std::min(part + step, end), MADV_DONTDUMP);
  }
  const std::string text = HostText("/proc/self/smaps");
  advise(start, end, MADV_DODUMP);

  std::vector<AddressRange> parts;
  unsigned long long from = 0, to = 0, kib = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::string copy(line.substr(0, 64));
    if (sscanf(copy.c_str(), "%llx-%llx ", &from, &to) == 2) continue;
    if (sscanf(copy.c_str(), "Rss: %llu", &kib) != 1 &&
        sscanf(copy.c_str(), "Swap: %llu", &kib) != 1) {
      continue;
    }
    const AddressRange part = {std::max<uint64_t>(from, start), std::min<uint64_t>(to, end)};
    if (kib == 0 || part.start >= part.end) continue;
    if (parts.empty() || parts.back().start != part.start) parts.push_back(part);
  }
  return parts;
}

}  // namespace

absl::StatusOr<TouchedPages> TouchedPages::Open() {
  TouchedPages pages;
  pages.pagemap_ = OwnedFd(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pages.pagemap_.valid()) return ErrnoStatus(errno, "cannot open /proc/self/pagemap");
  return pages;
}

absl::Status TouchedPages::Find(uint64_t start, uint64_t end, Which which,
                                std::vector<AddressRange>* found) {
  // A scan does not tell what the copy has for itself.
  if (which == Which::kLeftBehind) return ReadEntries(start, end, which, found);
  if (scan_works_) {
    absl::Status status = Scan(start, end, which, found);
    if (ErrnoOf(status) != ENOTTY) return status;
    scan_works_ = false;
  }
  return ScanParts(start, end, which, found);
}

absl::Status TouchedPages::Scan(uint64_t start, uint64_t end, Which which,
                                std::vector<AddressRange>* found) {
  const size_t first = found->size();
  PmScanArg scan = {};
  scan.start = start;
  scan.end = end;
  // Zeros of the kernel's own are no page; what a write made is no file's.
  scan.category_mask = which == Which::kTouched ? kPageIsZero : kPageIsZero | kPageIsFile;
  if (ForWorkingSet(which)) scan.max_pages = kMaxWorkingSetPages + 1;
  scan.category_inverted = scan.category_mask;
  scan.category_anyof_mask = kPageIsPresent | kPageIsSwapped;
  scan.return_mask = kPageIsPresent | kPageIsSwapped;
  const int error = ScanPagemap(pagemap_.get(), scan, [=](const PageRegion& region) {
    Append(region.start, region.end, which, found, first);
  });
  if (error != 0) return ErrnoStatus(error, "cannot scan /proc/self/pagemap");
  return absl::OkStatus();
}

absl::Status TouchedPages::ScanParts(uint64_t start, uint64_t end, Which which,
                                     std::vector<AddressRange>* found) {
  if (end - start <= kMinPart) return ReadEntries(start, end, which, found);
  for (const AddressRange& part : OccupiedParts(start, end)) {
    KM_RETURN_IF_ERROR(ReadEntries(part.start, part.end, which, found));
  }
  return absl::OkStatus();
}

absl::Status TouchedPages::ReadEntries(uint64_t start, uint64_t end, Which which,
                                       std::vector<AddressRange>* found) {
  std::vector<uint64_t> entries(4096);
  size_t first = found->size();
  uint64_t pages = 0;
  while (start < end && !(ForWorkingSet(which) && pages > kMaxWorkingSetPages)) {
    size_t count = std::min<size_t>(entries.size(), (end - start) / kPageSize);
    ssize_t bytes = pread(pagemap_.get(), entries.data(), count * sizeof(uint64_t),
                          static_cast<off_t>(start / kPageSize * sizeof(uint64_t)));
    if (bytes <= 0) return ErrnoStatus(bytes < 0 ? errno : EIO, "cannot read /proc/self/pagemap");
    count = static_cast<size_t>(bytes) / sizeof(uint64_t);
    for (size_t i = 0; i < count; ++i, start += kPageSize) {
      if (Counts(entries[i], which)) {
        Append(start, start + kPageSize, which, found, first);
        ++pages;
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace km
