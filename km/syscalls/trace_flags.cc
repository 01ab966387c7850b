// Names of numbers: each table is one set of flags, or of values of which an argument is one.
#include <asm/prctl.h>
#include <fcntl.h>
#include <linux/fadvise.h>
#include <linux/falloc.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <linux/mman.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/stat.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "km/signals/actions.h"
#include "km/syscalls/trace_format.h"

namespace km {
namespace {

struct Name {
  uint64_t value;
  const char* name;
};
#define KM_NAME(constant) \
  Name { static_cast<uint32_t>(constant), #constant }

constexpr Name kOpen[] = {
    KM_NAME(O_RDONLY),   KM_NAME(O_WRONLY),   KM_NAME(O_RDWR),          KM_NAME(O_TMPFILE),
    KM_NAME(O_CREAT),    KM_NAME(O_EXCL),     KM_NAME(O_NOCTTY),        KM_NAME(O_TRUNC),
    KM_NAME(O_APPEND),   KM_NAME(O_NONBLOCK), KM_NAME(O_SYNC),          KM_NAME(O_DSYNC),
    KM_NAME(O_ASYNC),    KM_NAME(O_DIRECT),   {0100000, "O_LARGEFILE"}, KM_NAME(O_DIRECTORY),
    KM_NAME(O_NOFOLLOW), KM_NAME(O_NOATIME),  KM_NAME(O_CLOEXEC),       KM_NAME(O_PATH),
};
constexpr Name kPipe[] = {KM_NAME(O_CLOEXEC), KM_NAME(O_NONBLOCK), KM_NAME(O_DIRECT)};
constexpr Name kFd[] = {KM_NAME(FD_CLOEXEC)};
constexpr Name kProt[] = {KM_NAME(PROT_NONE), KM_NAME(PROT_READ), KM_NAME(PROT_WRITE),
                          KM_NAME(PROT_EXEC), KM_NAME(PROT_GROWSDOWN)};
constexpr Name kMap[] = {
    KM_NAME(MAP_SHARED),     KM_NAME(MAP_PRIVATE),   KM_NAME(MAP_SHARED_VALIDATE),
    KM_NAME(MAP_FIXED),      KM_NAME(MAP_ANONYMOUS), KM_NAME(MAP_GROWSDOWN),
    KM_NAME(MAP_DENYWRITE),  KM_NAME(MAP_LOCKED),    KM_NAME(MAP_NORESERVE),
    KM_NAME(MAP_POPULATE),   KM_NAME(MAP_NONBLOCK),  KM_NAME(MAP_STACK),
    KM_NAME(MAP_HUGETLB),    KM_NAME(MAP_SYNC),      KM_NAME(MAP_FIXED_NOREPLACE),
    KM_NAME(MAP_EXECUTABLE), KM_NAME(MAP_32BIT),
};
constexpr Name kMremap[] = {KM_NAME(MREMAP_MAYMOVE), KM_NAME(MREMAP_FIXED),
                            KM_NAME(MREMAP_DONTUNMAP)};
constexpr Name kMsync[] = {KM_NAME(MS_ASYNC), KM_NAME(MS_INVALIDATE), KM_NAME(MS_SYNC)};
constexpr Name kAdvice[] = {
    KM_NAME(MADV_NORMAL),     KM_NAME(MADV_RANDOM),        KM_NAME(MADV_SEQUENTIAL),
    KM_NAME(MADV_WILLNEED),   KM_NAME(MADV_DONTNEED),      KM_NAME(MADV_FREE),
    KM_NAME(MADV_REMOVE),     KM_NAME(MADV_DONTFORK),      KM_NAME(MADV_DOFORK),
    KM_NAME(MADV_MERGEABLE),  KM_NAME(MADV_UNMERGEABLE),   KM_NAME(MADV_HUGEPAGE),
    KM_NAME(MADV_NOHUGEPAGE), KM_NAME(MADV_DONTDUMP),      KM_NAME(MADV_DODUMP),
    KM_NAME(MADV_WIPEONFORK), KM_NAME(MADV_KEEPONFORK),    KM_NAME(MADV_COLD),
    KM_NAME(MADV_PAGEOUT),    KM_NAME(MADV_POPULATE_READ), KM_NAME(MADV_POPULATE_WRITE),
};
constexpr Name kFadvice[] = {
    KM_NAME(POSIX_FADV_NORMAL),   KM_NAME(POSIX_FADV_RANDOM),   KM_NAME(POSIX_FADV_SEQUENTIAL),
    KM_NAME(POSIX_FADV_WILLNEED), KM_NAME(POSIX_FADV_DONTNEED), KM_NAME(POSIX_FADV_NOREUSE),
};
constexpr Name kFallocate[] = {
    KM_NAME(FALLOC_FL_KEEP_SIZE),      KM_NAME(FALLOC_FL_PUNCH_HOLE),
    KM_NAME(FALLOC_FL_COLLAPSE_RANGE), KM_NAME(FALLOC_FL_ZERO_RANGE),
    KM_NAME(FALLOC_FL_INSERT_RANGE),   KM_NAME(FALLOC_FL_UNSHARE_RANGE),
};
constexpr Name kWhence[] = {KM_NAME(SEEK_SET), KM_NAME(SEEK_CUR), KM_NAME(SEEK_END),
                            KM_NAME(SEEK_DATA), KM_NAME(SEEK_HOLE)};
constexpr Name kAccess[] = {KM_NAME(F_OK), KM_NAME(R_OK), KM_NAME(W_OK), KM_NAME(X_OK)};
constexpr Name kFlock[] = {KM_NAME(LOCK_SH), KM_NAME(LOCK_EX), KM_NAME(LOCK_UN), KM_NAME(LOCK_NB)};
// 0x200 is AT_REMOVEDIR to unlinkat and AT_EACCESS to faccessat.
constexpr Name kAt[] = {KM_NAME(AT_SYMLINK_NOFOLLOW), KM_NAME(AT_SYMLINK_FOLLOW),
                        KM_NAME(AT_NO_AUTOMOUNT),     KM_NAME(AT_EMPTY_PATH),
                        KM_NAME(AT_STATX_FORCE_SYNC), KM_NAME(AT_STATX_DONT_SYNC),
                        KM_NAME(AT_EACCESS)};
constexpr Name kUnlink[] = {KM_NAME(AT_REMOVEDIR)};
constexpr Name kRename[] = {
    {1, "RENAME_NOREPLACE"}, {2, "RENAME_EXCHANGE"}, {4, "RENAME_WHITEOUT"}};
constexpr Name kStatx[] = {
    KM_NAME(STATX_ALL),    KM_NAME(STATX_BASIC_STATS), KM_NAME(STATX_TYPE),   KM_NAME(STATX_MODE),
    KM_NAME(STATX_NLINK),  KM_NAME(STATX_UID),         KM_NAME(STATX_GID),    KM_NAME(STATX_ATIME),
    KM_NAME(STATX_MTIME),  KM_NAME(STATX_CTIME),       KM_NAME(STATX_INO),    KM_NAME(STATX_SIZE),
    KM_NAME(STATX_BLOCKS), KM_NAME(STATX_BTIME),       KM_NAME(STATX_MNT_ID),
};
constexpr Name kFcntl[] = {
    KM_NAME(F_DUPFD),      KM_NAME(F_GETFD),     KM_NAME(F_SETFD),         KM_NAME(F_GETFL),
    KM_NAME(F_SETFL),      KM_NAME(F_GETLK),     KM_NAME(F_SETLK),         KM_NAME(F_SETLKW),
    KM_NAME(F_SETOWN),     KM_NAME(F_GETOWN),    KM_NAME(F_SETSIG),        KM_NAME(F_GETSIG),
    KM_NAME(F_OFD_GETLK),  KM_NAME(F_OFD_SETLK), KM_NAME(F_OFD_SETLKW),    KM_NAME(F_SETLEASE),
    KM_NAME(F_GETLEASE),   KM_NAME(F_NOTIFY),    KM_NAME(F_DUPFD_CLOEXEC), KM_NAME(F_SETPIPE_SZ),
    KM_NAME(F_GETPIPE_SZ), KM_NAME(F_ADD_SEALS), KM_NAME(F_GET_SEALS),     KM_NAME(F_SETOWN_EX),
    KM_NAME(F_GETOWN_EX),
};
constexpr Name kIoctl[] = {
    KM_NAME(TCGETS),     KM_NAME(TCSETS),     KM_NAME(TCSETSW),   KM_NAME(TCSETSF),
    KM_NAME(TIOCGWINSZ), KM_NAME(TIOCSWINSZ), KM_NAME(FIONREAD),  KM_NAME(FIONBIO),
    KM_NAME(FIOASYNC),   KM_NAME(FIOCLEX),    KM_NAME(FIONCLEX),  KM_NAME(TIOCGPGRP),
    KM_NAME(TIOCSPGRP),  KM_NAME(TIOCGSID),   KM_NAME(TIOCNOTTY), KM_NAME(TIOCSCTTY),
    KM_NAME(TCSBRK),     KM_NAME(TCXONC),     KM_NAME(TCFLSH),    KM_NAME(TIOCOUTQ),
};
constexpr Name kSigprocmask[] = {KM_NAME(SIG_BLOCK), KM_NAME(SIG_UNBLOCK), KM_NAME(SIG_SETMASK)};
constexpr Name kSigaction[] = {
    {kSaRestorer, "SA_RESTORER"}, KM_NAME(SA_ONSTACK), KM_NAME(SA_RESTART),   KM_NAME(SA_NODEFER),
    KM_NAME(SA_RESETHAND),        KM_NAME(SA_SIGINFO), KM_NAME(SA_NOCLDSTOP), KM_NAME(SA_NOCLDWAIT),
};
constexpr Name kAltStack[] = {
    KM_NAME(SS_ONSTACK), KM_NAME(SS_DISABLE), {uint32_t{1} << 31, "SS_AUTODISARM"}};
constexpr Name kFutex[] = {
    KM_NAME(FUTEX_WAIT),           KM_NAME(FUTEX_WAKE),        KM_NAME(FUTEX_FD),
    KM_NAME(FUTEX_REQUEUE),        KM_NAME(FUTEX_CMP_REQUEUE), KM_NAME(FUTEX_WAKE_OP),
    KM_NAME(FUTEX_LOCK_PI),        KM_NAME(FUTEX_UNLOCK_PI),   KM_NAME(FUTEX_TRYLOCK_PI),
    KM_NAME(FUTEX_WAIT_BITSET),    KM_NAME(FUTEX_WAKE_BITSET), KM_NAME(FUTEX_WAIT_REQUEUE_PI),
    KM_NAME(FUTEX_CMP_REQUEUE_PI), KM_NAME(FUTEX_LOCK_PI2),
};
constexpr Name kFutexBitset[] = {KM_NAME(FUTEX_BITSET_MATCH_ANY)};
constexpr Name kClone[] = {
    KM_NAME(CLONE_VM),
    KM_NAME(CLONE_FS),
    KM_NAME(CLONE_FILES),
    KM_NAME(CLONE_SIGHAND),
    KM_NAME(CLONE_PIDFD),
    KM_NAME(CLONE_PTRACE),
    KM_NAME(CLONE_VFORK),
    KM_NAME(CLONE_PARENT),
    KM_NAME(CLONE_THREAD),
    KM_NAME(CLONE_NEWNS),
    KM_NAME(CLONE_SYSVSEM),
    KM_NAME(CLONE_SETTLS),
    KM_NAME(CLONE_PARENT_SETTID),
    KM_NAME(CLONE_CHILD_CLEARTID),
    KM_NAME(CLONE_DETACHED),
    KM_NAME(CLONE_UNTRACED),
    KM_NAME(CLONE_CHILD_SETTID),
    KM_NAME(CLONE_NEWCGROUP),
    KM_NAME(CLONE_NEWUTS),
    KM_NAME(CLONE_NEWIPC),
    KM_NAME(CLONE_NEWUSER),
    KM_NAME(CLONE_NEWPID),
    KM_NAME(CLONE_NEWNET),
    KM_NAME(CLONE_IO),
};
constexpr Name kClock[] = {
    KM_NAME(CLOCK_REALTIME),
    KM_NAME(CLOCK_MONOTONIC),
    KM_NAME(CLOCK_PROCESS_CPUTIME_ID),
    KM_NAME(CLOCK_THREAD_CPUTIME_ID),
    KM_NAME(CLOCK_MONOTONIC_RAW),
    KM_NAME(CLOCK_REALTIME_COARSE),
    KM_NAME(CLOCK_MONOTONIC_COARSE),
    KM_NAME(CLOCK_BOOTTIME),
    KM_NAME(CLOCK_REALTIME_ALARM),
    KM_NAME(CLOCK_BOOTTIME_ALARM),
    KM_NAME(CLOCK_TAI),
};
constexpr Name kTimer[] = {KM_NAME(TIMER_ABSTIME)};
constexpr Name kItimer[] = {{0, "ITIMER_REAL"}, {1, "ITIMER_VIRTUAL"}, {2, "ITIMER_PROF"}};
constexpr Name kRlimit[] = {
    {0, "RLIMIT_CPU"},       {1, "RLIMIT_FSIZE"}, {2, "RLIMIT_DATA"},    {3, "RLIMIT_STACK"},
    {4, "RLIMIT_CORE"},      {5, "RLIMIT_RSS"},   {6, "RLIMIT_NPROC"},   {7, "RLIMIT_NOFILE"},
    {8, "RLIMIT_MEMLOCK"},   {9, "RLIMIT_AS"},    {10, "RLIMIT_LOCKS"},  {11, "RLIMIT_SIGPENDING"},
    {12, "RLIMIT_MSGQUEUE"}, {13, "RLIMIT_NICE"}, {14, "RLIMIT_RTPRIO"}, {15, "RLIMIT_RTTIME"},
};
constexpr Name kRusage[] = {KM_NAME(RUSAGE_SELF), KM_NAME(RUSAGE_CHILDREN), KM_NAME(RUSAGE_THREAD)};
constexpr Name kPrctl[] = {
    KM_NAME(PR_SET_PDEATHSIG),
    KM_NAME(PR_GET_PDEATHSIG),
    KM_NAME(PR_GET_DUMPABLE),
    KM_NAME(PR_SET_DUMPABLE),
    KM_NAME(PR_GET_KEEPCAPS),
    KM_NAME(PR_SET_KEEPCAPS),
    KM_NAME(PR_SET_NAME),
    KM_NAME(PR_GET_NAME),
    KM_NAME(PR_GET_SECCOMP),
    KM_NAME(PR_SET_SECCOMP),
    KM_NAME(PR_CAPBSET_READ),
    KM_NAME(PR_CAPBSET_DROP),
    KM_NAME(PR_GET_TSC),
    KM_NAME(PR_SET_TSC),
    KM_NAME(PR_SET_TIMERSLACK),
    KM_NAME(PR_GET_TIMERSLACK),
    KM_NAME(PR_SET_MM),
    KM_NAME(PR_SET_CHILD_SUBREAPER),
    KM_NAME(PR_GET_CHILD_SUBREAPER),
    KM_NAME(PR_SET_NO_NEW_PRIVS),
    KM_NAME(PR_GET_NO_NEW_PRIVS),
    KM_NAME(PR_GET_THP_DISABLE),
    KM_NAME(PR_SET_THP_DISABLE),
    KM_NAME(PR_CAP_AMBIENT),
    KM_NAME(PR_SET_VMA),
};
constexpr Name kArchPrctl[] = {KM_NAME(ARCH_SET_GS),       KM_NAME(ARCH_SET_FS),
                               KM_NAME(ARCH_GET_FS),       KM_NAME(ARCH_GET_GS),
                               KM_NAME(ARCH_GET_CPUID),    KM_NAME(ARCH_SET_CPUID),
                               {0x3001, "ARCH_CET_STATUS"}};
constexpr Name kRandom[] = {KM_NAME(GRND_NONBLOCK), KM_NAME(GRND_RANDOM), {4, "GRND_INSECURE"}};
constexpr Name kMembarrier[] = {
    KM_NAME(MEMBARRIER_CMD_QUERY),
    KM_NAME(MEMBARRIER_CMD_GLOBAL),
    KM_NAME(MEMBARRIER_CMD_GLOBAL_EXPEDITED),
    KM_NAME(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED),
    KM_NAME(MEMBARRIER_CMD_PRIVATE_EXPEDITED),
    KM_NAME(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED),
    KM_NAME(MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE),
    KM_NAME(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE),
};
constexpr Name kCloseRange[] = {{2, "CLOSE_RANGE_UNSHARE"}, {4, "CLOSE_RANGE_CLOEXEC"}};
constexpr Name kMemfd[] = {{1, "MFD_CLOEXEC"}, {2, "MFD_ALLOW_SEALING"}, {4, "MFD_HUGETLB"}};
constexpr Name kDomain[] = {{0, "AF_UNSPEC"}, {1, "AF_UNIX"},     {2, "AF_INET"},
                            {10, "AF_INET6"}, {16, "AF_NETLINK"}, {17, "AF_PACKET"}};
constexpr Name kSocketLevel[] = {{0, "SOL_IP"},    {1, "SOL_SOCKET"},    {6, "SOL_TCP"},
                                 {17, "SOL_UDP"},  {41, "SOL_IPV6"},     {58, "SOL_ICMPV6"},
                                 {255, "SOL_RAW"}, {270, "SOL_NETLINK"}, {282, "SOL_TLS"}};
constexpr Name kSocketType[] = {
    {1, "SOCK_STREAM"},    {2, "SOCK_DGRAM"},          {3, "SOCK_RAW"},
    {5, "SOCK_SEQPACKET"}, {02000000, "SOCK_CLOEXEC"}, {04000, "SOCK_NONBLOCK"},
};
constexpr Name kSocketFlags[] = {{02000000, "SOCK_CLOEXEC"}, {04000, "SOCK_NONBLOCK"}};
constexpr Name kMessage[] = {
    KM_NAME(MSG_OOB),          KM_NAME(MSG_PEEK),     KM_NAME(MSG_DONTROUTE),
    KM_NAME(MSG_CTRUNC),       KM_NAME(MSG_TRUNC),    KM_NAME(MSG_DONTWAIT),
    KM_NAME(MSG_WAITALL),      KM_NAME(MSG_NOSIGNAL), KM_NAME(MSG_MORE),
    KM_NAME(MSG_CMSG_CLOEXEC), KM_NAME(MSG_EOR),      KM_NAME(MSG_ERRQUEUE),
    KM_NAME(MSG_WAITFORONE),   KM_NAME(MSG_FASTOPEN), {MSG_ZEROCOPY, "MSG_ZEROCOPY"},
};
constexpr Name kShutdown[] = {{0, "SHUT_RD"}, {1, "SHUT_WR"}, {2, "SHUT_RDWR"}};
constexpr Name kEpollOp[] = {{1, "EPOLL_CTL_ADD"}, {2, "EPOLL_CTL_DEL"}, {3, "EPOLL_CTL_MOD"}};
constexpr Name kEpollFlags[] = {{02000000, "EPOLL_CLOEXEC"}};
constexpr Name kEventFdFlags[] = {
    {1, "EFD_SEMAPHORE"}, {02000000, "EFD_CLOEXEC"}, {04000, "EFD_NONBLOCK"}};
constexpr Name kTimerFdFlags[] = {{02000000, "TFD_CLOEXEC"}, {04000, "TFD_NONBLOCK"}};
constexpr Name kSignalFdFlags[] = {{02000000, "SFD_CLOEXEC"}, {04000, "SFD_NONBLOCK"}};
constexpr Name kInotifyFlags[] = {{02000000, "IN_CLOEXEC"}, {04000, "IN_NONBLOCK"}};
// Those with two bits first.
constexpr Name kInotifyMask[] = {
    {0xfff, "IN_ALL_EVENTS"}, KM_NAME(IN_ACCESS),      KM_NAME(IN_MODIFY),
    KM_NAME(IN_ATTRIB),       KM_NAME(IN_CLOSE_WRITE), KM_NAME(IN_CLOSE_NOWRITE),
    KM_NAME(IN_OPEN),         KM_NAME(IN_MOVED_FROM),  KM_NAME(IN_MOVED_TO),
    KM_NAME(IN_CREATE),       KM_NAME(IN_DELETE),      KM_NAME(IN_DELETE_SELF),
    KM_NAME(IN_MOVE_SELF),    KM_NAME(IN_UNMOUNT),     KM_NAME(IN_ONLYDIR),
    KM_NAME(IN_DONT_FOLLOW),  KM_NAME(IN_EXCL_UNLINK), KM_NAME(IN_MASK_CREATE),
    KM_NAME(IN_MASK_ADD),     KM_NAME(IN_ONESHOT),
};
constexpr Name kSplice[] = {KM_NAME(SPLICE_F_MOVE), KM_NAME(SPLICE_F_NONBLOCK),
                            KM_NAME(SPLICE_F_MORE), KM_NAME(SPLICE_F_GIFT)};
constexpr Name kSyncRange[] = {KM_NAME(SYNC_FILE_RANGE_WAIT_BEFORE), KM_NAME(SYNC_FILE_RANGE_WRITE),
                               KM_NAME(SYNC_FILE_RANGE_WAIT_AFTER)};
constexpr Name kReadWrite[] = {{1, "RWF_HIPRI"},    {2, "RWF_DSYNC"},     {4, "RWF_SYNC"},
                               {8, "RWF_NOWAIT"},   {0x10, "RWF_APPEND"}, {0x20, "RWF_NOAPPEND"},
                               {0x40, "RWF_ATOMIC"}};
constexpr Name kResolve[] = {KM_NAME(RESOLVE_NO_XDEV),     KM_NAME(RESOLVE_NO_MAGICLINKS),
                             KM_NAME(RESOLVE_NO_SYMLINKS), KM_NAME(RESOLVE_BENEATH),
                             KM_NAME(RESOLVE_IN_ROOT),     KM_NAME(RESOLVE_CACHED)};
constexpr Name kXattr[] = {{1, "XATTR_CREATE"}, {2, "XATTR_REPLACE"}};
constexpr Name kSeals[] = {KM_NAME(F_SEAL_SEAL),         KM_NAME(F_SEAL_SHRINK),
                           KM_NAME(F_SEAL_GROW),         KM_NAME(F_SEAL_WRITE),
                           KM_NAME(F_SEAL_FUTURE_WRITE), {0x20, "F_SEAL_EXEC"}};
constexpr Name kDirectoryNotify[] = {KM_NAME(DN_ACCESS),   KM_NAME(DN_MODIFY), KM_NAME(DN_CREATE),
                                     KM_NAME(DN_DELETE),   KM_NAME(DN_RENAME), KM_NAME(DN_ATTRIB),
                                     KM_NAME(DN_MULTISHOT)};
constexpr Name kAioOpcode[] = {
    {0, "IOCB_CMD_PREAD"}, {1, "IOCB_CMD_PWRITE"}, {2, "IOCB_CMD_FSYNC"},  {3, "IOCB_CMD_FDSYNC"},
    {5, "IOCB_CMD_POLL"},  {6, "IOCB_CMD_NOOP"},   {7, "IOCB_CMD_PREADV"}, {8, "IOCB_CMD_PWRITEV"}};
constexpr Name kOwnerType[] = {{0, "F_OWNER_TID"}, {1, "F_OWNER_PID"}, {2, "F_OWNER_PGRP"}};
constexpr Name kWait[] = {{1, "WNOHANG"},         {2, "WUNTRACED"},
                          {4, "WEXITED"},         {8, "WCONTINUED"},
                          {0x1000000, "WNOWAIT"}, {0x20000000, "__WNOTHREAD"},
                          {0x40000000, "__WALL"}, {0x80000000, "__WCLONE"}};
constexpr Name kPtrace[] = {
    {0, "PTRACE_TRACEME"}, {1, "PTRACE_PEEKTEXT"},       {2, "PTRACE_PEEKDATA"},
    {8, "PTRACE_KILL"},    {12, "PTRACE_GETREGS"},       {16, "PTRACE_ATTACH"},
    {17, "PTRACE_DETACH"}, {0x4204, "PTRACE_GETREGSET"}, {0x4206, "PTRACE_SEIZE"}};
constexpr Name kPollEvents[] = {
    {0x1, "POLLIN"},       {0x2, "POLLPRI"},      {0x4, "POLLOUT"},     {0x8, "POLLERR"},
    {0x10, "POLLHUP"},     {0x20, "POLLNVAL"},    {0x40, "POLLRDNORM"}, {0x80, "POLLRDBAND"},
    {0x100, "POLLWRNORM"}, {0x200, "POLLWRBAND"}, {0x400, "POLLMSG"},   {0x2000, "POLLRDHUP"},
};
constexpr Name kEpollEvents[] = {
    {0x1, "EPOLLIN"},
    {0x2, "EPOLLPRI"},
    {0x4, "EPOLLOUT"},
    {0x8, "EPOLLERR"},
    {0x10, "EPOLLHUP"},
    {0x2000, "EPOLLRDHUP"},
    {1u << 28, "EPOLLEXCLUSIVE"},
    {1u << 29, "EPOLLWAKEUP"},
    {1u << 30, "EPOLLONESHOT"},
    {1u << 31, "EPOLLET"},
};
constexpr Name kLockType[] = {{F_RDLCK, "F_RDLCK"}, {F_WRLCK, "F_WRLCK"}, {F_UNLCK, "F_UNLCK"}};
constexpr Name kSnapshot[] = {{1, "KM_SNAPSHOT_CONTINUE"}};

constexpr uint64_t kAll = ~uint64_t{0};

// Bits of `choice` hold one of the names that fit into them; the other names are flags. A name for
// 0 is the first, one of several bits stands before those of its bits.
struct NameSet {
  absl::string_view kind;
  absl::Span<const Name> names;
  uint64_t choice = 0;
};

constexpr NameSet kSets[] = {
    {"open_flags", kOpen, O_ACCMODE},
    {"pipe_flags", kPipe},
    {"fd_flags", kFd},
    {"prot", kProt},
    {"map_flags", kMap, 0xf},
    {"mremap_flags", kMremap},
    {"msync_flags", kMsync},
    {"advice", kAdvice, kAll},
    {"fadvice", kFadvice, kAll},
    {"fallocate_mode", kFallocate},
    {"whence", kWhence, kAll},
    {"access_mode", kAccess},
    {"flock_op", kFlock},
    {"at_flags", kAt},
    {"unlink_flags", kUnlink},
    {"rename_flags", kRename},
    {"statx_mask", kStatx},
    {"fcntl_cmd", kFcntl, kAll},
    {"ioctl", kIoctl, kAll},
    {"sigprocmask_how", kSigprocmask, kAll},
    {"sigaction_flags", kSigaction},
    {"altstack_flags", kAltStack},
    {"futex_command", kFutex, kAll},
    {"futex_bitset", kFutexBitset, kAll},
    {"clone_bits", kClone},
    {"clock", kClock, kAll},
    {"timer_flags", kTimer},
    {"itimer", kItimer, kAll},
    {"rlimit_resource", kRlimit, kAll},
    {"rusage_who", kRusage, kAll},
    {"prctl", kPrctl, kAll},
    {"arch_prctl", kArchPrctl, kAll},
    {"random_flags", kRandom},
    {"membarrier", kMembarrier, kAll},
    {"close_range_flags", kCloseRange},
    {"memfd_flags", kMemfd},
    {"domain", kDomain, kAll},
    {"sockopt_level", kSocketLevel, kAll},
    {"socket_type", kSocketType, 0xf},
    {"socket_flags", kSocketFlags},
    {"message_flags", kMessage},
    {"shutdown_how", kShutdown, kAll},
    {"epoll_op", kEpollOp, kAll},
    {"epoll_flags", kEpollFlags},
    {"eventfd_flags", kEventFdFlags},
    {"timerfd_flags", kTimerFdFlags},
    {"signalfd_flags", kSignalFdFlags},
    {"inotify_flags", kInotifyFlags},
    {"inotify_mask", kInotifyMask},
    {"splice_flags", kSplice},
    {"sync_flags", kSyncRange},
    {"rwf_flags", kReadWrite},
    {"resolve_flags", kResolve},
    {"xattr_flags", kXattr},
    {"seals", kSeals},
    {"directory_notify", kDirectoryNotify},
    {"aio_opcode", kAioOpcode, kAll},
    {"owner_type", kOwnerType, kAll},
    {"wait_flags", kWait},
    {"ptrace_request", kPtrace, kAll},
    {"poll_events", kPollEvents},
    {"epoll_events", kEpollEvents},
    {"lock_type", kLockType, kAll},
    {"snapshot_flags", kSnapshot},
};

std::string FormatNames(const NameSet& set, uint64_t value) {
  std::string text;
  uint64_t rest = value;
  for (const Name& name : set.names) {
    uint64_t mask = name.value != 0 ? name.value : kAll;
    if (set.choice != 0 && (name.value & ~set.choice) == 0) mask = set.choice;
    if ((rest & mask) != name.value) continue;
    absl::StrAppend(&text, text.empty() ? "" : "|", name.name);
    rest &= ~name.value;
  }
  if (rest == 0 && !text.empty()) return text;
  // strace's "0x4" and, for none at all, "0".
  return absl::StrCat(text, text.empty() ? "" : "|", absl::StrFormat("%#x", rest));
}

std::string NamesOf(absl::string_view kind, uint64_t value) {
  return FormatScalar(kind, value).value_or("");
}

std::string FormatFutexOp(uint32_t op) {
  std::string text = NamesOf("futex_command", op & static_cast<uint32_t>(FUTEX_CMD_MASK));
  if ((op & FUTEX_PRIVATE_FLAG) != 0) text += "_PRIVATE";
  if ((op & FUTEX_CLOCK_REALTIME) != 0) text += "|FUTEX_CLOCK_REALTIME";
  return text;
}

// clone(2): the lowest byte is the signal at the end. clone3(2) has flags above 32 bits.
std::string FormatCloneFlags(uint64_t flags) {
  std::string text = NamesOf("clone_bits", flags & 0xffffff00);
  if ((flags >> 32) != 0) absl::StrAppend(&text, absl::StrFormat("|%#x", flags >> 32 << 32));
  int sig = static_cast<int>(flags & 0xff);
  if (sig != 0) absl::StrAppend(&text, "|", FormatSignal(sig));
  return text;
}

std::optional<std::string> FormatNumber(absl::string_view kind, uint64_t value) {
  if (kind == "int" || kind == "fd") return absl::StrCat(static_cast<int32_t>(value));
  if (kind == "uint") return absl::StrCat(static_cast<uint32_t>(value));
  if (kind == "size") return absl::StrCat(value);
  if (kind == "long") return absl::StrCat(static_cast<int64_t>(value));
  if (kind == "hex") return absl::StrFormat("%#x", value);
  if (kind == "addr") return FormatAddress(value);
  if (kind == "mode") return absl::StrFormat("%#03o", static_cast<uint32_t>(value));
  if (kind == "dirfd") {
    return static_cast<int>(value) == AT_FDCWD ? "AT_FDCWD"
                                               : absl::StrCat(static_cast<int32_t>(value));
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> FormatScalar(absl::string_view kind, uint64_t value) {
  if (std::optional<std::string> number = FormatNumber(kind, value)) return number;
  if (kind == "signal") return FormatSignal(static_cast<int>(value));
  if (kind == "futex_op") return FormatFutexOp(static_cast<uint32_t>(value));
  if (kind == "clone_flags") return FormatCloneFlags(value);
  for (const NameSet& set : kSets) {
    if (set.kind == kind) return FormatNames(set, static_cast<uint32_t>(value));
  }
  return std::nullopt;
}

}  // namespace km
