// Descriptors that stand for a process: pidfd_open(2).
#ifndef KM_FILES_PIDFD_H_
#define KM_FILES_PIDFD_H_

namespace km {

// The host's process behind a pidfd, the monitor's own for the program itself; -1 when it has
// ended, 0 when `host_fd` is no pidfd.
int PidfdProcess(int host_fd);

}  // namespace km

#endif  // KM_FILES_PIDFD_H_
