// Who is told of what happens to a file: F_SETOWN, F_SETSIG, O_ASYNC, leases, F_NOTIFY.
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

static atomic_int told;
static siginfo_t last;
static pid_t last_thread;

static void OnTold(int number, siginfo_t* info, void* context) {
  (void)context;
  CHECK_EQ(number, info->si_signo);
  last = *info;
  last_thread = OwnTid();
  atomic_fetch_add(&told, 1);
}

// The next signal: its number, what happened, and to which descriptor.
static void Expect(int number, int code, int fd) {
  AwaitAtLeast(&told, 1);
  CHECK_EQ(last.si_signo, number);
  CHECK_EQ(last.si_code, code);
  if (code != SI_KERNEL) CHECK_EQ(last.si_fd, fd);
  atomic_store(&told, 0);
}

static void Owners(void) {
  int fd = open("file", O_RDONLY), pipes[2];
  struct f_owner_ex owner;
  CHECK_OK(pipe(pipes));
  CHECK_EQ(fcntl(fd, F_GETOWN), 0);
  CHECK_EQ(fcntl(fd, F_GETSIG), 0);
  CHECK_OK(fcntl(fd, F_SETOWN, getpid()));
  CHECK_EQ(fcntl(fd, F_GETOWN), getpid());
  CHECK_EQ(syscall(SYS_fcntl, fd, F_GETOWN, 0), getpid());
  CHECK_OK(fcntl(fd, F_GETOWN_EX, &owner));
  CHECK_EQ(owner.type, F_OWNER_PID);
  CHECK_EQ(owner.pid, getpid());
  CHECK_OK(fcntl(fd, F_SETOWN, -getpgrp()));
  CHECK_EQ(syscall(SYS_fcntl, fd, F_GETOWN_EX, &owner), 0);
  CHECK_EQ(owner.type, F_OWNER_PGRP);
  CHECK_EQ(owner.pid, getpgrp());
  owner = (struct f_owner_ex){F_OWNER_TID, OwnTid()};
  CHECK_OK(fcntl(fd, F_SETOWN_EX, &owner));
  memset(&owner, 0, sizeof owner);
  CHECK_OK(fcntl(fd, F_GETOWN_EX, &owner));
  CHECK_EQ(owner.type, F_OWNER_TID);
  CHECK_EQ(owner.pid, OwnTid());
  CHECK_EQ(fcntl(fd, F_GETSIG), 0);
  CHECK_OK(fcntl(fd, F_SETSIG, SIGRTMIN));
  CHECK_EQ(fcntl(fd, F_GETSIG), SIGRTMIN);
  CHECK_OK(fcntl(fd, F_SETOWN, 0));
  CHECK_EQ(fcntl(fd, F_GETOWN), 0);
  CHECK_EQ(fcntl(fd, F_GETSIG), SIGRTMIN);
  CHECK_ERRNO(fcntl(fd, F_SETSIG, 65), EINVAL);
  CHECK_ERRNO(fcntl(fd, F_SETOWN, 0x3ffffff0), ESRCH);
  CHECK_ERRNO(fcntl(fd, F_SETOWN, -0x3ffffff0), ESRCH);
  CHECK_ERRNO(syscall(SYS_fcntl, fd, F_SETOWN, 0x80000000), EINVAL);
  owner = (struct f_owner_ex){F_OWNER_TID, 0x3ffffff0};
  CHECK_ERRNO(fcntl(fd, F_SETOWN_EX, &owner), ESRCH);
  owner.type = 7;
  CHECK_ERRNO(fcntl(fd, F_SETOWN_EX, &owner), EINVAL);
  CHECK_ERRNO(fcntl(fd, F_SETOWN_EX, (void*)8), EFAULT);
  CHECK_ERRNO(fcntl(fd, F_GETOWN_EX, (void*)8), EFAULT);
  int path = open("file", O_PATH);
  CHECK_ERRNO(fcntl(path, F_SETOWN, getpid()), EBADF);
  CHECK_ERRNO(fcntl(path, F_GETOWN), EBADF);
  CHECK_ERRNO(fcntl(99, F_GETOWN), EBADF);
  CHECK_OK(close(path));
  CHECK_OK(close(fd));
  Say("owners");
}

static void Async(void) {
  int pipes[2], on = 1;
  char byte;
  CHECK_OK(pipe(pipes));
  int flags = fcntl(pipes[0], F_GETFL);
  CHECK_OK(fcntl(pipes[0], F_SETOWN, getpid()));
  CHECK_OK(fcntl(pipes[0], F_SETFL, flags | O_ASYNC));
  CHECK_EQ(fcntl(pipes[0], F_GETFL), flags | O_ASYNC);
  CHECK_EQ(write(pipes[1], "x", 1), 1);
  Expect(SIGIO, SI_KERNEL, 0);
  CHECK_EQ(read(pipes[0], &byte, 1), 1);
  CHECK_OK(fcntl(pipes[0], F_SETSIG, SIGRTMIN + 1));
  CHECK_EQ(write(pipes[1], "y", 1), 1);
  Expect(SIGRTMIN + 1, POLL_IN, pipes[0]);
  CHECK_EQ(last.si_band & POLL_IN, POLL_IN);
  CHECK_EQ(read(pipes[0], &byte, 1), 1);
  // Signals whose si_code says something else, and one that a monitor could take for its own.
  const int numbers[] = {SIGSEGV, SIGBUS, SIGCHLD, SIGSTKFLT, SIGIO};
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    OnSignal(numbers[i], OnTold, 0);
    CHECK_OK(fcntl(pipes[0], F_SETSIG, numbers[i]));
    CHECK_EQ(write(pipes[1], "z", 1), 1);
    bool poll = numbers[i] == SIGSTKFLT || numbers[i] == SIGIO;
    Expect(numbers[i], poll ? POLL_IN : SI_SIGIO, pipes[0]);
    CHECK_EQ(read(pipes[0], &byte, 1), 1);
  }
  on = 0;
  CHECK_OK(ioctl(pipes[0], FIOASYNC, &on));
  CHECK_EQ(fcntl(pipes[0], F_GETFL), flags);
  CHECK_EQ(write(pipes[1], "z", 1), 1);
  SleepMs(30);
  CHECK_EQ(told, 0);
  Say("O_ASYNC");
}

static atomic_int ready, stop;
static void* OwnerThread(void* argument) {
  UnblockSignals(SIGIO, SIGRTMIN + 1);
  struct f_owner_ex owner = {F_OWNER_TID, OwnTid()};
  CHECK_OK(fcntl(*(int*)argument, F_SETOWN_EX, &owner));
  atomic_store(&ready, OwnTid());
  AwaitAtLeast(&stop, 1);
  return NULL;
}

static void Threads(void) {
  int pipes[2];
  char byte;
  CHECK_OK(pipe(pipes));
  CHECK_OK(fcntl(pipes[0], F_SETFL, O_ASYNC));
  pthread_t thread = StartThread(OwnerThread, &pipes[0]);
  AwaitAtLeast(&ready, 1);
  CHECK_EQ(write(pipes[1], "x", 1), 1);
  Expect(SIGIO, SI_KERNEL, 0);
  CHECK_EQ(last_thread, ready);
  CHECK_EQ(read(pipes[0], &byte, 1), 1);
  CHECK_OK(fcntl(pipes[0], F_SETSIG, SIGRTMIN + 1));
  CHECK_EQ(write(pipes[1], "x", 1), 1);
  Expect(SIGRTMIN + 1, POLL_IN, pipes[0]);
  CHECK_EQ(last_thread, ready);
  CHECK_EQ(read(pipes[0], &byte, 1), 1);
  atomic_store(&stop, 1);
  JoinThread(thread);
  Say("threads as owners");
}

static void* OpenToWrite(void* argument) {
  (void)argument;
  int fd = open("file", O_WRONLY);
  CHECK_OK(fd);
  CHECK_OK(close(fd));
  return NULL;
}

static void Leases(void) {
  int fd = open("file", O_RDONLY);
  CHECK_EQ(fcntl(fd, F_GETLEASE), F_UNLCK);
  CHECK_OK(fcntl(fd, F_SETLEASE, F_RDLCK));
  CHECK_EQ(fcntl(fd, F_GETLEASE), F_RDLCK);
  CHECK_EQ(fcntl(fd, F_GETOWN), getpid());
  CHECK_OK(fcntl(fd, F_SETSIG, SIGRTMIN + 1));
  CHECK_ERRNO(open("file", O_WRONLY | O_NONBLOCK), EWOULDBLOCK);
  Expect(SIGRTMIN + 1, POLL_MSG, fd);
  pthread_t thread = StartThread(OpenToWrite, NULL);
  SleepMs(30);
  CHECK_EQ(fcntl(fd, F_GETLEASE), F_UNLCK);  // what it is to become
  CHECK_OK(fcntl(fd, F_SETLEASE, F_UNLCK));
  JoinThread(thread);
  CHECK_EQ(fcntl(fd, F_GETLEASE), F_UNLCK);
  CHECK_OK(fcntl(fd, F_SETLEASE, F_WRLCK));
  int dup_fd = dup(fd);
  CHECK_EQ(fcntl(dup_fd, F_GETLEASE), F_WRLCK);
  CHECK_OK(close(fd));
  CHECK_EQ(fcntl(dup_fd, F_GETLEASE), F_WRLCK);
  CHECK_OK(close(dup_fd));
  fd = open("file", O_RDWR);
  CHECK_ERRNO(fcntl(fd, F_SETLEASE, F_RDLCK), EAGAIN);
  CHECK_ERRNO(fcntl(fd, F_SETLEASE, 7), EINVAL);
  int dir = open(".", O_RDONLY);
  CHECK_ERRNO(fcntl(99, F_SETLEASE, F_RDLCK), EBADF);
  CHECK_OK(close(dir));
  CHECK_OK(close(fd));
  Say("leases");
}

static void Notify(void) {
  CHECK_OK(mkdir("dir", 0755));
  int dir = open("dir", O_RDONLY);
  CHECK_OK(fcntl(dir, F_SETSIG, SIGRTMIN + 1));
  CHECK_OK(fcntl(dir, F_NOTIFY, DN_CREATE | DN_MULTISHOT));
  int fd = open("dir/a", O_RDWR | O_CREAT, 0644);
  Expect(SIGRTMIN + 1, POLL_MSG, dir);
  CHECK_OK(unlink("dir/a"));
  CHECK_OK(close(open("dir/b", O_RDWR | O_CREAT, 0644)));
  Expect(SIGRTMIN + 1, POLL_MSG, dir);
  CHECK_OK(fcntl(dir, F_NOTIFY, 0));
  CHECK_OK(close(open("dir/c", O_RDWR | O_CREAT, 0644)));
  SleepMs(30);
  CHECK_EQ(told, 0);
  CHECK_ERRNO(fcntl(fd, F_NOTIFY, DN_CREATE), ENOTDIR);
  Say("F_NOTIFY");
}

int main(void) {
  CHECK_OK(close(PatternFile("file", 100)));
  OnSignal(SIGIO, OnTold, 0);
  OnSignal(SIGRTMIN + 1, OnTold, 0);
  Owners();
  Async();
  Threads();
  Leases();
  Notify();
  return 0;
}
