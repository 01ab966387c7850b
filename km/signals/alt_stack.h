// The alternate signal stack of a thread. Source: sigaltstack(2).
#ifndef KM_SIGNALS_ALT_STACK_H_
#define KM_SIGNALS_ALT_STACK_H_

#include <signal.h>

#include <cstdint>

namespace km {

// Not in Debian 12's <signal.h>; sigaltstack(2).
inline constexpr uint32_t kSsAutodisarm = uint32_t{1} << 31;

struct AltStack {
  uint64_t sp = 0;
  uint64_t size = 0;
  uint32_t flags = SS_DISABLE;

  // Whether `rsp` lies in it, SS_AUTODISARM or not.
  bool Holds(uint64_t rsp) const { return rsp > sp && rsp - sp <= size; }
  // Whether a thread with `rsp` counts as running on it.
  bool InUse(uint64_t rsp) const { return (flags & kSsAutodisarm) == 0 && Holds(rsp); }
};

// sigaltstack with a new stack: 0, -EPERM (running on the old one), -EINVAL (flags), -ENOMEM
// (small).
int SetAltStack(AltStack& stack, uint64_t rsp, const stack_t& wanted);
// What sigaltstack gives back as the old one.
stack_t GetAltStack(const AltStack& stack, uint64_t rsp);

}  // namespace km

#endif  // KM_SIGNALS_ALT_STACK_H_
