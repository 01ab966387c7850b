// Host calls by which the program changes something that Linux keeps for each thread, and that the
// host therefore keeps for the guest thread's host thread.
#ifndef KM_SYSCALLS_SELF_CALL_H_
#define KM_SYSCALLS_SELF_CALL_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "km/syscalls/call.h"

namespace km {

// The main thread stands for the program's first thread towards the host: what that one changes of
// its credentials is changed there, too, for whoever looks at the process or sends it a signal, and
// because files that km writes are the program's doing. docs/security.md tells more.
enum class Follow { kNot, kFirstThread };

// Makes a host call for the calling thread. `data`: bytes that an argument points to, kept until
// the main thread has made the call as well; may be null.
SyscallResult SelfCall(Call& call, long number, const std::array<uint64_t, 5>& arguments,
                       Follow follow, std::shared_ptr<std::vector<uint8_t>> data = nullptr);

}  // namespace km

#endif  // KM_SYSCALLS_SELF_CALL_H_
