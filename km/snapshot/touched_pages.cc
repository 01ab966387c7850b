#include "km/snapshot/touched_pages.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <utility>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "km/base/host_files.h"
#include "km/base/pagemap_scan.h"
#include "km/base/status.h"
#include "km/memory/guest_addr.h"
#include "km/snapshot/working_set.h"

namespace km {
namespace {

// What each `Which` looks for.
struct Search {
  uint64_t gap;    // parts that are less than this apart are one
  bool own;        // not pages of a file that is mapped
  bool exclusive;  // that nobody else has: to be read page by page, for a scan does not tell
  bool few;        // stops behind kMaxWorkingSetPages
};

Search SearchFor(TouchedPages::Which which) {
  switch (which) {
    case TouchedPages::Which::kTouched:
      return {.gap = 256 << 10, .own = false, .exclusive = false, .few = false};
    case TouchedPages::Which::kChanged:
      return {.gap = 64 << 10, .own = true, .exclusive = false, .few = false};
    case TouchedPages::Which::kRecent:
      return {.gap = 1, .own = true, .exclusive = false, .few = true};
    case TouchedPages::Which::kUnshared:
      break;
  }
  return {.gap = 1, .own = true, .exclusive = true, .few = true};
}

bool Counts(uint64_t entry, const Search& search) {
  const uint64_t there = search.exclusive ? kEntryPresent : kEntryPresent | kEntrySwapped;
  return (entry & there) != 0 && (!search.own || (entry & kEntryFile) == 0) &&
         (!search.exclusive || (entry & kEntryExclusive) != 0);
}

void Append(uint64_t start, uint64_t end, const Search& search, std::vector<AddressRange>* found,
            size_t first) {
  if (found->size() > first && start - found->back().end < search.gap) {
    found->back().end = end;
  } else {
    found->push_back({start, end});
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

absl::StatusOr<TouchedPages> TouchedPages::Open(const std::byte* window, OwnedFd pagemap) {
  TouchedPages pages;
  pages.window_ = reinterpret_cast<uint64_t>(window);
  pages.pagemap_ = std::move(pagemap);
  if (!pages.pagemap_.valid()) return ErrnoStatus(errno, "cannot open /proc/self/pagemap");
  return pages;
}

absl::Status TouchedPages::Find(uint64_t start, uint64_t end, Which which,
                                std::vector<AddressRange>* found) {
  const size_t first = found->size();
  KM_RETURN_IF_ERROR(FindInHost(window_ + start, window_ + end, which, found));
  for (size_t i = first; i < found->size(); ++i) {
    (*found)[i].start -= window_;
    (*found)[i].end -= window_;
  }
  return absl::OkStatus();
}

absl::Status TouchedPages::FindInHost(uint64_t start, uint64_t end, Which which,
                                      std::vector<AddressRange>* found) {
  if (SearchFor(which).exclusive) return ReadEntries(start, end, which, found);
  if (scan_works_) {
    absl::Status status = Scan(start, end, which, found);
    if (ErrnoOf(status) != ENOTTY) return status;
    scan_works_ = false;
  }
  return ScanParts(start, end, which, found);
}

absl::Status TouchedPages::Scan(uint64_t start, uint64_t end, Which which,
                                std::vector<AddressRange>* found) {
  const Search search = SearchFor(which);
  const size_t first = found->size();
  PmScanArg scan = {};
  scan.start = start;
  scan.end = end;
  // Zeros of the kernel's own are no page; what a write made is no file's.
  scan.category_mask = search.own ? kPageIsZero | kPageIsFile : kPageIsZero;
  if (search.few) scan.max_pages = kMaxWorkingSetPages + 1;
  scan.category_inverted = scan.category_mask;
  scan.category_anyof_mask = kPageIsPresent | kPageIsSwapped;
  scan.return_mask = kPageIsPresent | kPageIsSwapped;
  const int error = ScanPagemap(pagemap_.get(), scan, [=](const PageRegion& region) {
    Append(region.start, region.end, search, found, first);
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
  const Search search = SearchFor(which);
  const size_t first = found->size();
  uint64_t pages = 0;
  while (start < end && !(search.few && pages > kMaxWorkingSetPages)) {
    size_t count = std::min<size_t>(entries.size(), (end - start) / kPageSize);
    ssize_t bytes = pread(pagemap_.get(), entries.data(), count * sizeof(uint64_t),
                          static_cast<off_t>(start / kPageSize * sizeof(uint64_t)));
    if (bytes <= 0) return ErrnoStatus(bytes < 0 ? errno : EIO, "cannot read /proc/self/pagemap");
    count = static_cast<size_t>(bytes) / sizeof(uint64_t);
    for (size_t i = 0; i < count; ++i, start += kPageSize) {
      if (Counts(entries[i], search)) {
        Append(start, start + kPageSize, search, found, first);
        ++pages;
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace km
