#include "tools/kmctl/progress.h"

#include <unistd.h>

#include <cstdio>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "tools/kmctl/names.h"

namespace km {

void ShowProgress(uint64_t done, uint64_t total, double seconds) {
  if (isatty(STDERR_FILENO) == 0 || seconds < 1 || done == 0 || total == 0) return;
  const auto so_far = static_cast<double>(done), all = static_cast<double>(total);
  const double rate = so_far / seconds;
  const std::string line = absl::StrFormat(
      "\r%3.0f %%  %s of %s, %s/s, %.0f s left \x1b[K", 100 * so_far / all, SizeText(done),
      SizeText(total), SizeText(static_cast<uint64_t>(rate)), (all - so_far) / rate);
  fwrite(line.data(), 1, line.size(), stderr);
}

void ClearProgress() {
  if (isatty(STDERR_FILENO) != 0) fputs("\r\x1b[K", stderr);
}

ProgressLine::ProgressLine(const std::atomic<uint64_t>* done, uint64_t total)
    : done_(*done), total_(total), thread_([this] { Show(); }) {}

ProgressLine::~ProgressLine() {
  over_.Notify();
  thread_.join();
  ClearProgress();
}

void ProgressLine::Show() {
  const absl::Time begin = absl::Now();
  while (!over_.WaitForNotificationWithTimeout(absl::Milliseconds(200))) {
    ShowProgress(done_, total_, absl::ToDoubleSeconds(absl::Now() - begin));
  }
}

}  // namespace km
