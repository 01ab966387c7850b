// The working set: pages of private memory that a process was writing when its snapshot was taken,
// or since it was resumed. It will write most of them as soon as it goes on, and each first write
// to a page that is still the file's costs a guest several exits. So a resume copies these ahead. A
// hint: that it is missing or wrong costs time, no more.
#ifndef KM_SNAPSHOT_WORKING_SET_H_
#define KM_SNAPSHOT_WORKING_SET_H_

#include <cstdint>
#include <vector>

#include "km/snapshot/image.h"
#include "km/snapshot/touched_pages.h"

namespace km {

// What a resume copies at most: 2 MiB for each clone.
inline constexpr uint64_t kMaxWorkingSetPages = 512;

// All that is in one of them, ascending. Each is ascending.
std::vector<AddressRange> Union(const std::vector<AddressRange>& one,
                                const std::vector<AddressRange>& other);

uint64_t PagesIn(const std::vector<AddressRange>& ranges);

// The set as the file has it (KM_WORKING_SET_PAGES); empty when there are too many pages.
std::vector<uint64_t> WorkingSetEntries(const std::vector<AddressRange>& pages);

// In a copy-on-write copy of a process, while that runs on: which pages of image.memory it has
// written since the copy was made. Not thread-safe.
class WorkingSetWatch {
 public:
  WorkingSetWatch(const Image& image, TouchedPages& running);

  // Looks at its page tables, which costs something for each page: at longer and longer intervals.
  void LookNowAndThen();

  // Looks for the last time. What there was before there were too many pages: these are the ones
  // that the process wants first.
  std::vector<AddressRange> Finish();

 private:
  void Look();

  const Image& image_;
  TouchedPages& running_;
  std::vector<AddressRange> written_;
  bool too_many_ = false;
  int64_t next_ns_;  // of CLOCK_MONOTONIC: when to look again
  int64_t interval_ns_;
};

}  // namespace km

#endif  // KM_SNAPSHOT_WORKING_SET_H_
