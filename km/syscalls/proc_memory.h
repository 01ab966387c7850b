// What /proc tells of the program's memory: the host knows it as part of the monitor's.
#ifndef KM_SYSCALLS_PROC_MEMORY_H_
#define KM_SYSCALLS_PROC_MEMORY_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "km/process/process.h"

namespace km {

// The text of /proc/self/smaps, and of smaps_rollup. Where the host has merged mappings of the
// program's into one, its figures are divided by their sizes.
std::string SmapsText(Process& process);
std::string SmapsRollupText(Process& process);

// In bytes; see proc(5), "status".
struct MemoryUse {
  uint64_t size = 0, peak = 0;
  uint64_t data = 0, stack = 0, code = 0, libraries = 0;
  // What is present of the monitor's own memory, to be taken off the host's counts.
  uint64_t own_anonymous = 0, own_file = 0;
};
MemoryUse MemoryUseOf(Process& process);
// For kernels without PAGEMAP_SCAN (before 6.7): adds what is present outside of the window, page
// by page of what `maps`, a text of /proc/self/maps, says is mapped. All are addresses of the host.
void AddOwnPresent(int pagemap, const std::string& maps, uint64_t window, uint64_t window_end,
                   MemoryUse* use);

// One mapping of /proc/PID/smaps: kilobytes by name, in the host's order.
struct SmapsEntry {
  uint64_t start = 0, end = 0;
  std::vector<std::pair<std::string, uint64_t>> fields;
  std::string flags;  // of "VmFlags"
};
std::vector<SmapsEntry> ParseSmaps(const std::string& text);
// The part of each of `entries` (ascending) that lies in [start, end), added up: the field names of
// the first of all, "Size" that of the range.
SmapsEntry SumSmaps(const std::vector<SmapsEntry>& entries, uint64_t start, uint64_t end);

}  // namespace km

#endif  // KM_SYSCALLS_PROC_MEMORY_H_
