// What the kernel does for others when a thread ends.
#ifndef KM_SYSCALLS_THREAD_EXIT_H_
#define KM_SYSCALLS_THREAD_EXIT_H_

#include "km/process/process.h"

namespace km {

// Releases the thread's robust futexes and wakes who joins it (set_tid_address(2),
// get_robust_list(2)). On the ending thread, before Process::EndThread.
void ReleaseThread(Process& process, Thread& thread);

}  // namespace km

#endif  // KM_SYSCALLS_THREAD_EXIT_H_
