// What the program finds in its own directory in /proc.
#ifndef KM_SYSCALLS_PROC_FILES_H_
#define KM_SYSCALLS_PROC_FILES_H_

#include <string>
#include <vector>

#include "km/process/process.h"

namespace km {

// Opens /proc/self/`name` of the program's with open(2)'s flags: a host descriptor, or a negative
// errno. What is neither made here nor harmless to pass on from the host is -EACCES. *path gets the
// name that FileDescription::path keeps.
int OpenOwnFile(Process& process, Thread& thread, const std::string& name, int flags,
                std::string* path);

// The entries of a directory whose contents the host does not know, by its FileDescription::path;
// false for every other.
bool OwnDirectory(Process& process, const std::string& path, std::vector<std::string>* names);

}  // namespace km

#endif  // KM_SYSCALLS_PROC_FILES_H_
