#include "km/snapshot/working_set.h"

#include <km/notes.h>
#include <time.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "km/base/records.h"
#include "km/base/status.h"
#include "km/memory/guest_addr.h"
#include "km/process/clock.h"
#include "km/snapshot/notes.h"

namespace km {
namespace {

constexpr int64_t kFirstLookNs = 10'000'000;

}  // namespace

std::vector<AddressRange> Union(const std::vector<AddressRange>& one,
                                const std::vector<AddressRange>& other) {
  std::vector<AddressRange> all, joined;
  std::merge(one.begin(), one.end(), other.begin(), other.end(), std::back_inserter(all),
             [](const AddressRange& a, const AddressRange& b) { return a.start < b.start; });
  for (const AddressRange& range : all) {
    if (!joined.empty() && range.start <= joined.back().end) {
      joined.back().end = std::max(joined.back().end, range.end);
    } else {
      joined.push_back(range);
    }
  }
  return joined;
}

uint64_t PagesIn(const std::vector<AddressRange>& ranges) {
  uint64_t bytes = 0;
  for (const AddressRange& range : ranges) bytes += range.end - range.start;
  return bytes / kPageSize;
}

std::vector<uint64_t> WorkingSetEntries(const std::vector<AddressRange>& pages) {
  std::vector<uint64_t> entries;
  if (PagesIn(pages) > kMaxWorkingSetPages) return entries;
  for (const AddressRange& range : pages) {
    entries.push_back(range.start | ((range.end - range.start) / kPageSize));
  }
  return entries;
}

WorkingSetWatch::WorkingSetWatch(const Image& image, TouchedPages& running)
    : image_(image),
      running_(running),
      next_ns_(HostClock(CLOCK_MONOTONIC) + kFirstLookNs),
      interval_ns_(kFirstLookNs) {}

void WorkingSetWatch::LookNowAndThen() {
  const int64_t begin = HostClock(CLOCK_MONOTONIC);
  if (begin < next_ns_) return;
  Look();
  // Twice as far from the start each time, and rarely enough for what it takes.
  const int64_t end = HostClock(CLOCK_MONOTONIC);
  interval_ns_ = std::max(2 * interval_ns_, 16 * (end - begin));
  next_ns_ = end + interval_ns_;
}

void WorkingSetWatch::Look() {
  if (too_many_) return;
  std::vector<AddressRange> found;
  for (const ImageMemory& piece : image_.memory) {
    if (piece.address >= KM_OBJECT_BASE || PagesIn(found) > kMaxWorkingSetPages) break;
    const absl::Status status = running_.Find(piece.address, piece.address + piece.size,
                                              TouchedPages::Which::kUnshared, &found);
    if (!status.ok()) return;
  }
  std::vector<AddressRange> all = Union(image_.working_set, found);
  if (PagesIn(all) > kMaxWorkingSetPages) all = std::move(found);
  too_many_ = PagesIn(all) > kMaxWorkingSetPages;
  if (!too_many_) written_ = std::move(all);
}

std::vector<AddressRange> WorkingSetWatch::Finish() {
  Look();
  return std::move(written_);
}

absl::Status DecodeWorkingSet(ByteReader records, Image* image) {
  uint64_t end = 0, count = 0;
  bool valid = true;
  KM_RETURN_IF_ERROR(ForEachRecord(records, [&](uint32_t tag, ByteReader* value) {
    if (tag != KM_WORKING_SET_PAGES) return false;
    while (valid && !value->empty()) {
      const uint64_t entry = value->U64();
      if (entry == 0) continue;
      const uint64_t start = PageDown(entry), size = entry - start;
      count += size;
      const uint64_t previous_end = std::exchange(end, start + size * kPageSize);
      valid = size != 0 && start >= previous_end && start < KM_OBJECT_BASE &&
              end <= KM_OBJECT_BASE && count <= kMaxWorkingSetPages;
      image->working_set.push_back({start, end});
    }
    return true;
  }));
  if (valid) return absl::OkStatus();
  return absl::DataLossError("its pages are not in order, or too many");
}

}  // namespace km
