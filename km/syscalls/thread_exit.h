// What the kernel does for others when a thread ends.
#ifndef KM_SYSCALLS_THREAD_EXIT_H_
#define KM_SYSCALLS_THREAD_EXIT_H_

#include "km/process/process.h"

namespace km {

// Releases the thread's robust futexes and wakes who joins it (set_tid_address(2),
// get_robust_list(2)). On the ending thread, before Process::EndThread.
void ReleaseThread(Process& process, Thread& thread);
// The same for all threads where the process ends, for those outside who share its memory. On the
// main thread, while it is paused.
void ReleaseThreads(Process& process);

}  // namespace km

#endif  // KM_SYSCALLS_THREAD_EXIT_H_
