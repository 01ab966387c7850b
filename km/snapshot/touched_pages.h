// Which pages of private anonymous memory were ever written.
#ifndef KM_SNAPSHOT_TOUCHED_PAGES_H_
#define KM_SNAPSHOT_TOUCHED_PAGES_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "km/base/owned.h"
#include "km/snapshot/writer.h"

namespace km {

// Reads /proc/self/pagemap: with the PAGEMAP_SCAN ioctl (Linux 6.7) the cost is in the pages that
// exist, without it in the size of those parts of the range, some GiB each, that have any.
class TouchedPages {
 public:
  static absl::StatusOr<TouchedPages> Open();

  // Appends the touched parts of the host range [start, end), as host addresses, ascending. Parts
  // that are less than kGap apart are joined.
  absl::Status Find(uint64_t start, uint64_t end, std::vector<AddressRange>* found);

  // Every part costs a mapping at the resume; a gap costs a hole in the file.
  static constexpr uint64_t kGap = 256 << 10;

 private:
  absl::Status Scan(uint64_t start, uint64_t end, std::vector<AddressRange>* found);
  absl::Status ScanParts(uint64_t start, uint64_t end, std::vector<AddressRange>* found);
  absl::Status ReadEntries(uint64_t start, uint64_t end, std::vector<AddressRange>* found);

  OwnedFd pagemap_;
  bool scan_works_ = true;
};

}  // namespace km

#endif  // KM_SNAPSHOT_TOUCHED_PAGES_H_
