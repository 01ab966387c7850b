// The texts of the program's own files in /proc, in the host's format (proc(5)).
#ifndef KM_SYSCALLS_PROC_TEXTS_H_
#define KM_SYSCALLS_PROC_TEXTS_H_

#include <sys/resource.h>

#include <array>
#include <optional>
#include <string>

#include "km/process/process.h"
#include "km/syscalls/call.h"
#include "km/syscalls/proc_memory.h"
#include "km/syscalls/proc_path.h"

namespace km {

// Whether the text of this file below /proc/self is made here ("maps", "fdinfo/N").
bool MakesText(const std::string& name);
// That text, now; none where the thread or descriptor is gone, or what it asks for is not known.
std::optional<std::string> OwnText(Call& call, const OwnName& own);

// Where the kernel would find code and data, from the program's headers; 0 where unknown.
struct ProgramAddresses {
  uint64_t start_code = 0, end_code = 0, start_data = 0, end_data = 0;
};
ProgramAddresses AddressesOf(const LoadedElf& program);

// What of the host's answer is the program's own.
struct OwnStatus {
  uint32_t id = 0;   // of the thread, or of the process
  uint32_t pid = 0;  // of the process
  // Process group and session, for the program and for the host.
  uint32_t group = 0, session = 0, host_group = 0, host_session = 0;
  std::string comm;
  char state = 0;  // 0: the host's
  uint64_t threads = 0;
  uint64_t descriptors = 0;  // room in the table
  uint64_t resident_limit = 0;
  MemoryUse memory;
  ProgramAddresses program;
  AddressSpace::Layout layout;
  SignalSet thread_pending = 0, process_pending = 0, blocked = 0, ignored = 0, caught = 0;
  size_t signals_queued = 0;
};
// /proc/PID/stat, status and statm made from the monitor's own. `thread` is the same text of the
// host thread that a process's text tells about where it is about its first thread; may be empty.
std::string StatText(const std::string& host, const std::string& thread, const OwnStatus& own);
std::string StatusText(const std::string& host, const OwnStatus& own);
std::string StatmText(const std::string& host, const OwnStatus& own);
std::string FdInfoText(Process& process, const std::string& host, uint64_t fd);
std::string LimitsText(const std::array<rlimit, RLIM_NLIMITS>& limits);

}  // namespace km

#endif  // KM_SYSCALLS_PROC_TEXTS_H_
