// Signals that the host's kernel sends for an open file: O_ASYNC, leases, F_NOTIFY (fcntl(2)).
#ifndef KM_PROCESS_FILE_SIGNALS_H_
#define KM_PROCESS_FILE_SIGNALS_H_

#include <signal.h>

#include "km/process/process.h"

namespace km {

// Whether a signal of that number and si_code tells of a file: then si_fd and si_band are set.
bool TellsOfFile(int sig, int code);

// Sends on a signal that TellsOfFile, with the host's descriptor in si_fd: to the thread that the
// file's owner is, or to the process. Results as of Process::Signal.
int SendFileSignal(Process& process, siginfo_t info);

}  // namespace km

#endif  // KM_PROCESS_FILE_SIGNALS_H_
