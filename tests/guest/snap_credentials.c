// Users, groups and capabilities that a program gave itself come back, of each thread: what it gave
// up stays given up, whoever resumes it. Says the same for root and for others.
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/stat.h>

#include "tests/guest/guest.h"

static atomic_int ready, stage;

// `get`: SYS_getresuid or SYS_getresgid; `set_files`: SYS_setfsuid or SYS_setfsgid, which -1 only
// asks.
static void CheckIds(long get, long set_files, const unsigned wanted[4]) {
  unsigned ids[3];
  CHECK_OK(syscall(get, &ids[0], &ids[1], &ids[2]));
  for (int i = 0; i < 3; i++) CHECK_EQ(ids[i], wanted[i]);
  CHECK_EQ((unsigned)syscall(set_files, -1), wanted[3]);
}

static void CheckUsers(uid_t real, uid_t effective, uid_t saved, uid_t files) {
  CheckIds(SYS_getresuid, SYS_setfsuid, (unsigned[]){real, effective, saved, files});
}

static void CheckGroups(gid_t real, gid_t effective, gid_t saved, gid_t files) {
  CheckIds(SYS_getresgid, SYS_setfsgid, (unsigned[]){real, effective, saved, files});
}

static void ReadCapabilities(struct __user_cap_data_struct data[2]) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  CHECK_OK(syscall(SYS_capget, &header, data));
}

static void WriteCapabilities(const struct __user_cap_data_struct data[2]) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  CHECK_OK(syscall(SYS_capset, &header, data));
}

static void AwaitStage(int wanted) {
  atomic_fetch_add(&ready, 1);
  AwaitAtLeast(&stage, wanted);
}

// Another user altogether, by the raw call, which is of this thread only.
static void* OtherUser(void* unused) {
  CHECK_OK(syscall(SYS_setgroups, 0, NULL));
  CHECK_OK(syscall(SYS_setresgid, 22, 22, 22));
  CHECK_OK(syscall(SYS_setresuid, 12, 12, 12));
  for (int i = 1; i <= 2; i++) {
    AwaitStage(i);
    CheckUsers(12, 12, 12, 12);
    CheckGroups(22, 22, 22, 22);
    CHECK_EQ(syscall(SYS_getgroups, 0, NULL), 0);
    CHECK_ERRNO(syscall(SYS_setresuid, 0, 0, 0), EPERM);
    CHECK_ERRNO(open("secret", O_RDONLY), EACCES);
  }
  return unused;
}

// Root still, with some capabilities less, one to hand on, and files as another user.
static void* FewerCapabilities(void* unused) {
  const uint32_t gone = 1u << CAP_SYS_BOOT, lowered = 1u << CAP_CHOWN;
  struct __user_cap_data_struct data[2], now[2];
  CHECK_OK(syscall(SYS_setfsgid, 25));
  CHECK_OK(syscall(SYS_setfsuid, 15));
  ReadCapabilities(data);
  data[0].permitted &= ~gone;
  data[0].effective &= ~(gone | lowered);
  data[0].inheritable = 1u << CAP_NET_RAW | 1u << CAP_KILL;
  WriteCapabilities(data);
  CHECK_OK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0));
  CHECK_OK(prctl(PR_CAPBSET_DROP, CAP_KILL));
  for (int i = 1; i <= 2; i++) {
    AwaitStage(i);
    CheckUsers(0, 0, 0, 15);
    CHECK_EQ((gid_t)syscall(SYS_setfsgid, -1), 25);
    ReadCapabilities(now);
    CHECK(memcmp(data, now, sizeof data) == 0);
    CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_KILL), 0);
    CHECK_EQ(prctl(PR_CAPBSET_READ, CAP_CHOWN), 1);
    CHECK_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW, 0, 0), 1);
    CHECK_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_KILL, 0, 0), 0);
    CHECK_ERRNO(open("secret", O_RDONLY), EACCES);
  }
  return unused;
}

// The first thread: lowers itself for a while, and then for good.
static void LowerForAWhile(void) {
  gid_t groups[] = {30, 10}, now[2];
  CHECK_OK(syscall(SYS_setgroups, 2, groups));
  CHECK_OK(syscall(SYS_setresgid, 40, 41, 42));
  CHECK_OK(syscall(SYS_setresuid, -1, 13, 0));
  CHECK_OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
  CHECK_OK(prctl(PR_SET_DUMPABLE, 1));
  GuestSnapshot();
  CheckUsers(0, 13, 0, 13);
  CheckGroups(40, 41, 42, 41);
  CHECK_EQ(syscall(SYS_getgroups, 2, now), 2);
  CHECK_EQ(now[0] + now[1], 40);
  int signal = 0;
  CHECK_OK(prctl(PR_GET_PDEATHSIG, &signal));
  CHECK_EQ(signal, SIGUSR1);
  CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
  CHECK_EQ(prctl(PR_GET_KEEPCAPS), 0);
  struct __user_cap_data_struct data[2];
  ReadCapabilities(data);
  CHECK_EQ(data[0].effective, 0);
  CHECK(data[0].permitted != 0);
  CHECK_ERRNO(open("secret", O_RDONLY), EACCES);
}

static void LowerForGood(void) {
  CHECK_OK(syscall(SYS_setresuid, -1, 0, -1));
  CHECK_OK(open("secret", O_RDONLY));
  CHECK_OK(syscall(SYS_setgroups, 0, NULL));
  CHECK_OK(syscall(SYS_setresgid, 24, 24, 24));
  CHECK_OK(syscall(SYS_setresuid, 14, 14, 14));
  // What it made belongs to what it is now.
  int segment = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
  CHECK_OK(segment);
  void* attached = shmat(segment, NULL, 0);
  CHECK_OK(attached);
  // What it may not read itself is kept all the same, though /proc/self/mem is refused.
  uint8_t* hidden = MapAnonymous(kPage, PROT_READ | PROT_WRITE);
  hidden[7] = 77;
  CHECK_OK(mprotect(hidden, kPage, PROT_NONE));
  GuestSnapshot();
  CHECK_OK(mprotect(hidden, kPage, PROT_READ));
  CHECK_EQ(hidden[7], 77);
  struct shmid_ds owner;
  CHECK_OK(shmctl(segment, IPC_STAT, &owner));
  CHECK_EQ(owner.shm_perm.uid, 14);
  CHECK_EQ(owner.shm_perm.gid, 24);
  CHECK_OK(shmdt(attached));
  CHECK_OK(shmctl(segment, IPC_RMID, NULL));
  CheckUsers(14, 14, 14, 14);
  CheckGroups(24, 24, 24, 24);
  CHECK_EQ(syscall(SYS_getgroups, 0, NULL), 0);
  CHECK(prctl(PR_GET_DUMPABLE) != 1);
  struct __user_cap_data_struct data[2];
  ReadCapabilities(data);
  CHECK_EQ(data[0].permitted | data[1].permitted, 0);
  CHECK_ERRNO(syscall(SYS_setresuid, -1, 0, -1), EPERM);
  CHECK_ERRNO(open("secret", O_RDONLY), EACCES);
  int fd = open("made", O_CREAT | O_WRONLY, 0600);
  CHECK_OK(fd);
  struct stat status;
  CHECK_OK(fstat(fd, &status));
  CHECK_EQ(status.st_uid, 14);
  CHECK_EQ(status.st_gid, 24);
}

int main(void) {
  umask(0);
  CHECK_OK(open("secret", O_CREAT | O_WRONLY, 0600));
  CHECK_OK(chmod(".", 0777));
  if (geteuid() == 0) {
    pthread_t threads[] = {StartThread(OtherUser, NULL), StartThread(FewerCapabilities, NULL)};
    AwaitAtLeast(&ready, 2);
    LowerForAWhile();
    atomic_store(&stage, 1);
    AwaitAtLeast(&ready, 4);
    LowerForGood();
    atomic_store(&stage, 2);
    for (int i = 0; i < 2; i++) JoinThread(threads[i]);
  } else {
    // Nothing changes: whoever resumes it may be somebody else.
    CHECK_OK(setresuid(getuid(), geteuid(), (uid_t)-1));
    CHECK_OK(setresgid(getgid(), getegid(), (gid_t)-1));
    GuestSnapshot();
  }
  Say("credentials");
  return 0;
}
