// Descriptors that other processes give the program: at the start, in a message, for a resume.
#ifndef KM_SYSCALLS_FOREIGN_FILES_H_
#define KM_SYSCALLS_FOREIGN_FILES_H_

#include <memory>

#include "km/files/fd_table.h"
#include "km/process/process.h"

namespace km {

// What the program may have of `file`, which came from outside. What is open in the monitor's
// directory in /proc becomes the program's own file of that name; null: it leads to the monitor and
// the program has nothing like it, or it is of KVM's. Everything else stays as it is. Thread-safe.
std::shared_ptr<OpenFile> AdmitFile(Process& process, std::shared_ptr<OpenFile> file);

// The same for all that the program has before it runs: /dev/null stands for what it may not have,
// as where Linux hands on no more than a security module allows.
void AdmitInherited(Process& process);

}  // namespace km

#endif  // KM_SYSCALLS_FOREIGN_FILES_H_
