// The handlers of table.def: one declaration a row. Each is defined in the file of its topic.
#ifndef KM_SYSCALLS_HANDLERS_H_
#define KM_SYSCALLS_HANDLERS_H_

#include "km/syscalls/call.h"

namespace km {

// Every handler: see the manual page of the call. Runs on the calling thread; a call that blocks
// goes through Thread::Block. Rows without support share Unsupported (ENOSYS) and NotPermitted
// (EPERM).
#define KM_SYSCALL(number, name, handler, support, arguments, caveat) \
  SyscallResult handler(Call& call);
#include "km/syscalls/table.def"
#undef KM_SYSCALL
SyscallResult NotPermitted(Call& call);
// PR_SET_VMA of prctl(2).
SyscallResult PrctlSetVma(Call& call);

}  // namespace km

#endif  // KM_SYSCALLS_HANDLERS_H_
