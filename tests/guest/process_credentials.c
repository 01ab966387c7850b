// Users, groups and capabilities are each thread's own; libc makes the threads agree, and a new one
// has its parent's. Says the same for root and for others.
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

static atomic_int ready, go, checked;
static uid_t wanted_uid;
static bool root;

static void CheckIds(uid_t real, uid_t effective, uid_t saved) {
  uid_t ids[3];
  CHECK_OK(syscall(SYS_getresuid, &ids[0], &ids[1], &ids[2]));
  CHECK_EQ(ids[0], real);
  CHECK_EQ(ids[1], effective);
  CHECK_EQ(ids[2], saved);
}

static void* Waiter(void* unused) {
  atomic_fetch_add(&ready, 1);
  AwaitAtLeast(&go, 1);
  CheckIds(wanted_uid, geteuid(), geteuid());
  atomic_fetch_add(&checked, 1);
  return unused;
}

static void* Child(void* unused) {
  CheckIds(wanted_uid, geteuid(), geteuid());
  return unused;
}

// Changes its own credentials only: the raw call, which libc would spread.
static void* Alone(void* unused) {
  if (root) {
    CHECK_OK(syscall(SYS_setresuid, 12, 12, 12));
    CHECK_OK(syscall(SYS_setfsuid, 12));
    CHECK_ERRNO(syscall(SYS_setresuid, 0, 0, 0), EPERM);
    CHECK_ERRNO(open("secret", O_RDONLY), EACCES);
    // Its own child has what it has.
    wanted_uid = 12;
    JoinThread(StartThread(Child, NULL));
  }
  return unused;
}

static void Capabilities(void) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[2], now[2];
  CHECK_OK(syscall(SYS_capget, &header, data));
  header.pid = getpid();
  CHECK_OK(syscall(SYS_capget, &header, now));
  CHECK(memcmp(data, now, sizeof data) == 0);
  header.pid = 0x7ffffff0;
  CHECK_ERRNO(syscall(SYS_capget, &header, now), ESRCH);
  CHECK_ERRNO(syscall(SYS_capset, &header, data), EPERM);
  header = (struct __user_cap_header_struct){0x12345678, 0};
  CHECK_ERRNO(syscall(SYS_capget, &header, data), EINVAL);
  CHECK_EQ(header.version, _LINUX_CAPABILITY_VERSION_3);
  header.version = 0x12345678;
  CHECK_ERRNO(syscall(SYS_capset, &header, data), EINVAL);
  CHECK_EQ(header.version, _LINUX_CAPABILITY_VERSION_3);
  header.version = 0x12345678;
  CHECK_EQ(syscall(SYS_capget, &header, NULL), 0);
  CHECK_ERRNO(syscall(SYS_capget, (void*)8, data), EFAULT);
  CHECK_ERRNO(syscall(SYS_capset, &header, (void*)8), EFAULT);
  // Down is always allowed, up again never.
  CHECK_OK(syscall(SYS_capget, &header, data));
  data[0].effective &= ~(1u << CAP_SYS_BOOT);
  data[0].permitted &= ~(1u << CAP_SYS_BOOT);
  CHECK_OK(syscall(SYS_capset, &header, data));
  CHECK_OK(syscall(SYS_capget, &header, now));
  CHECK_EQ(now[0].permitted & (1u << CAP_SYS_BOOT), 0);
  data[0].permitted |= 1u << CAP_SYS_BOOT;
  CHECK_ERRNO(syscall(SYS_capset, &header, data), EPERM);
  int bound = prctl(PR_CAPBSET_READ, CAP_SYS_TIME);
  CHECK(bound == 0 || bound == 1);
  CHECK_ERRNO(prctl(PR_CAPBSET_READ, 1000), EINVAL);
  if (root) {
    CHECK_OK(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME));
    CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_SYS_TIME), 0);
  } else {
    CHECK_ERRNO(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME), EPERM);
  }
  CHECK_ERRNO(prctl(PR_CAP_AMBIENT, 77, 0, 0, 0), EINVAL);
  CHECK_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_CHOWN, 0, 0), 0);
  CHECK_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), 0);
  Say("capabilities");
}

static void Groups(void) {
  gid_t before[1000], now[1000];
  int count = getgroups(1000, before);
  CHECK_OK(count);
  CHECK_EQ(getgroups(0, NULL), count);
  CHECK_ERRNO(syscall(SYS_getgroups, -1, before), EINVAL);
  if (root) {
    CHECK_OK(setgroups(3, (gid_t[]){30, 10, 20}));
    CHECK_EQ(getgroups(1000, now), 3);
    CHECK_EQ(now[0] + now[1] + now[2], 60);
    CHECK_ERRNO(getgroups(2, now), EINVAL);
    CHECK_ERRNO(syscall(SYS_setgroups, 65537, before), EINVAL);
    CHECK_ERRNO(syscall(SYS_setgroups, 3, (void*)8), EFAULT);
    CHECK_OK(setgroups(0, NULL));
    CHECK_EQ(getgroups(0, NULL), 0);
    CHECK_OK(setgroups((size_t)count, before));
    CHECK_OK(setresgid(40, (gid_t)-1, 41));
    gid_t ids[3];
    CHECK_OK(getresgid(&ids[0], &ids[1], &ids[2]));
    CHECK_EQ(ids[0], 40);
    CHECK_EQ(ids[2], 41);
    CHECK_EQ(ids[1], getegid());
    CHECK_OK(setregid(ids[1], (gid_t)-1));
  } else {
    CHECK_ERRNO(syscall(SYS_setgroups, 65537, before), EPERM);
    CHECK_ERRNO(syscall(SYS_setgroups, 3, (void*)8), EPERM);
    CHECK_ERRNO(setresgid(0, 0, 0), EPERM);
    CHECK_OK(setresgid(getgid(), getegid(), (gid_t)-1));
    CHECK_OK(setregid(getgid(), getegid()));
  }
  CHECK_OK(setgid(getegid()));
  CHECK_EQ(setfsgid((gid_t)-1), getegid());
  Say("groups");
}

int main(void) {
  root = geteuid() == 0;
  umask(0);
  int fd = open("secret", O_CREAT | O_WRONLY, 0600);
  CHECK_OK(fd);
  Capabilities();
  Groups();
  CHECK_EQ(setfsuid((uid_t)-1), geteuid());
  CHECK_EQ(prctl(PR_GET_KEEPCAPS), 0);
  CHECK_OK(prctl(PR_SET_KEEPCAPS, 1));
  CHECK_EQ(prctl(PR_GET_KEEPCAPS), 1);
  CHECK_OK(prctl(PR_SET_KEEPCAPS, 0));
  CHECK_ERRNO(prctl(PR_SET_KEEPCAPS, 2), EINVAL);
  CHECK_EQ(prctl(PR_GET_SECUREBITS), 0);

  pthread_t waiters[4];
  wanted_uid = root ? 11 : getuid();
  for (int i = 0; i < 4; i++) waiters[i] = StartThread(Waiter, NULL);
  AwaitAtLeast(&ready, 4);
  // libc broadcasts it by signal to all threads.
  CHECK_OK(setresuid(wanted_uid, (uid_t)-1, (uid_t)-1));
  atomic_store(&go, 1);
  for (int i = 0; i < 4; i++) JoinThread(waiters[i]);
  CHECK_EQ(atomic_load(&checked), 4);
  JoinThread(StartThread(Child, NULL));
  Say("all threads agree");
  uid_t before = wanted_uid;
  JoinThread(StartThread(Alone, NULL));
  wanted_uid = before;
  CHECK_EQ(getuid(), wanted_uid);
  JoinThread(StartThread(Child, NULL));
  Say("one thread alone");
  if (root) {
    // A file made now belongs to the effective user; the saved id brings root back.
    CHECK_OK(chmod(".", 0777));
    CHECK_OK(setresuid((uid_t)-1, 13, 0));
    fd = open("made", O_CREAT | O_WRONLY, 0600);
    CHECK_OK(fd);
    struct stat status;
    CHECK_OK(fstat(fd, &status));
    CHECK_EQ(status.st_uid, 13);
    CHECK_ERRNO(open("secret", O_RDONLY), EACCES);
    CHECK_OK(seteuid(0));
    CHECK_OK(open("secret", O_RDONLY));
    CHECK_OK(setuid(14));
    CheckIds(14, 14, 14);
    CHECK_EQ(prctl(PR_GET_DUMPABLE) == 1, false);
  } else {
    CHECK_OK(setuid(getuid()));
    CHECK_OK(setreuid(getuid(), geteuid()));
  }
  CHECK_ERRNO(setuid(0), EPERM);
  CHECK_ERRNO(setresuid(0, 0, 0), EPERM);
  CHECK_ERRNO(setreuid(0, (uid_t)-1), EPERM);
  CHECK_ERRNO(setgroups(0, NULL), EPERM);
  JoinThread(StartThread(Waiter, (wanted_uid = getuid(), NULL)));
  Say("no way back");
  return 0;
}
