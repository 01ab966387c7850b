/* What errnos.c calls with: the valid arguments that it starts from, and what it leaves out. */
#ifndef TESTS_CLI_ERRNOS_CASES_H_
#define TESTS_CLI_ERRNOS_CASES_H_

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>

#define ANY (-1)

/* Descriptors that every call finds open. */
enum {
  kFile = 10, /* "file", 4096 bytes, read and write */
  kDirectory,
  kPipeRead, /* holds 100 bytes */
  kPipeWrite,
  kEmptyRead,
  kEmptyWrite,
  kBroken, /* the writing end of a pipe that nobody reads */
  kDatagram,
  kDatagram2,
  kStream,
  kStream2,
  kUnbound, /* UNIX stream, not connected */
  kListener,
  kInet, /* UDP */
  kTcp,
  kEpoll,
  kEvent,
  kReadOnly, /* "file" again */
  kPath,     /* and with O_PATH */
  kMemfd,
  kTimer, /* these where there is support */
  kSignals,
  kInotify,
  kTerminal,
  kFirstFree = 40,
};

/* In a case: argument i's own page, with what its kind asks for; or what the kind's number is. */
#define BUFFER INT64_MIN
#define DEFAULT (INT64_MIN + 1)

/* Calls for which arguments by kind alone reach too little; also each runs once for every line. */
struct Case {
  const char* name;
  int64_t arguments[6];
};

#define B BUFFER
#define D DEFAULT
static const struct Case kCases[] = {
    {"read", {kPipeRead, B, 64}},
    {"read", {kEmptyRead, B, 64}},
    {"read", {kEvent, B, 8}},
    {"read", {kDirectory, B, 64}},
    {"read", {kTimer, B, 8}},
    {"read", {kSignals, B, 128}},
    {"read", {kInotify, B, 64}},
    {"read", {kDatagram, B, 64}},
    {"read", {kPath, B, 64}},
    {"write", {kPipeWrite, B, 64}},
    {"write", {kBroken, B, 64}},
    {"write", {kEvent, B, 8}},
    {"write", {kReadOnly, B, 8}},
    {"write", {kDatagram, B, 8}},
    {"write", {kUnbound, B, 8}},
    {"writev", {kBroken, B, 1}},
    {"writev", {kDatagram, B, 1}},
    {"readv", {kPipeRead, B, 1}},
    {"pread64", {kPipeRead, B, 64, 0}},
    {"pwrite64", {kBroken, B, 64, 0}},
    {"lseek", {kPipeRead, 0, 0}},
    {"lseek", {kFile, 4096, SEEK_DATA}},
    {"lseek", {kFile, 0, SEEK_END}},
    {"lseek", {kDirectory, 0, 0}},
    {"mmap", {0, 4096, PROT_READ, MAP_SHARED, kFile, 0}},
    {"mmap", {0, 4096, PROT_READ, MAP_PRIVATE, kDirectory, 0}},
    {"mmap", {0, 4096, PROT_WRITE, MAP_SHARED, kReadOnly, 0}},
    {"mmap", {B, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0}},
    {"mmap", {B, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0}},
    {"mremap", {B, 4096, 8192, 0, 0}},
    {"mremap", {B, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, B}},
    {"mremap", {B, 8192, 4096, 0, 0}},
    {"mprotect", {B, 4096, PROT_READ | PROT_EXEC}},
    {"madvise", {B, 4096, MADV_DONTNEED}},
    {"madvise", {B, 4096, MADV_WILLNEED}},
    {"madvise", {B, 4096, MADV_POPULATE_WRITE}},
    {"msync", {B, 4096, MS_SYNC}},
    {"mincore", {B, 4096, B}},
    {"poll", {B, 1, 0}},
    {"ppoll", {B, 1, B, B, 8}},
    {"select", {64, B, B, B, B}},
    {"pselect6", {64, B, B, B, B, B}},
    {"epoll_create", {1}},
    {"epoll_ctl", {kEpoll, EPOLL_CTL_ADD, kEvent, B}},
    {"epoll_ctl", {kEpoll, EPOLL_CTL_DEL, kPipeRead, B}},
    {"epoll_ctl", {kEpoll, EPOLL_CTL_MOD, kPipeRead, B}},
    {"epoll_ctl", {kEpoll, EPOLL_CTL_ADD, kEpoll, B}},
    {"epoll_ctl", {kEpoll, EPOLL_CTL_ADD, kFile, B}},
    {"epoll_wait", {kEpoll, B, 4, 0}},
    {"epoll_pwait", {kEpoll, B, 4, 0, B, 8}},
    {"epoll_pwait2", {kEpoll, B, 4, B, B, 8}},
    {"dup2", {kFile, kFirstFree}},
    {"dup2", {kFile, kFile}},
    {"dup3", {kFile, kFirstFree, O_CLOEXEC}},
    {"dup3", {kFile, kFile, 0}},
    {"close", {kFirstFree}},
    {"close_range", {kFirstFree, kFirstFree, 0}},
    {"fcntl", {kFile, F_DUPFD, kFirstFree}},
    {"fcntl", {kFile, F_DUPFD_CLOEXEC, kFirstFree}},
    {"fcntl", {kFile, F_SETFD, 1}},
    {"fcntl", {kFile, F_SETFL, 0}},
    {"fcntl", {kFile, F_GETLK, B}},
    {"fcntl", {kFile, F_SETLK, B}},
    {"fcntl", {kFile, F_OFD_SETLK, B}},
    {"fcntl", {kReadOnly, F_SETLK, B}},
    {"fcntl", {kPath, F_GETFL, 0}},
    {"fcntl", {kPath, F_SETFL, 0}},
    {"fcntl", {kFile, F_GETOWN, 0}},
    {"fcntl", {kFile, F_GETLEASE, 0}},
    {"fcntl", {kFile, F_GETPIPE_SZ, 0}},
    {"fcntl", {kPipeRead, F_GETPIPE_SZ, 0}},
    {"fcntl", {kMemfd, F_ADD_SEALS, 0}},
    {"fcntl", {kFile, F_GET_SEALS, 0}},
    {"ioctl", {kFile, FIONREAD, B}},
    {"ioctl", {kPipeRead, FIONREAD, B}},
    {"ioctl", {kPipeRead, TCGETS, B}},
    {"ioctl", {kFile, TIOCGWINSZ, B}},
    {"ioctl", {kFile, FIOCLEX, 0}},
    {"ioctl", {kEvent, FIONBIO, B}},
    {"ioctl", {kStream, FIONREAD, B}},
    {"ioctl", {kDirectory, FIONREAD, B}},
    {"ioctl", {kTerminal, TCGETS, B}},
    {"ioctl", {kTerminal, TIOCGWINSZ, B}},
    {"ioctl", {kTerminal, TIOCSPTLCK, B}},
    {"ioctl", {kTerminal, TIOCGPTN, B}},
    {"flock", {kFile, LOCK_EX | LOCK_NB}},
    {"flock", {kPath, LOCK_SH}},
    {"ftruncate", {kReadOnly, 10}},
    {"ftruncate", {kPipeRead, 10}},
    {"ftruncate", {kDirectory, 10}},
    {"fsync", {kPipeRead}},
    {"fallocate", {kFile, 0, 0, 100}},
    {"fallocate", {kPipeRead, 0, 0, 100}},
    {"fallocate", {kReadOnly, 0, 0, 100}},
    {"fadvise64", {kPipeRead, 0, 0, 0}},
    {"readahead", {kPipeRead, 0, 10}},
    {"sync_file_range", {kFile, 0, 0, 2}},
    {"sync_file_range", {kPipeRead, 0, 0, 2}},
    {"sendfile", {kPipeWrite, kFile, B, 64}},
    {"sendfile", {kFile, kFile, B, 64}},
    {"copy_file_range", {kFile, B, kMemfd, B, 64, 0}},
    {"copy_file_range", {kReadOnly, B, kFile, B, 64, 0}},
    {"splice", {kPipeRead, 0, kFile, B, 64, 0}},
    {"splice", {kFile, B, kPipeWrite, 0, 64, 0}},
    {"splice", {kPipeRead, B, kPipeWrite, 0, 64, 0}},
    {"splice", {kEmptyRead, 0, kPipeWrite, 0, 64, SPLICE_F_NONBLOCK}},
    {"tee", {kPipeRead, kEmptyWrite, 64, 0}},
    {"vmsplice", {kPipeWrite, B, 1, 0}},
    {"getdents", {kDirectory, B, 1024}},
    {"getdents64", {kDirectory, B, 1024}},
    {"getdents64", {kDirectory, B, 8}},
    {"chdir", {B}},
    {"fchdir", {kDirectory}},
    {"open", {B, O_DIRECTORY, 0}},
    {"open", {B, O_CREAT | O_EXCL, 0600}},
    {"open", {B, O_TMPFILE | O_RDWR, 0600}},
    {"openat", {kDirectory, B, O_RDONLY | O_NOFOLLOW, 0}},
    {"openat", {kFile, B, O_RDONLY, 0}},
    {"openat", {AT_FDCWD, B, O_WRONLY | O_TRUNC, 0}},
    {"openat2", {AT_FDCWD, B, B, 24}},
    {"newfstatat", {kFile, B, B, AT_EMPTY_PATH}},
    {"newfstatat", {kDirectory, B, B, 0}},
    {"statx", {kFile, B, AT_EMPTY_PATH, 0x7ff, B}},
    {"unlinkat", {AT_FDCWD, B, AT_REMOVEDIR}},
    {"linkat", {AT_FDCWD, B, AT_FDCWD, B, AT_SYMLINK_FOLLOW}},
    {"renameat2", {AT_FDCWD, B, AT_FDCWD, B, 1}},
    {"utimensat", {kFile, 0, B, 0}},
    {"mknod", {B, S_IFIFO | 0600, 0}},
    {"mknodat", {AT_FDCWD, B, S_IFIFO | 0600, 0}},
    {"readlink", {B, B, 64}},
    {"readlinkat", {kPath, B, B, 64}},
    {"socket", {AF_UNIX, SOCK_STREAM, 0}},
    {"socket", {AF_INET, SOCK_DGRAM, 0}},
    {"socketpair", {AF_UNIX, SOCK_STREAM, 0, B}},
    {"socketpair", {AF_INET, SOCK_STREAM, 0, B}},
    {"connect", {kUnbound, B, 7}},
    {"connect", {kInet, B, 16}},
    {"bind", {kUnbound, B, 7}},
    {"bind", {kInet, B, 16}},
    {"listen", {kUnbound, 1}},
    {"listen", {kInet, 1}},
    {"listen", {kTcp, 1}},
    {"accept", {kUnbound, B, B}},
    {"accept", {kDatagram, B, B}},
    {"accept", {kListener, B, B}},
    {"accept4", {kListener, B, B, SOCK_NONBLOCK}},
    {"getsockname", {kStream, B, B}},
    {"getsockname", {kInet, B, B}},
    {"getpeername", {kStream, B, B}},
    {"getpeername", {kUnbound, B, B}},
    {"setsockopt", {kStream, SOL_SOCKET, SO_RCVTIMEO, B, 16}},
    {"setsockopt", {kStream, SOL_SOCKET, SO_SNDBUF, B, 4}},
    {"setsockopt", {kTcp, 6, 1, B, 4}},
    {"getsockopt", {kStream, SOL_SOCKET, SO_TYPE, B, B}},
    {"getsockopt", {kStream, SOL_SOCKET, SO_PEERCRED, B, B}},
    {"getsockopt", {kTcp, 6, 11, B, B}},
    {"shutdown", {kStream, 2}},
    {"shutdown", {kUnbound, 2}},
    {"sendto", {kDatagram, B, 64, 0, 0, 0}},
    {"sendto", {kStream, B, 64, MSG_DONTWAIT, B, 7}},
    {"sendto", {kInet, B, 64, 0, B, 16}},
    {"sendto", {kTcp, B, 64, 0, 0, 0}},
    {"recvfrom", {kDatagram2, B, 64, MSG_DONTWAIT, B, B}},
    {"recvfrom", {kInet, B, 64, MSG_DONTWAIT, B, B}},
    {"sendmsg", {kDatagram, B, 0}},
    {"sendmsg", {kFile, B, 0}},
    {"recvmsg", {kDatagram2, B, MSG_DONTWAIT}},
    {"sendmmsg", {kDatagram, B, 1, 0}},
    {"recvmmsg", {kDatagram2, B, 1, MSG_DONTWAIT, B}},
    {"rt_sigaction", {SIGUSR1, B, B, 8}},
    {"rt_sigaction", {SIGKILL, B, B, 8}},
    {"rt_sigaction", {SIGKILL, 0, B, 8}},
    {"rt_sigprocmask", {SIG_BLOCK, B, B, 8}},
    {"rt_sigprocmask", {SIG_SETMASK, 0, B, 8}},
    {"rt_sigpending", {B, 8}},
    {"rt_sigtimedwait", {B, B, B, 8}},
    {"rt_sigsuspend", {B, 8}},
    {"sigaltstack", {B, B}},
    {"signalfd4", {-1, B, 8, 0}},
    {"signalfd4", {kSignals, B, 8, 0}},
    {"signalfd", {-1, B, 8}},
    {"timerfd_create", {CLOCK_MONOTONIC, 0}},
    {"timerfd_settime", {kTimer, 0, B, B}},
    {"timerfd_gettime", {kTimer, B}},
    {"timer_create", {CLOCK_MONOTONIC, 0, B}},
    {"clock_settime", {CLOCK_REALTIME, B}},
    {"clock_nanosleep", {CLOCK_MONOTONIC, TIMER_ABSTIME, B, B}},
    {"getitimer", {ITIMER_REAL, B}},
    {"setitimer", {ITIMER_VIRTUAL, B, B}},
    {"inotify_add_watch", {kInotify, B, 2}},
    {"inotify_rm_watch", {kInotify, 1}},
    {"futex", {B, FUTEX_WAKE, 1, 0, 0, 0}},
    {"futex", {B, FUTEX_WAIT, 7, 0, 0, 0}},
    {"futex", {B, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, B, 0, 0}},
    {"futex", {B, FUTEX_WAIT_BITSET, 0, B, 0, 1}},
    {"futex", {B, FUTEX_REQUEUE, 0, 0, B, 0}},
    {"futex", {B, FUTEX_CMP_REQUEUE, 0, 0, B, 0}},
    {"futex", {B, FUTEX_WAKE_OP, 0, 0, B, 0}},
    {"futex", {B, FUTEX_UNLOCK_PI, 0, 0, 0, 0}},
    {"futex", {B, FUTEX_TRYLOCK_PI, 0, 0, 0, 0}},
    {"futex", {B, FUTEX_LOCK_PI, 0, B, 0, 0}},
    {"futex", {B, FUTEX_CMP_REQUEUE_PI, 1, 0, B, 0}},
    {"futex_waitv", {B, 1, 0, B, CLOCK_MONOTONIC}},
    {"sched_setscheduler", {0, SCHED_OTHER, B}},
    {"sched_setscheduler", {0, SCHED_BATCH, B}},
    {"sched_getattr", {0, B, 56, 0}},
    {"sched_getaffinity", {0, 128, B}},
    {"sched_setaffinity", {0, 128, B}},
    {"getrlimit", {RLIMIT_NOFILE, B}},
    {"prlimit64", {0, RLIMIT_NOFILE, 0, B}},
    {"getrusage", {RUSAGE_SELF, B}},
    {"prctl", {PR_GET_NAME, B, 0, 0, 0}},
    {"prctl", {PR_SET_NAME, B, 0, 0, 0}},
    {"prctl", {PR_SET_PDEATHSIG, 0, 0, 0, 0}},
    {"prctl", {PR_GET_PDEATHSIG, B, 0, 0, 0}},
    {"prctl", {PR_GET_DUMPABLE, 0, 0, 0, 0}},
    {"prctl", {PR_SET_DUMPABLE, 1, 0, 0, 0}},
    {"prctl", {PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0}},
    {"prctl", {PR_CAPBSET_READ, 0, 0, 0, 0}},
    {"prctl", {PR_SET_TIMERSLACK, 0, 0, 0, 0}},
    {"prctl", {PR_GET_KEEPCAPS, 0, 0, 0, 0}},
    {"prctl", {PR_GET_SECUREBITS, 0, 0, 0, 0}},
    {"prctl", {PR_GET_TID_ADDRESS, B, 0, 0, 0}},
    {"prctl", {PR_GET_THP_DISABLE, 0, 0, 0, 0}},
    {"arch_prctl", {0x1003 /* ARCH_GET_FS */, B}},
    {"arch_prctl", {0x1004 /* ARCH_GET_GS */, B}},
    {"membarrier", {0, 0}},
    {"memfd_create", {B, MFD_CLOEXEC}},
    {"getrandom", {B, 64, 1}},
    {"get_robust_list", {0, B, B}},
    {"set_robust_list", {B, 24}},
    {"set_robust_list", {B, 8}},
    {"personality", {0xffffffff}},
    {"shmget", {IPC_PRIVATE, 4096, 0600}},
    {"semget", {IPC_PRIVATE, 1, 0600}},
    {"msgget", {IPC_PRIVATE, 0600}},
    {"statfs", {B, B}},
    {"eventfd2", {0, 0}},
    {"umask", {022}},
    {"kill", {0, 0}},
};
#undef B
#undef D

/* Not called, argument values that are not given, and why. `argument` ANY: all of the call. */
struct Exception {
  const char* name;
  int argument;
  const char* value; /* of kValues; null: all */
  const char* why;
};

static const struct Exception kExceptions[] = {
    {"exit", ANY, NULL, "ends the caller"},
    {"exit_group", ANY, NULL, "ends the caller"},
    {"rt_sigreturn", ANY, NULL, "takes its registers from the stack: tests/guest/signal_context.c"},
    {"clone", ANY, NULL, "natively it forks: tests/guest/thread_clone.c"},
    {"clone3", ANY, NULL, "natively it forks: tests/guest/thread_clone.c"},
    {"fork", ANY, NULL, "forks"},
    {"vfork", ANY, NULL, "forks"},
    {"ptrace", ANY, NULL, "natively its parent traces it: tests/guest/process_trace.c"},
    {"execve", ANY, NULL, "replaces the caller"},
    {"execveat", ANY, NULL, "replaces the caller"},
    {"seccomp", ANY, NULL, "its filters act upon all that follows"},
    {"pkey_alloc", ANY, NULL,
     "on a processor without keys the first one ends with EINVAL but keeps key 0, all others with "
     "ENOSPC, which km always says: tests/guest/mem_place.c"},
    {"sync", ANY, NULL, "waits for all disks of the host"},
    {"settimeofday", ANY, NULL, "sets the host's clock"},
    {"clock_settime", ANY, NULL, "sets the host's clock"},
    {"adjtimex", ANY, NULL, "depends on the host's clock"},
    {"clock_adjtime", ANY, NULL, "depends on the host's clock"},
    {"mincore", 1, "unmapped", "says what the host holds of all that lies there"},
    {"rt_sigsuspend", 0, "ones", "waits with everything blocked"},
    {"ppoll", 3, "ones", "waits with everything blocked"},
    {"brk", 0, NULL, "addresses differ"},
    {"mmap", 0, "0", "only root gets the first page, and from km nobody does"},
    {"mmap", 0, "-1", "with MAP_FIXED the kernel takes the address for an error number"},
    {"mremap", 4, "0", "only root gets the first page, and from km nobody does"},
    {"mmap", 3, "straddling", "MAP_FIXED at 0: only root gets the first page"},
    {"personality", 0, "int-max", "READ_IMPLIES_EXEC: the caveat of the row"},
    {"mknod", 1, "misaligned", "makes a device: the caveat of the row"},
    {"mknod", 1, "ones", "makes a device: the caveat of the row"},
    {"mknodat", 2, "misaligned", "makes a device: the caveat of the row"},
    {"mknodat", 2, "ones", "makes a device: the caveat of the row"},
    {"madvise", 1, "2^63", "takes away the program's own memory"},
    {"madvise", 1, "int-max", "may take away the program's own memory"},
    {"madvise", 1, "2^32", "may take away the program's own memory"},
    {"munmap", 1, "int-max", "may take away the program's own memory"},
    {"munmap", 1, "2^32", "may take away the program's own memory"},
    {"mremap", 1, "int-max", "may take away the program's own memory"},
    {"mremap", 1, "2^32", "may take away the program's own memory"},
    {"futex", 0, "ones", "a PI futex of an owner that is no more: km waits"},
    {"setrlimit", 0, "0", "RLIMIT_CPU ends the process at some time"},
    {"setrlimit", 0, "2^63", "RLIMIT_CPU ends the process at some time"},
    {"setrlimit", 0, "2^32", "RLIMIT_CPU ends the process at some time"},
    {"prlimit64", 1, "0", "RLIMIT_CPU ends the process at some time"},
    {"prlimit64", 1, "2^63", "RLIMIT_CPU ends the process at some time"},
    {"prlimit64", 1, "2^32", "RLIMIT_CPU ends the process at some time"},
};

/* Calls whose result is not the same in two runs: only that they succeed is compared. */
static const char kVarying[] =
    " getpid gettid getppid getpgrp getpgid getsid setsid set_tid_address time times getcpu "
    "getrandom alarm shmget semget msgget add_key request_key ";

static void PutText(uint8_t* page, const char* text) { memcpy(page, text, strlen(text) + 1); }
static void PutWords(uint8_t* page, uint64_t first, uint64_t second, uint64_t third) {
  memcpy(page, (uint64_t[3]){first, second, third}, 24);
}

/* Argument `index` of `name` is a pointer to `kind`: writes what the call may find there. `spare`
 * is a page for what that points to. */
static void FillBuffer(const char* name, int index, const char* kind, uint8_t* page,
                       uint8_t* spare) {
  if (strcmp(kind, "path") == 0 || strcmp(kind, "str") == 0) {
    const char* text = index == 0 || (index == 1 && strstr(name, "at") != NULL) ? "file" : "new";
    if (strncmp(name, "mkdir", 5) == 0 || strncmp(name, "mknod", 5) == 0) text = "new";
    if (strcmp(name, "rmdir") == 0 || strcmp(name, "chdir") == 0) text = "folder";
    if (strncmp(name, "readlink", 8) == 0) text = "link";
    if (strstr(name, "xattr") != NULL && index == 1) text = "user.test";
    if (strcmp(name, "mq_open") == 0 || strcmp(name, "mq_unlink") == 0) text = "km-no-such-queue";
    PutText(page, text);
  } else if (strncmp(kind, "iovec", 5) == 0) {
    PutWords(page, (uintptr_t)spare, 64, 0);
  } else if (strstr(name, "msg") != NULL && strcmp(kind, "addr") == 0) {
    PutWords(spare, (uintptr_t)spare + 64, 64, 0);
    struct msghdr message = {.msg_iov = (void*)spare, .msg_iovlen = 1};
    memcpy(page, &message, sizeof message);
  } else if (strcmp(kind, "sockaddr_in") == 0) {
    memcpy(page, &(struct sockaddr_un){AF_UNIX, "none"}, 7);
  } else if (strcmp(name, "epoll_ctl") == 0) {
    *(uint32_t*)page = EPOLLIN;
  } else if (strcmp(kind, "int_out") == 0) {
    *(int*)page = 64;
  } else if (strcmp(kind, "pollfds") == 0) {
    *(uint64_t*)page = kPipeRead | (uint64_t)1 << 32;
  } else if (strcmp(kind, "fdset") == 0) {
    *(uint64_t*)page = index == 1 ? 1 << kPipeRead : 0;
  } else if (strcmp(kind, "cpuset_in") == 0) {
    memset(page, 0xff, 128);
  } else if (strcmp(name, "fcntl") == 0) {
    *(struct flock*)page = (struct flock){.l_type = F_WRLCK};
  } else if (strcmp(name, "rt_sigaction") == 0 && index == 1) {
    PutWords(page, (uintptr_t)SIG_IGN, 0, 0);
  } else if (strcmp(kind, "altstack_in") == 0) {
    PutWords(page, (uintptr_t)spare, 0, 4096);
  } else if (strcmp(name, "capget") == 0 && index == 0) {
    *(uint64_t*)page = 0x20080522;
  } else if (strcmp(name, "prctl") == 0) {
    PutText(page, "errnos");
  }
}

/* A number that a valid call may have for an argument of this kind. */
static int64_t DefaultNumber(const char* kind) {
  static const struct {
    const char* kind;
    int64_t value;
  } kNumbers[] = {{"fd", kFile},
                  {"dirfd", AT_FDCWD},
                  {"size", 64},
                  {"prot", 3},
                  {"map_flags", 0x22},
                  {"mode", 0600},
                  {"open_mode", 0600},
                  {"open_flags", O_RDWR},
                  {"clock", 1},
                  {"domain", AF_UNIX},
                  {"socket_type", SOCK_STREAM},
                  {"epoll_op", 1},
                  {"fcntl_cmd", F_GETFL},
                  {"prctl", PR_GET_NAME},
                  {"arch_prctl", 0x1003},
                  {"statx_mask", 0x7ff},
                  {"access_mode", R_OK},
                  {"rlimit_resource", RLIMIT_NOFILE}};
  for (size_t i = 0; i < sizeof kNumbers / sizeof *kNumbers; i++) {
    if (strcmp(kind, kNumbers[i].kind) == 0) return kNumbers[i].value;
  }
  return 0;
}

#endif /* TESTS_CLI_ERRNOS_CASES_H_ */
