// variants: dynamic static
// ptrace(2) by a process that shares the program's memory: it stops the program's threads, wherever
// they are, reads their registers and lets them go; what it may not do.
#include <elf.h>
#include <sys/uio.h>

#include "tests/guest/companion.h"

static atomic_int ready, turns;
static atomic_bool stop, begun;
static pid_t spinner_tid, reader_tid;
static int pipes[2];

static void* Spin(void* unused) {
  (void)unused;
  spinner_tid = OwnTid();
  atomic_fetch_add(&ready, 1);
  while (!atomic_load(&stop)) atomic_fetch_add(&turns, 1);
  return NULL;
}

static void* Read(void* text) {
  reader_tid = OwnTid();
  atomic_fetch_add(&ready, 1);
  CHECK_EQ(read(pipes[0], text, 4), 4);
  return NULL;
}

static long Trace(long request, pid_t tid, long address, void* data) {
  return Raw(SYS_ptrace, request, tid, address, (long)data);
}

static void Attach(pid_t tid) {
  int status = 0;
  CHECK_EQ(Trace(PTRACE_ATTACH, tid, 0, NULL), 0);
  CHECK_EQ(Raw(SYS_wait4, tid, (long)&status, __WALL, 0), tid);
  CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  CHECK_EQ(Raw(SYS_wait4, tid, (long)&status, __WALL | WNOHANG, 0), 0);  // told once
}

// The memory is shared, and can be asked for nevertheless.
static void Peek(pid_t tid) {
  static long word = 0x1122334455667788;
  long got = 0;
  CHECK_EQ(Trace(PTRACE_PEEKDATA, tid, (long)&word, &got), 0);
  CHECK_EQ(got, word);
  CHECK_EQ(Trace(PTRACE_PEEKTEXT, tid, (long)&word + 1, &got), 0);
  CHECK_EQ(got & 0xffffffffffffff, word >> 8);
  CHECK_EQ(Trace(PTRACE_PEEKDATA, tid, 8, &got), -EIO);
  CHECK_EQ(Trace(PTRACE_PEEKDATA, tid, (long)&word, (void*)8), -EFAULT);
}

static void LookAtRegisters(pid_t tid) {
  Peek(tid);
  struct user_regs_struct all, some;
  CHECK_EQ(Trace(PTRACE_GETREGS, tid, 0, &all), 0);
  CHECK(all.rsp != 0 && all.rip != 0);
  CHECK_EQ(Trace(PTRACE_GETREGS, tid, 0, (void*)8), -EFAULT);
  memset(&some, 0xab, sizeof some);
  struct iovec room = {&some, 16};
  CHECK_EQ(Trace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &room), 0);
  CHECK_EQ(room.iov_len, 16);
  CHECK(some.r15 == all.r15 && some.r14 == all.r14 && some.r13 == 0xabababababababab);
  room = (struct iovec){&some, sizeof some};
  CHECK_EQ(Trace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &room), 0);
  CHECK_EQ(room.iov_len, sizeof some);
  CHECK(memcmp(&some, &all, sizeof all) == 0);
  static uint8_t area[16384];
  room = (struct iovec){area, sizeof area};
  CHECK_EQ(Trace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &room), 0);
  CHECK(room.iov_len >= 576 && room.iov_len < sizeof area);
  room.iov_len = 7;
  CHECK_EQ(Trace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &room), -EINVAL);
  CHECK_EQ(Trace(PTRACE_GETREGSET, tid, NT_PRSTATUS, (void*)8), -EFAULT);
}

static int Look(void* unused) {
  (void)unused;
  while (!atomic_load(&begun)) __builtin_ia32_pause();
  pid_t parent = (pid_t)Raw(SYS_getppid, 0, 0, 0, 0);
  struct user_regs_struct registers;
  CHECK_EQ(Raw(SYS_wait4, parent, 0, __WALL, 0), -ECHILD);
  CHECK_EQ(Trace(PTRACE_GETREGS, parent, 0, &registers), -ESRCH);
  CHECK_EQ(Trace(PTRACE_DETACH, parent, 0, NULL), -ESRCH);
  CHECK_EQ(Trace(PTRACE_ATTACH, (pid_t)Raw(SYS_getpid, 0, 0, 0, 0), 0, NULL), -EPERM);
  CHECK_EQ(Trace(PTRACE_ATTACH, 0x3ffffffe, 0, NULL), -ESRCH);
  Attach(parent);
  Attach(spinner_tid);
  Attach(reader_tid);
  CHECK_EQ(Trace(PTRACE_ATTACH, parent, 0, NULL), -EPERM);
  int before = atomic_load(&turns);
  Raw(SYS_nanosleep, (long)&(struct timespec){.tv_nsec = 20000000}, 0, 0, 0);
  CHECK_EQ(atomic_load(&turns), before);
  LookAtRegisters(parent);
  LookAtRegisters(spinner_tid);
  LookAtRegisters(reader_tid);
  CHECK_EQ(Trace(PTRACE_DETACH, spinner_tid, 0, (void*)1000), -EIO);
  CHECK_EQ(Trace(PTRACE_DETACH, spinner_tid, 0, NULL), 0);
  while (atomic_load(&turns) == before) __builtin_ia32_pause();
  CHECK_EQ(Trace(PTRACE_DETACH, reader_tid, 0, NULL), 0);
  CHECK_EQ(Trace(PTRACE_DETACH, parent, 0, NULL), 0);
  CHECK_EQ(Raw(SYS_wait4, parent, 0, __WALL, 0), -ECHILD);
  return 5;
}

// A tracer that ends, even without a word, lets its threads go.
static int EndWhileTracing(void* unused) {
  (void)unused;
  while (!atomic_load(&begun)) __builtin_ia32_pause();
  Attach(spinner_tid);
  return 6;
}

static void Run(int (*body)(void*), int wanted) {
  atomic_store(&begun, false);
  pid_t pid = StartCompanion(body, NULL);
  atomic_store(&begun, true);
  CHECK_EQ(AwaitCompanion(pid), W_EXITCODE(wanted, 0));
}

int main(void) {
  NeedTrace();
  char text[5] = "";
  CHECK_OK(pipe(pipes));
  pthread_t spinner = StartThread(Spin, NULL), reader = StartThread(Read, text);
  AwaitBlocked(&ready, 2);
  CHECK_ERRNO(ptrace(PTRACE_ATTACH, spinner_tid, NULL, NULL), EPERM);  // a thread of its own
  Run(Look, 5);
  GuestSnapshot();
  Run(Look, 5);
  Run(EndWhileTracing, 6);
  int before = atomic_load(&turns);
  while (atomic_load(&turns) == before) sched_yield();
  CHECK_EQ(write(pipes[1], "text", 4), 4);
  JoinThread(reader);
  atomic_store(&stop, true);
  JoinThread(spinner);
  Say("read %s", text);
  return 0;
}
