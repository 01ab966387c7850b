#include "km/base/log.h"

#include <unistd.h>

#include <atomic>

#include "absl/strings/str_cat.h"
#include "km/base/output.h"

namespace km {
namespace {
std::atomic<LogLevel> log_level = LogLevel::kWarning;
}

void SetLogLevel(LogLevel level) { log_level.store(level, std::memory_order_relaxed); }

bool LogEnabled(LogLevel level) { return level <= log_level.load(std::memory_order_relaxed); }

void Log(LogLevel level, absl::string_view message) {
  if (!LogEnabled(level)) return;
  WriteOutput(STDERR_FILENO, absl::StrCat("km: ", message, "\n"));
}

}  // namespace km
