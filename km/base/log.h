// The monitor's own messages, on standard error.
#ifndef KM_BASE_LOG_H_
#define KM_BASE_LOG_H_

#include "absl/strings/string_view.h"

namespace km {

enum class LogLevel { kError = 0, kWarning = 1, kInfo = 2, kDebug = 3 };

// What is written from now on; kWarning at the start. The one setting of the process that is
// global: a message may come from any floor.
void SetLogLevel(LogLevel level);
bool LogEnabled(LogLevel level);

// Writes "km: MESSAGE\n" in one write(2). Thread-safe.
void Log(LogLevel level, absl::string_view message);

}  // namespace km

#endif  // KM_BASE_LOG_H_
