// Which pages of private memory were written.
#ifndef KM_SNAPSHOT_TOUCHED_PAGES_H_
#define KM_SNAPSHOT_TOUCHED_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/base/owned.h"
#include "km/snapshot/image.h"

namespace km {

// Reads /proc/self/pagemap: with the PAGEMAP_SCAN ioctl (Linux 6.7) the cost is in the pages that
// exist, without it in the size of those parts of the range, some GiB each, that have any.
class TouchedPages {
 public:
  // `window` is the host address of guest address 0. In a copy that this process makes of itself it
  // goes on telling of this one, where descriptor() stays open. `pagemap` is open for reading; when
  // it is invalid errno tells why.
  static absl::StatusOr<TouchedPages> Open(const std::byte* window, OwnedFd pagemap);
  int descriptor() const { return pagemap_.get(); }

  // kTouched: there is a page. kChanged: it is not that of the file which is mapped there. The
  // other two are for working sets; there may be more of them than kMaxWorkingSetPages when one
  // more than these is found. kRecent: like kChanged. kUnshared: not that of a copy-on-write copy
  // of the process either, so it was written since that was made.
  enum class Which { kTouched, kChanged, kRecent, kUnshared };
  // Appends those parts of [start, end), ascending; all are guest addresses. Of the first two,
  // parts that are less than a gap apart are joined: every part costs a mapping at the resume, a
  // gap a hole in the file, or where the memory is a file's, bytes.
  absl::Status Find(uint64_t start, uint64_t end, Which which, std::vector<AddressRange>* found);

 private:
  // Of host addresses, as all below.
  absl::Status FindInHost(uint64_t start, uint64_t end, Which which,
                          std::vector<AddressRange>* found);
  absl::Status Scan(uint64_t start, uint64_t end, Which which, std::vector<AddressRange>* found);
  absl::Status ScanParts(uint64_t start, uint64_t end, Which which,
                         std::vector<AddressRange>* found);
  absl::Status ReadEntries(uint64_t start, uint64_t end, Which which,
                           std::vector<AddressRange>* found);

  uint64_t window_ = 0;
  OwnedFd pagemap_;
  bool scan_works_ = true;
};

}  // namespace km

#endif  // KM_SNAPSHOT_TOUCHED_PAGES_H_
