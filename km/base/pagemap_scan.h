// /proc/PID/pagemap: its entries, and PAGEMAP_SCAN: <linux/fs.h> of Linux 6.7, which Debian 12's
// headers do not have. Source: the kernel's Documentation/admin-guide/mm/pagemap.rst.
#ifndef KM_BASE_PAGEMAP_SCAN_H_
#define KM_BASE_PAGEMAP_SCAN_H_

#include <sys/ioctl.h>

#include <cerrno>
#include <cstdint>
#include <iterator>

namespace km {

struct PageRegion {
  uint64_t start, end, categories;
};
struct PmScanArg {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
static_assert(sizeof(PmScanArg) == 96);
inline constexpr unsigned long kPagemapScan = _IOWR('f', 16, PmScanArg);

inline constexpr uint64_t kScannedPage = 4096;  // bytes

// Bits of an entry, of which there is one of eight bytes for each page.
inline constexpr uint64_t kEntryPresent = uint64_t{1} << 63, kEntrySwapped = uint64_t{1} << 62,
                          kEntryFile = uint64_t{1} << 61, kEntryExclusive = uint64_t{1} << 56;

// Categories of PAGEMAP_SCAN.
inline constexpr uint64_t kPageIsFile = 1 << 2, kPageIsPresent = 1 << 3, kPageIsSwapped = 1 << 4,
                          kPageIsZero = 1 << 5;

// Calls each(region) for what PAGEMAP_SCAN finds in scan.start to scan.end, in order; `scan` says
// which categories, and with max_pages how many pages at most. 0 or an errno: ENOTTY of a kernel
// that cannot. Thread-safe.
template <typename Each>
int ScanPagemap(int pagemap, PmScanArg scan, Each each) {
  PageRegion regions[256];
  scan.size = sizeof(scan);
  scan.vec = reinterpret_cast<uint64_t>(regions);
  scan.vec_len = std::size(regions);
  while (scan.start < scan.end) {
    int count = ioctl(pagemap, kPagemapScan, &scan);
    if (count < 0) return errno;
    uint64_t bytes = 0;
    for (int i = 0; i < count; ++i) {
      bytes += regions[i].end - regions[i].start;
      each(regions[i]);
    }
    if (scan.walk_end <= scan.start) break;
    const uint64_t pages = bytes / kScannedPage;
    if (scan.max_pages != 0 && pages >= scan.max_pages) break;
    if (scan.max_pages != 0) scan.max_pages -= pages;
    scan.start = scan.walk_end;
  }
  return 0;
}

}  // namespace km

#endif  // KM_BASE_PAGEMAP_SCAN_H_
