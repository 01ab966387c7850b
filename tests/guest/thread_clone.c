// Threads made by clone and clone3 themselves: tids where asked for, the cleared tid with its futex
// wake, the stack, the TLS register, and refused flags.
#include "tests/guest/guest.h"

enum {
  kVm = 0x100,
  kThreadFlags =
      kVm | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000,  // VM FS FILES SIGHAND THREAD SYSVSEM
  kSetTls = 0x80000,
  kParentSetTid = 0x100000,
  kChildClearTid = 0x200000,
  kChildSetTid = 0x1000000,
};

struct CloneArguments {  // struct clone_args of linux/sched.h
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
  uint64_t set_tid, set_tid_size, cgroup;
};

// Makes the call with `entry` on the new stack's top; the child pops and runs it and never returns.
__asm__(
    ".text\n"
    "raw_clone: movq %rcx, %r10\n"  // (flags, stack, parent_tid, child_tid, tls)
    "  movl $56, %eax\n"
    "  syscall\n"
    "  testl %eax, %eax\n"
    "  jz 1f\n"
    "  ret\n"
    "raw_clone3: movl $435, %eax\n"  // (arguments, size)
    "  syscall\n"
    "  testl %eax, %eax\n"
    "  jz 1f\n"
    "  ret\n"
    "1: popq %rbx\n"
    "  xorl %ebp, %ebp\n"
    "  callq *%rbx\n"
    "  movl $60, %eax\n"
    "  xorl %edi, %edi\n"
    "  syscall\n"
    "  hlt\n");
extern long raw_clone(uint64_t flags, void* stack, atomic_int* parent, atomic_int* child,
                      void* tls);
extern long raw_clone3(struct CloneArguments* arguments, size_t size);

static uint8_t* stack;
enum { kStackSize = 64 << 10 };
static atomic_int parent_tid, child_tid, tid_in_child, running;
static atomic_uintptr_t stack_in_child, tls_in_child;
static atomic_bool go;
static uintptr_t tls[16];

// No libc here: the child of the first kind shares the caller's TLS.
static long RawCall(long number, long argument) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(argument) : "rcx", "r11", "memory");
  return result;
}

static void Child(void) {
  atomic_store(&stack_in_child, (uintptr_t)__builtin_frame_address(0));
  atomic_store(&tid_in_child, (int)RawCall(SYS_gettid, 0));
  uintptr_t self;
  __asm__ volatile("mov %%fs:0, %0" : "=r"(self));
  atomic_store(&tls_in_child, self);
  atomic_store(&running, 1);
  while (!atomic_load(&go)) RawCall(SYS_sched_yield, 0);
}

static void* NewStack(void) {
  void** top =
      (void**)(stack + kStackSize - 64);  // 16-byte aligned once `entry` is popped and called
  top[0] = (void*)(uintptr_t)Child;
  return top;
}

static void Prepare(void) {
  tls[0] = (uintptr_t)tls;
  atomic_store(&child_tid, -1);
  atomic_store(&parent_tid, -1);
  atomic_store(&tid_in_child, -1);
  atomic_store(&running, 0);
  atomic_store(&go, false);
}

// The thread's end clears child_tid and wakes a futex waiter on it.
static void Finish(long tid, bool clears) {
  CHECK_OK(tid);
  AwaitAtLeast(&running, 1);
  CHECK_EQ(atomic_load(&tid_in_child), tid);
  CHECK(atomic_load(&stack_in_child) - (uintptr_t)stack < kStackSize);
  CHECK_EQ(syscall(SYS_tgkill, getpid(), tid, 0), 0);
  GuestSnapshot();
  CHECK_EQ(syscall(SYS_tgkill, getpid(), tid, 0), 0);
  atomic_store(&go, true);
  if (!clears) return;
  for (int now; (now = atomic_load(&child_tid)) != 0;) {
    CHECK_EQ(now, tid);
    // Not private: the kernel wakes it as a shared futex.
    if (syscall(SYS_futex, &child_tid, 0, now, NULL, NULL, 0) != 0) CHECK_EQ(errno, EAGAIN);
  }
}

int main(void) {
  stack = MapAnonymous(kStackSize, PROT_READ | PROT_WRITE);
  uintptr_t own_fs;
  __asm__ volatile("mov %%fs:0, %0" : "=r"(own_fs));

  Prepare();
  long tid = raw_clone(kThreadFlags | kParentSetTid | kChildSetTid | kChildClearTid, NewStack(),
                       &parent_tid, &child_tid, NULL);
  CHECK(tid > 0);
  CHECK_EQ(atomic_load(&parent_tid), tid);
  Finish(tid, true);
  CHECK_EQ(atomic_load(&tls_in_child), own_fs);  // inherited
  Say("clone");

  Prepare();
  tid = raw_clone(kThreadFlags | kSetTls | kChildSetTid | kChildClearTid, NewStack(), NULL,
                  &child_tid, tls);
  CHECK(tid > 0);
  Finish(tid, true);
  CHECK_EQ(atomic_load(&tls_in_child), (uintptr_t)tls);
  CHECK_EQ(atomic_load(&parent_tid), -1);
  Say("clone with TLS");

  Prepare();
  uint8_t* top = NewStack();
  struct CloneArguments arguments = {
      .flags = kThreadFlags | kSetTls | kParentSetTid | kChildSetTid | kChildClearTid,
      .child_tid = (uintptr_t)&child_tid,
      .parent_tid = (uintptr_t)&parent_tid,
      .stack = (uintptr_t)stack,
      .stack_size = (uint64_t)(top - stack),
      .tls = (uintptr_t)tls,
  };
  tid = raw_clone3(&arguments, sizeof arguments);
  if (tid == -ENOSYS) {
    Say("clone3");  // libc falls back to clone
    return 0;
  }
  CHECK(tid > 0);
  CHECK_EQ(atomic_load(&parent_tid), tid);
  Finish(tid, true);
  CHECK_EQ(atomic_load(&tls_in_child), (uintptr_t)tls);

  // What clone(2) forbids.
  CHECK_EQ(raw_clone(0x10000, NULL, NULL, NULL, NULL), -EINVAL);          // THREAD without SIGHAND
  CHECK_EQ(raw_clone(0x10000 | 0x800, NULL, NULL, NULL, NULL), -EINVAL);  // SIGHAND without VM
  CHECK_EQ(raw_clone3(&arguments, 16), -EINVAL);
  arguments.flags |= 1ul << 63;
  CHECK_EQ(raw_clone3(&arguments, sizeof arguments), -EINVAL);
  CHECK_EQ(raw_clone3((void*)8, sizeof arguments), -EFAULT);
  Say("clone3");
  return 0;
}
