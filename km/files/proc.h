// What stands in, towards the host's kernel, for a file that the monitor makes in the program's own
// directory in /proc.
#ifndef KM_FILES_PROC_H_
#define KM_FILES_PROC_H_

namespace km {

// A host descriptor with the access mode and status flags of open(2)'s `flags`: an empty file whose
// position is the program's. A negative errno.
int OpenProcStandIn(int flags);

}  // namespace km

#endif  // KM_FILES_PROC_H_
