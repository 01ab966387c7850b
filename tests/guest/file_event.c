// variants: dynamic static
// eventfd, epoll, memfd_create, FIFOs by mknod, utime, extended attributes, readahead, fchmodat2,
// scheduling of the process itself.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <utime.h>

#include "tests/guest/guest.h"

static void* AddLater(void* fd) {
  SleepMs(50);
  CHECK_OK(eventfd_write(*(int*)fd, 5));
  return NULL;
}

static void Events(void) {
  int fd = eventfd(3, EFD_CLOEXEC);
  CHECK_OK(fd);
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  eventfd_t value = 0;
  CHECK_OK(eventfd_read(fd, &value));
  CHECK_EQ(value, 3);
  pthread_t thread = StartThread(AddLater, &fd);
  CHECK_OK(eventfd_read(fd, &value));  // waits
  CHECK_EQ(value, 5);
  JoinThread(thread);
  CHECK_OK(close(fd));
  fd = eventfd(2, EFD_NONBLOCK | EFD_SEMAPHORE);
  CHECK_OK(fd);
  CHECK_EQ(fcntl(fd, F_GETFD), 0);
  for (int i = 0; i < 2; i++) {
    CHECK_OK(eventfd_read(fd, &value));
    CHECK_EQ(value, 1);
  }
  CHECK_ERRNO(eventfd_read(fd, &value), EAGAIN);
  CHECK_OK(close(fd));
  CHECK_ERRNO(eventfd(0, 1 << 30), EINVAL);
  Say("eventfd");
}

static atomic_int caught;
static void OnAlarm(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  caught++;
}

static void Epoll(void) {
  CHECK_ERRNO(epoll_create(0), EINVAL);
  CHECK_ERRNO(epoll_create1(1), EINVAL);
  int set = epoll_create1(EPOLL_CLOEXEC), event_fd = eventfd(0, 0), ends[2];
  CHECK_OK(set);
  CHECK_OK(event_fd);
  CHECK_OK(pipe(ends));
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1122334455667788}, got[4];
  CHECK_OK(epoll_ctl(set, EPOLL_CTL_ADD, event_fd, &event));
  CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_ADD, event_fd, &event), EEXIST);
  event.data.u64 = 2;
  CHECK_OK(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event));
  CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_ADD, 999, &event), EBADF);
  CHECK_ERRNO(epoll_ctl(999, EPOLL_CTL_ADD, ends[0], &event), EBADF);
  CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_DEL, ends[1], NULL), ENOENT);
  CHECK_ERRNO(epoll_ctl(set, EPOLL_CTL_MOD, ends[0], (void*)8), EFAULT);
  CHECK_ERRNO(epoll_wait(set, got, 0, 0), EINVAL);
  CHECK_ERRNO(epoll_wait(ends[0], got, 1, 0), EINVAL);
  CHECK_EQ(epoll_wait(set, got, 4, 0), 0);
  int64_t before = NowNs(CLOCK_MONOTONIC);
  CHECK_EQ(epoll_wait(set, got, 4, 30), 0);
  CHECK(NowNs(CLOCK_MONOTONIC) - before >= 29000000);
  pthread_t thread = StartThread(AddLater, &event_fd);
  CHECK_EQ(epoll_wait(set, got, 4, -1), 1);
  CHECK_EQ(got[0].data.u64, 0x1122334455667788);
  CHECK_EQ(got[0].events, EPOLLIN);
  JoinThread(thread);
  CHECK_EQ(write(ends[1], "x", 1), 1);
  CHECK_EQ(epoll_wait(set, got, 4, 1000), 2);
  CHECK_ERRNO(syscall(SYS_epoll_wait, set, 8, 4, 0), EFAULT);
  // A closed descriptor leaves the set.
  CHECK_OK(close(event_fd));
  CHECK_EQ(epoll_wait(set, got, 4, 0), 1);
  CHECK_EQ(got[0].data.u64, 2);
  char byte;
  CHECK_EQ(read(ends[0], &byte, 1), 1);
  // A handler ends the wait, SA_RESTART or not.
  OnSignal(SIGALRM, OnAlarm, SA_RESTART);
  struct itimerval soon = {.it_value.tv_usec = 20000};
  CHECK_OK(setitimer(ITIMER_REAL, &soon, NULL));
  CHECK_ERRNO(epoll_wait(set, got, 4, 5000), EINTR);
  CHECK_EQ(caught, 1);
  // With a mask: the signal comes while the call waits, not before.
  BlockSignals(SIGALRM, 0);
  CHECK_OK(kill(getpid(), SIGALRM));
  CHECK_EQ(epoll_wait(set, got, 4, 0), 0);
  CHECK_EQ(caught, 1);
  sigset_t none = SignalSet(0, 0);
  CHECK_ERRNO(epoll_pwait(set, got, 4, -1, &none), EINTR);
  CHECK_EQ(caught, 2);
  UnblockSignals(SIGALRM, 0);
  struct timespec short_time = TimespecMs(5);
  CHECK_EQ(syscall(441, set, got, 4, &short_time, NULL, 0), 0);  // epoll_pwait2
  CHECK_OK(close(set));
  Say("epoll");
}

static void Memory(void) {
  int fd = memfd_create("a name", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  CHECK_OK(fd);
  CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  CHECK_OK(ftruncate(fd, 2 * (off_t)kPage));
  char* one = mmap(NULL, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  char* two = mmap(NULL, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK_OK(one);
  CHECK_OK(two);
  strcpy(one + kPage, "seen by both");
  CHECK(strcmp(two + kPage, "seen by both") == 0);
  char text[16] = "", name[64], link[64] = "";
  CHECK_EQ(pread(fd, text, 12, (off_t)kPage), 12);
  CHECK(strcmp(text, "seen by both") == 0);
  snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  CHECK(readlink(name, link, sizeof link - 1) > 0);
  CHECK(strcmp(link, "/memfd:a name (deleted)") == 0);
  CHECK_OK(munmap(one, 2 * kPage));
  CHECK_OK(munmap(two, 2 * kPage));
  CHECK_OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
  CHECK_ERRNO(write(fd, "x", 1), EPERM);
  CHECK_OK(close(fd));
  char longest[300];
  memset(longest, 'n', sizeof longest);
  longest[249] = 0;
  CHECK_OK(close(memfd_create(longest, 0)));
  longest[249] = 'n';
  longest[250] = 0;
  CHECK_ERRNO(memfd_create(longest, 0), EINVAL);
  CHECK_ERRNO(memfd_create("", 1u << 20), EINVAL);
  Say("memfd");
}

static void Files(void) {
  struct stat status;
  CHECK_OK(mkfifo("fifo", 0600));
  CHECK_OK(stat("fifo", &status));
  CHECK(S_ISFIFO(status.st_mode));
  CHECK_OK(mknodat(AT_FDCWD, "plain", S_IFREG | 0640, 0));
  CHECK_OK(mknod("short", 0600, 0));
  CHECK_ERRNO(mknod("plain", S_IFREG | 0600, 0), EEXIST);
  CHECK_ERRNO(mknod("dir", S_IFDIR | 0700, 0), EPERM);
  struct utimbuf times = {.actime = 1000, .modtime = 2000};
  CHECK_OK(syscall(SYS_utime, "plain", &times));
  CHECK_OK(stat("plain", &status));
  CHECK_EQ(status.st_atime, 1000);
  CHECK_EQ(status.st_mtime, 2000);
  CHECK_ERRNO(syscall(SYS_utime, "nothing", NULL), ENOENT);
  int fd = open("plain", O_RDWR);
  CHECK_OK(fd);
  CHECK_OK(readahead(fd, 0, kPage));
  CHECK_ERRNO(readahead(999, 0, kPage), EBADF);
  CHECK_OK(close(fd));
  if (syscall(452, AT_FDCWD, "plain", 0604, 0) == 0) {  // fchmodat2, since Linux 6.6
    CHECK_OK(stat("plain", &status));
    CHECK_EQ(status.st_mode & 07777, 0604);
  } else {
    CHECK_EQ(errno, ENOSYS);
  }
  Say("files");
}

static void Attributes(void) {
  char value[8] = "";
  int fd = open("attributed", O_RDWR | O_CREAT, 0600);
  CHECK_OK(fd);
  if (setxattr("attributed", "user.one", "1", 1, 0) != 0) {
    CHECK_EQ(errno, ENOTSUP);  // a file system without them
  } else {
    CHECK_ERRNO(setxattr("attributed", "user.one", "2", 1, XATTR_CREATE), EEXIST);
    CHECK_OK(fsetxattr(fd, "user.two", "22", 2, 0));
    CHECK_OK(lsetxattr("attributed", "user.one", "3", 1, XATTR_REPLACE));
    CHECK_EQ(getxattr("attributed", "user.one", value, sizeof value), 1);
    CHECK_EQ(value[0], '3');
    CHECK_EQ(fgetxattr(fd, "user.two", value, sizeof value), 2);
    CHECK_OK(removexattr("attributed", "user.one"));
    CHECK_ERRNO(lremovexattr("attributed", "user.one"), ENODATA);
    CHECK_OK(fremovexattr(fd, "user.two"));
  }
  CHECK_ERRNO(fsetxattr(999, "user.one", "1", 1, 0), EBADF);
  CHECK_ERRNO(setxattr("nothing", "user.one", "1", 1, 0), ENOENT);
  CHECK_OK(close(fd));
  Say("attributes");
}

static void Scheduling(void) {
  CHECK_OK(setpriority(PRIO_PROCESS, 0, 3));
  CHECK_EQ(getpriority(PRIO_PROCESS, 0), 3);
  struct sched_param none = {.sched_priority = 0};
  CHECK_OK(syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &none));
  CHECK_EQ(syscall(SYS_sched_getscheduler, 0), SCHED_BATCH);
  CHECK_OK(syscall(SYS_sched_setparam, 0, &none));
  CHECK_OK(syscall(SYS_sched_setscheduler, OwnTid(), SCHED_OTHER, &none));
  struct timespec interval;
  CHECK_OK(syscall(SYS_sched_rr_get_interval, 0, &interval));
  CHECK_ERRNO(syscall(SYS_sched_setparam, 0, NULL), EINVAL);
  Say("scheduling");
}

int main(void) {
  Events();
  Epoll();
  Memory();
  Files();
  Attributes();
  Scheduling();
  return 0;
}
