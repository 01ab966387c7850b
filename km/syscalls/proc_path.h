// Where a path leads that goes through the program's own directory in /proc. The host's /proc/self
// is the monitor's: the program must see itself there, and never reach the monitor.
#ifndef KM_SYSCALLS_PROC_PATH_H_
#define KM_SYSCALLS_PROC_PATH_H_

#include <cstdint>
#include <string>

#include "km/process/process.h"
#include "km/syscalls/paths.h"

namespace km {

struct ProcPath {
  enum class Kind {
    kOrdinary,    // `path`: absolute, outside of the program's own directory
    kOwn,         // `path`: the name below /proc/self: "maps", "task/TID/fd"; "" is the directory
    kDescriptor,  // `fd` of the program's
    // `name` in the directory `path` is a link into another process, which only the host can
    // follow, and then `rest`.
    kForeignLink,
  };
  Kind kind = Kind::kOrdinary;
  std::string path;
  uint64_t fd = 0;
  std::string name, rest;
};

// True for a path that is worth a walk: an absolute one below /proc or /dev, or one relative to a
// directory of the program's below /proc.
bool MayLeadToProc(const HostPath& path);

// Follows symbolic links by hand, with the program's own directory in place of the monitor's. 0,
// -ELOOP, -ENOENT, -ENOTDIR, or why the host would not follow a link. What does not exist is left
// for the host to complain about.
int WalkPath(const Call& call, const HostPath& path, LastLink last, ProcPath* out);

// A name below /proc/self taken apart: "task/TID/maps" is "maps" of that thread.
struct OwnName {
  uint32_t tid = 0;  // 0: of the process
  std::string name;
};
OwnName ParseOwnName(const std::string& name);
// Where the host has it; of no file when there is no such thread or descriptor.
std::string HostPathOfOwn(Process& process, const OwnName& own);

// Whether FileDescription::path is one of the program's own directory in /proc.
bool IsOwnPath(const std::string& path);

// Whether an open file may be the program's. 0: it is on no procfs, or of a process that is not the
// monitor. -ELOOP: in the directory of the monitor, of a thread of it, or of a snapshot's writer.
// -EACCES: on a procfs in another place, which may show the monitor by another number. -ESRCH: its
// process has ended, and nobody knows any more which one it was.
int JudgeProcFile(int host_fd);

// The text behind a symbolic link in the program's own directory ("exe", "cwd", "root", or "self"
// and "thread-self" for the links that lead to it); empty when `name` is none.
std::string OwnLink(Process& process, uint32_t tid, const std::string& name);

}  // namespace km

#endif  // KM_SYSCALLS_PROC_PATH_H_
