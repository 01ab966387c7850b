// A blocking system call on the host that a kick interrupts without a lost wake-up.
//
// The call stands between two labels after a test of the thread's flag. A kick sets the flag and
// then sends a signal; its handler moves RIP from between the labels to the way out. So a kick that
// comes before the call keeps it from being made, one that comes during it makes it return EINTR,
// and one that comes after it leaves its result alone.
#ifndef KM_BASE_HOST_CALL_H_
#define KM_BASE_HOST_CALL_H_

#include <sys/ucontext.h>

#include <atomic>
#include <cstdint>

namespace km {

// What HostCall returns when it was kicked, outside of every errno: during the call (also where the
// host said EINTR), or before it was made at all.
inline constexpr int64_t kKicked = -512;
inline constexpr int64_t kKickedBefore = -516;
inline bool WasKicked(int64_t result) { return result == kKicked || result == kKickedBefore; }

// Makes system call `number` unless *flag is or becomes nonzero. Returns its result or a negative
// errno, or one of the two above. Thread-safe.
int64_t HostCall(const std::atomic<uint32_t>* flag, long number, uint64_t a0 = 0, uint64_t a1 = 0,
                 uint64_t a2 = 0, uint64_t a3 = 0, uint64_t a4 = 0, uint64_t a5 = 0);

// Whether this call on the open file `a0` would have to wait now. One that was kicked before it was
// made then counts as interrupted: a program that looks for signals, finds none and reads must not
// wait for bytes with one that came in between. False for calls that do not read or write, for
// files in non-blocking mode and for messages with MSG_DONTWAIT. Thread-safe.
bool WouldWait(long number, uint64_t a0, uint64_t a2, uint64_t a3);

// Called by the kick's signal handler. Async-signal-safe.
void AbortHostCall(ucontext_t* context);

}  // namespace km

#endif  // KM_BASE_HOST_CALL_H_
