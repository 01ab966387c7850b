// The texts of the program's own files in /proc, in the host's format (proc(5)).
#ifndef KM_SYSCALLS_PROC_TEXTS_H_
#define KM_SYSCALLS_PROC_TEXTS_H_

#include <sys/resource.h>

#include <array>
#include <optional>
#include <string>

#include "km/process/process.h"

namespace km {

// The text of /proc/self/`name`; none when it is not made here.
std::optional<std::string> OwnText(Process& process, Thread& thread, const std::string& name);

// What of the host's answer is the program's own. A zero or empty field keeps the host's.
struct OwnStatus {
  uint32_t pid = 0;
  uint32_t host_pid = 0;
  std::string comm;
  uint64_t threads = 0;
  uint64_t bytes = 0;       // of all mappings
  uint64_t data_bytes = 0;  // of those that are private and writable
  AddressSpace::Layout layout;
  SignalSet thread_pending = 0, process_pending = 0, blocked = 0, ignored = 0, caught = 0;
};
// /proc/PID/stat, status and statm made from the monitor's own.
std::string StatText(const std::string& host, const OwnStatus& own);
std::string StatusText(const std::string& host, const OwnStatus& own);
std::string StatmText(const std::string& host, const OwnStatus& own);
std::string LimitsText(const std::array<rlimit, RLIM_NLIMITS>& limits);

}  // namespace km

#endif  // KM_SYSCALLS_PROC_TEXTS_H_
