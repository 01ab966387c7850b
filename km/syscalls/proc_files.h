// What the program finds in its own directory in /proc.
#ifndef KM_SYSCALLS_PROC_FILES_H_
#define KM_SYSCALLS_PROC_FILES_H_

#include <memory>
#include <string>
#include <vector>

#include "km/base/owned.h"
#include "km/syscalls/call.h"

namespace km {

// Opens /proc/self/`name` of the program's with open(2)'s flags: a host descriptor, or a negative
// errno. What is neither made here nor harmless to pass on from the host is -EACCES, but for
// O_PATH. A file that is made here is a memfd, which only stands for it: ProcTransfer has its
// contents. *path gets the name that FileDescription::path keeps.
int OpenOwnFile(Process& process, const std::string& name, int flags, std::string* path);

// Whether OpenOwnFile made it. As natively its bytes cannot be spliced.
inline bool IsStandIn(const OpenFile& file) { return file.description->kind == FileKind::kProc; }

// For calls that look at a file (fstat(2)) that OpenOwnFile stands in for: the host's, as O_PATH;
// invalid for every other.
OwnedFd OwnFileToLookAt(Process& process, const std::shared_ptr<OpenFile>& file);

// The numbers, ascending, that are the entries of a directory whose contents the host does not
// know, by its FileDescription::path; false for every other.
bool OwnDirectory(Process& process, const std::string& path, std::vector<uint64_t>* numbers);

// read(2), write(2) and their kin (`number` one of them, arguments as the program gave them) on a
// file of FileKind::kProc.
int64_t ProcTransfer(Call& call, long number, const std::shared_ptr<OpenFile>& file);

// lseek(2), of the same.
int64_t ProcSeek(Call& call, const std::shared_ptr<OpenFile>& file);

}  // namespace km

#endif  // KM_SYSCALLS_PROC_FILES_H_
