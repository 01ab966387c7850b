#include "km/base/host_call.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>

// long km_host_call(const uint32_t* flag, long number, const uint64_t arguments[6])
asm(R"(
    .text
    .p2align 4
km_host_call:
    push %rbx
    mov %rdi, %rbx
    mov %rsi, %rax
    mov %rdx, %r11
    mov 0(%r11), %rdi
    mov 8(%r11), %rsi
    mov 16(%r11), %rdx
    mov 24(%r11), %r10
    mov 32(%r11), %r8
    mov 40(%r11), %r9
km_host_call_begin:
    cmpl $0, (%rbx)
    jne km_host_call_abort
    syscall
km_host_call_end:
    pop %rbx
    ret
km_host_call_abort:
    mov $-516, %rax
    pop %rbx
    ret
)");

extern "C" {
extern const char km_host_call_begin[], km_host_call_end[], km_host_call_abort[];
long km_host_call(const void* flag, long number, const uint64_t* arguments);
}

namespace km {

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));

int64_t HostCall(const std::atomic<uint32_t>* flag, long number, uint64_t a0, uint64_t a1,
                 uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5) {
  const uint64_t arguments[6] = {a0, a1, a2, a3, a4, a5};
  int64_t result = km_host_call(flag, number, arguments);
  return result == -EINTR ? kKicked : result;
}

bool WouldWait(long number, uint64_t a0, uint64_t a2, uint64_t a3) {
  short events = 0;
  uint64_t flags = 0;
  switch (number) {
    case SYS_recvfrom:
      flags = a3;
      events = POLLIN;
      break;
    case SYS_recvmsg:
      flags = a2;
      events = POLLIN;
      break;
    case SYS_read:
    case SYS_readv:
    case SYS_accept4:
      events = POLLIN;
      break;
    case SYS_sendto:
      flags = a3;
      events = POLLOUT;
      break;
    case SYS_sendmsg:
      flags = a2;
      events = POLLOUT;
      break;
    case SYS_write:
    case SYS_writev:
      events = POLLOUT;
      break;
    default:
      return false;
  }
  pollfd file = {static_cast<int>(a0), events, 0};
  if ((flags & MSG_DONTWAIT) != 0 || (fcntl(file.fd, F_GETFL) & O_NONBLOCK) != 0) return false;
  int ready;
  do {
    ready = poll(&file, 1, 0);  // the kick itself may be on its way
  } while (ready < 0 && errno == EINTR);
  return ready == 0;
}

void AbortHostCall(ucontext_t* context) {
  greg_t& rip = context->uc_mcontext.gregs[REG_RIP];
  if (rip >= reinterpret_cast<greg_t>(km_host_call_begin) &&
      rip < reinterpret_cast<greg_t>(km_host_call_end)) {
    rip = reinterpret_cast<greg_t>(km_host_call_abort);
  }
}

}  // namespace km
