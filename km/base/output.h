// Messages to people, on a descriptor that the program may share.
#ifndef KM_BASE_OUTPUT_H_
#define KM_BASE_OUTPUT_H_

#include "absl/strings/string_view.h"

namespace km {

// Writes `text` in one write(2). Nothing can be done about a descriptor that takes no bytes; the
// SIGPIPE that the host sends for one that has no reader is taken where the caller blocks it: it
// would be taken for one of the program's. Thread-safe.
void WriteOutput(int fd, absl::string_view text);

}  // namespace km

#endif  // KM_BASE_OUTPUT_H_
