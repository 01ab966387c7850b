// One process among process groups and sessions; waiting without children; pidfds.
#include <poll.h>
#include <sys/wait.h>

#include "tests/guest/guest.h"

static volatile sig_atomic_t caught;
static siginfo_t last;

static void Handler(int number, siginfo_t* info, void* context) {
  (void)number;
  (void)context;
  caught++;
  last = *info;
}

// A signal to the own group has been handled when the call returns.
static void GroupSignals(pid_t target) {
  int before = caught;
  CHECK_OK(kill(target, SIGUSR1));
  CHECK_EQ(caught, before + 1);
  CHECK_EQ(last.si_code, SI_USER);
  CHECK_EQ(last.si_pid, getpid());
  CHECK_EQ(last.si_uid, getuid());
  CHECK_OK(kill(target, 0));
  CHECK_ERRNO(kill(target, 65), EINVAL);
}

static void Groups(void) {
  CHECK_EQ(getpgid(0), getpgrp());
  CHECK_EQ(getpgid(getpid()), getpgrp());
  CHECK_EQ(getsid(getpid()), getsid(0));
  CHECK_EQ(getpgid(1) >= 0, 1);
  CHECK_ERRNO(getpgid(0x7ffffff0), ESRCH);
  CHECK_ERRNO(getsid(-1), ESRCH);
  CHECK_ERRNO(setpgid(0, -1), EINVAL);
  CHECK_ERRNO(setpgid(0x7ffffff0, 0), ESRCH);
  if (getsid(0) != getpid()) CHECK_OK(setpgid(0, 0));
  CHECK_EQ(getpgrp(), getpid());
  CHECK_ERRNO(setpgid(0, 0x7ffffff0), EPERM);
  CHECK_ERRNO(setsid(), EPERM);  // it leads a group
  Say("groups");
}

static void Wait(void) {
  int status;
  siginfo_t info;
  CHECK_ERRNO(wait(&status), ECHILD);
  CHECK_ERRNO(wait4(-1, (int*)8, 0, NULL), ECHILD);
  CHECK_ERRNO(waitpid(0, NULL, WNOHANG), ECHILD);
  CHECK_ERRNO(waitpid(getpid(), NULL, 0), ECHILD);
  CHECK_ERRNO(waitpid(-getpgrp(), NULL, 0), ECHILD);
  CHECK_ERRNO(waitpid(1, NULL, 0x10), EINVAL);
  CHECK_ERRNO(waitpid((pid_t)0x80000000, NULL, 0), ESRCH);
  CHECK_ERRNO(waitid(P_ALL, 0, &info, 0), EINVAL);
  CHECK_ERRNO(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
  CHECK_ERRNO(waitid(P_PID, 0, &info, WEXITED), EINVAL);
  CHECK_ERRNO(waitid(P_PID, (id_t)getpid(), &info, WEXITED), ECHILD);
  CHECK_ERRNO(waitid(P_PGID, 0, &info, WEXITED), ECHILD);
  CHECK_ERRNO(waitid(77, 0, &info, WEXITED), EINVAL);
  CHECK_ERRNO(waitid(3, 999, &info, WEXITED), EBADF);
  Say("no children");
}

static long PidfdOpen(pid_t pid, unsigned flags) { return syscall(SYS_pidfd_open, pid, flags); }
static long PidfdSend(int fd, int sig, siginfo_t* info, unsigned flags) {
  return syscall(SYS_pidfd_send_signal, fd, sig, info, flags);
}

static void Pidfds(void) {
  int self = (int)PidfdOpen(getpid(), 0), other = (int)PidfdOpen(1, 0);
  CHECK_OK(self);
  CHECK_OK(other);
  CHECK_EQ(fcntl(self, F_GETFD), FD_CLOEXEC);
  CHECK_ERRNO(PidfdOpen(getpid(), 0x40000000), EINVAL);
  CHECK_ERRNO(PidfdOpen(0, 0), EINVAL);
  CHECK_ERRNO(PidfdOpen(-1, 0), EINVAL);
  CHECK_ERRNO(PidfdOpen(0x7ffffff0, 0), ESRCH);
  struct pollfd poll_self = {.fd = self, .events = POLLIN};
  CHECK_EQ(poll(&poll_self, 1, 0), 0);
  int before = caught;
  CHECK_OK(PidfdSend(self, SIGUSR1, NULL, 0));
  CHECK_EQ(caught, before + 1);
  CHECK_EQ(last.si_code, SI_USER);
  CHECK_EQ(last.si_pid, getpid());
  siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
  info.si_value.sival_int = 4711;
  CHECK_OK(PidfdSend(self, SIGUSR1, &info, 0));
  CHECK_EQ(last.si_value.sival_int, 4711);
  CHECK_ERRNO(PidfdSend(self, SIGUSR2, &info, 0), EINVAL);
  CHECK_ERRNO(PidfdSend(self, SIGUSR1, (siginfo_t*)8, 0), EFAULT);
  CHECK_ERRNO(PidfdSend(self, 65, NULL, 0), EINVAL);
  CHECK_ERRNO(PidfdSend(1, 0, NULL, 0), EBADF);
  CHECK_ERRNO(PidfdSend(999, 0, NULL, 0), EBADF);
  CHECK_OK(PidfdSend(self, 0, NULL, 0));
  // A copy of an own descriptor shares its position; its number is the program's own.
  int file = PatternFile("file", 100);
  CHECK_OK(lseek(file, 50, SEEK_SET));
  int copy = (int)syscall(SYS_pidfd_getfd, self, file, 0);
  CHECK_OK(copy);
  CHECK_EQ(lseek(copy, 0, SEEK_CUR), 50);
  CHECK_EQ(fcntl(copy, F_GETFD), FD_CLOEXEC);
  CHECK_ERRNO(syscall(SYS_pidfd_getfd, self, file, 1), EINVAL);
  CHECK_ERRNO(syscall(SYS_pidfd_getfd, 999, file, 0), EBADF);
  CHECK_ERRNO(syscall(SYS_pidfd_getfd, file, file, 0), EBADF);
  // No other numbers than its own.
  for (int i = 3; i < 100; i++) {
    if (fcntl(i, F_GETFD) == -1) CHECK_ERRNO(syscall(SYS_pidfd_getfd, self, i, 0), EBADF);
  }
  CHECK_ERRNO(waitid(3, (id_t)self, &info, WEXITED), ECHILD);
  CHECK_OK(close_range(3, 100, 0));
  Say("pidfds");
}

static void* FromAnother(void* unused) {
  siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_USER};
  // Only a process's first thread may pose as somebody else to it.
  CHECK_ERRNO(syscall(SYS_rt_sigqueueinfo, getpid(), SIGUSR1, &info), EPERM);
  CHECK_ERRNO(syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGUSR1, &info), EPERM);
  CHECK_OK(syscall(SYS_rt_tgsigqueueinfo, getpid(), OwnTid(), SIGUSR1, &info));
  uint64_t list = 0, mine = 0;
  size_t size = 0;
  CHECK_OK(syscall(SYS_get_robust_list, getpid(), &list, &size));
  CHECK_OK(syscall(SYS_get_robust_list, 0, &mine, &size));
  CHECK(list != mine && list != 0 && mine != 0);
  CHECK_EQ(size, 24);
  CHECK_ERRNO(syscall(SYS_get_robust_list, 0x7ffffff0, &mine, &size), ESRCH);
  CHECK_ERRNO(setpgid(OwnTid(), 0), EINVAL);
  CHECK_EQ(PidfdOpen(OwnTid(), 0), -1);
  return unused;
}

static void Others(void) {
  CHECK_ERRNO(kill(0x7ffffff0, 0), ESRCH);
  CHECK_ERRNO(kill((pid_t)0x80000000, 0), ESRCH);
  CHECK_ERRNO(kill(-0x7ffffff0, SIGUSR1), ESRCH);
  CHECK_ERRNO(syscall(SYS_tkill, 0, 0), EINVAL);
  CHECK_ERRNO(syscall(SYS_tkill, 0x7ffffff0, 0), ESRCH);
  CHECK_ERRNO(syscall(SYS_tgkill, getpid(), 0x7ffffff0, 0), ESRCH);
  CHECK_ERRNO(syscall(SYS_tgkill, 0x7ffffff0, getpid(), 0), ESRCH);
  siginfo_t info = {.si_signo = SIGUSR1, .si_code = SI_USER};
  CHECK_ERRNO(syscall(SYS_rt_sigqueueinfo, 1, 0, &info), EPERM);
  info.si_code = SI_QUEUE;
  CHECK_ERRNO(syscall(SYS_rt_sigqueueinfo, 0x7ffffff0, 0, &info), ESRCH);
  JoinThread(StartThread(FromAnother, NULL));
  Say("others");
}

int main(void) {
  OnSignal(SIGUSR1, Handler, 0);
  Groups();
  GroupSignals(0);
  GroupSignals(-getpgrp());
  Wait();
  Pidfds();
  Others();
  for (int round = 0; round < 2; round++) {
    pid_t group = getpgrp(), session = getsid(0);
    GuestSnapshot();
    CHECK_EQ(getpgrp(), group);
    CHECK_EQ(getpgid(0), group);
    CHECK_EQ(getsid(0), session);
    CHECK_ERRNO(waitpid(-group, NULL, 0), ECHILD);
  }
  Say("caught %d", caught);
  return 0;
}
