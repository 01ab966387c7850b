#include "km/monitor/idle_watch.h"

#include <algorithm>
#include <limits>

namespace km {

IdleWatch::IdleWatch(int64_t limit_ns)
    : limit_(limit_ns), interval_(std::max(limit_ns / 10, kLeastInterval)) {}

int IdleWatch::timeout_ms(int64_t now) const {
  if (!running_) return -1;
  constexpr int64_t kMillisecond = 1'000'000;
  const int64_t left = (std::max<int64_t>(next_look_ - now, 0) + kMillisecond - 1) / kMillisecond;
  return static_cast<int>(std::min<int64_t>(left, std::numeric_limits<int>::max()));
}

bool IdleWatch::Look(const Connections& found, uint64_t accepted, int64_t now) {
  // One that was open at the last look may have been so until just now.
  const bool busy = found.open || !found.listens;
  if (!running_ || busy || was_busy_ || accepted != accepted_) since_ = now;
  running_ = true;
  was_busy_ = busy;
  accepted_ = accepted;
  const int64_t end = since_ + limit_;
  next_look_ = now < end ? std::min(now + interval_, end) : now + interval_;
  return now >= end;
}

}  // namespace km
