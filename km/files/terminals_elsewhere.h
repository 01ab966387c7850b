// Who else has terminals open.
#ifndef KM_FILES_TERMINALS_ELSEWHERE_H_
#define KM_FILES_TERMINALS_ELSEWHERE_H_

#include <sys/types.h>

#include <utility>

#include "absl/container/flat_hash_set.h"

namespace km {

// The slaves of pseudo-terminals (device and inode) that other processes have open, as far as /proc
// shows their descriptors: those of the same user, to root all. Some microseconds for each process.
absl::flat_hash_set<std::pair<dev_t, ino_t>> TerminalsElsewhere();

}  // namespace km

#endif  // KM_FILES_TERMINALS_ELSEWHERE_H_
