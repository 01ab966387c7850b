// Control messages (cmsg(3)) on their way between the program and the host: what they name by
// number - descriptors, the process itself - has other numbers there. Pure functions of hostile
// bytes.
#ifndef KM_SYSCALLS_SOCKET_CONTROL_H_
#define KM_SYSCALLS_SOCKET_CONTROL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"

namespace km {

// The process's own id as one side knows it and as the other does.
struct IdPair {
  int32_t from = 0, to = 0;
};

// Changes `control`, which the program sends, into what the host shall read. `host_fd` gives the
// host's number of a descriptor of the program's, or -1, which the host refuses where it looks at
// it. Stops at a header that is not valid: there the host does, with the right error.
void ControlToHost(absl::Span<char> control, IdPair pid, absl::FunctionRef<int(int)> host_fd);

// One message that the host wrote.
struct ControlMessage {
  int level = 0, type = 0;
  absl::Span<char> data;  // shorter than the type's where there was no room

  bool IsRights() const;
  // Whether it hands out descriptors: SCM_RIGHTS and others; and which, of the reader's side.
  bool HasDescriptors() const;
  std::vector<int> Descriptors() const;
  // Names the process itself as the program does.
  void TranslateIds(IdPair pid);
};

// Takes the first message off `rest`; false when there is none.
bool NextControl(absl::Span<char>* rest, ControlMessage* out);

}  // namespace km

#endif  // KM_SYSCALLS_SOCKET_CONTROL_H_
