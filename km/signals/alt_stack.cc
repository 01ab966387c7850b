#include "km/signals/alt_stack.h"

#include <cerrno>

namespace km {
namespace {

// The kernel's figure; libc's MINSIGSTKSZ is a function call in newer versions.
constexpr uint64_t kMinimumSize = 2048;

}  // namespace

int SetAltStack(AltStack& stack, uint64_t rsp, const stack_t& wanted) {
  if (stack.InUse(rsp)) return -EPERM;
  uint32_t flags = static_cast<uint32_t>(wanted.ss_flags);
  uint32_t mode = flags & ~kSsAutodisarm;
  if (mode == SS_DISABLE) {
    stack = AltStack{.sp = 0, .size = 0, .flags = flags};
    return 0;
  }
  if (mode != 0 && mode != SS_ONSTACK) return -EINVAL;
  if (wanted.ss_size < kMinimumSize) return -ENOMEM;
  stack = AltStack{
      .sp = reinterpret_cast<uint64_t>(wanted.ss_sp), .size = wanted.ss_size, .flags = flags};
  return 0;
}

stack_t GetAltStack(const AltStack& stack, uint64_t rsp) {
  uint32_t flags = stack.flags & kSsAutodisarm;
  if (stack.size == 0) {
    flags |= SS_DISABLE;
  } else if (stack.InUse(rsp)) {
    flags |= SS_ONSTACK;
  }
  stack_t old = {};
  old.ss_sp = reinterpret_cast<void*>(stack.sp);
  old.ss_flags = static_cast<int>(flags);
  old.ss_size = stack.size;
  return old;
}

}  // namespace km
