// How far something is that takes a while, for people at a terminal.
#ifndef TOOLS_KMCTL_PROGRESS_H_
#define TOOLS_KMCTL_PROGRESS_H_

#include <atomic>
#include <cstdint>
#include <thread>

#include "absl/synchronization/notification.h"

namespace km {

// A line on standard error that takes the place of the one before: nothing in the first second, nor
// where standard error is no terminal.
void ShowProgress(uint64_t done, uint64_t total, double seconds);
// Takes the line away.
void ClearProgress();

// Shows how far the bytes that somebody else counts in `*done` are, for as long as it lives.
class ProgressLine {
 public:
  ProgressLine(const std::atomic<uint64_t>* done, uint64_t total);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

 private:
  void Show();

  const std::atomic<uint64_t>& done_;
  const uint64_t total_;
  absl::Notification over_;
  std::thread thread_;
};

}  // namespace km

#endif  // TOOLS_KMCTL_PROGRESS_H_
