// Access to memory that may vanish while it is touched: another guest thread unmaps it, a file
// shrinks. A fault ends the copy instead of the monitor.
#ifndef KM_MEMORY_GUARDED_COPY_H_
#define KM_MEMORY_GUARDED_COPY_H_

#include <sys/ucontext.h>

#include <cstddef>
#include <cstdint>

namespace km {

// Each returns whether no fault came. Async-signal-safe, thread-safe. They need a handler of
// SIGSEGV and SIGBUS that calls FixGuardedFault.
bool GuardedCopy(void* to, const void* from, size_t size);
bool GuardedLoad32(const void* from, uint32_t* value);
// One store.
bool GuardedStore16(void* at, uint16_t value);
// Compare-and-swap; *expected gets what was found.
bool GuardedCompareExchange32(void* at, uint32_t* expected, uint32_t desired);

// Called by the handler: if the fault came from one of the functions above, makes it return false.
bool FixGuardedFault(ucontext_t* context);

}  // namespace km

#endif  // KM_MEMORY_GUARDED_COPY_H_
