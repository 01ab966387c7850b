#include "km/syscalls/trace.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace km {
namespace {

using testing::HasSubstr;

constexpr uint64_t kUnmapped = 0x10;

// The test's own memory stands for the program's; the first page is nobody's. Strings are read in
// pieces that reach over their end, which is no error in a program's memory.
__attribute__((no_sanitize("address"))) bool ReadOwn(void* to, uint64_t from, size_t size) {
  if (from < 4096) return false;
  for (size_t i = 0; i < size; ++i) {
    static_cast<volatile char*>(to)[i] = reinterpret_cast<const volatile char*>(from)[i];
  }
  return true;
}

template <typename T>
uint64_t At(const T* object) {
  return reinterpret_cast<uint64_t>(object);
}

// strace's padding taken out, so that expectations are readable.
std::string Squeezed(std::string line) {
  size_t equals = line.rfind(" = ");
  size_t end = line.find_last_not_of(' ', equals);
  return absl::StrCat(line.substr(0, end + 1), line.substr(equals));
}

std::string Trace(uint64_t number, const CallArguments& arguments, std::optional<int64_t> result) {
  const SyscallRow* row = FindSyscall(number);
  TraceLine line = BeginTraceLine(row, arguments, ReadOwn);
  return Squeezed(EndTraceLine("", line, number, arguments, result, ReadOwn));
}

TEST(Trace, OpenShowsItsModeOnlyWhenItCreates) {
  const char* path = "/etc/passwd";
  uint64_t at = static_cast<uint32_t>(AT_FDCWD);
  EXPECT_EQ(Trace(SYS_openat, {at, At(path), O_RDONLY | O_CLOEXEC, 7}, 3),
            "openat(AT_FDCWD, \"/etc/passwd\", O_RDONLY|O_CLOEXEC) = 3");
  EXPECT_EQ(Trace(SYS_openat, {5, At(path), O_RDWR | O_CREAT | O_TRUNC, 0640}, -ENOENT),
            "openat(5, \"/etc/passwd\", O_RDWR|O_CREAT|O_TRUNC, 0640) = "
            "-1 ENOENT (No such file or directory)");
  EXPECT_EQ(Trace(SYS_open, {At(path), O_TMPFILE | O_WRONLY, 0600}, 3),
            "open(\"/etc/passwd\", O_WRONLY|O_TMPFILE, 0600) = 3");
  EXPECT_EQ(Trace(SYS_open, {kUnmapped, 0x80000000, 0}, -EFAULT),
            "open(0x10, O_RDONLY|0x80000000) = -1 EFAULT (Bad address)");
}

TEST(Trace, BuffersAreQuotedAndCutAt32Bytes) {
  const char text[] =
      "abc\n\"\\\x01\x01"
      "7\xff and much more than what is shown";
  EXPECT_EQ(Trace(SYS_write, {1, At(text), 5}, 5), "write(1, \"abc\\n\\\"\", 5) = 5");
  EXPECT_EQ(Trace(SYS_write, {1, At(text), 40}, 40),
            "write(1, \"abc\\n\\\"\\\\\\1\\0017\\377 and much more than wh\"..., 40) = 40");
  EXPECT_EQ(Trace(SYS_read, {0, At(text), 4096}, 3), "read(0, \"abc\", 4096) = 3");
  EXPECT_EQ(Trace(SYS_read, {0, At(text), 4096}, 0), "read(0, \"\", 4096) = 0");
  std::string address = FormatAddress(At(text));
  EXPECT_EQ(Trace(SYS_read, {0, At(text), 4096}, -EBADF),
            absl::StrCat("read(0, ", address, ", 4096) = -1 EBADF (Bad file descriptor)"));
  EXPECT_EQ(Trace(SYS_write, {1, kUnmapped, ~uint64_t{0}}, -EFAULT),
            "write(1, 0x10, 18446744073709551615) = -1 EFAULT (Bad address)");
}

TEST(Trace, WhatACallOverwritesIsDecodedBefore) {
  char text[] = "old";
  const SyscallRow* row = FindSyscall(SYS_rename);
  CallArguments arguments = {At(text), At(text)};
  TraceLine line = BeginTraceLine(row, arguments, ReadOwn);
  text[0] = 'c';
  EXPECT_EQ(Squeezed(EndTraceLine("", line, SYS_rename, arguments, 0, ReadOwn)),
            "rename(\"old\", \"old\") = 0");
}

TEST(Trace, ResultsStandInOneColumnBehindThePrefix) {
  TraceLine line = BeginTraceLine(FindSyscall(SYS_getpid), {}, ReadOwn);
  EXPECT_EQ(EndTraceLine("", line, SYS_getpid, {}, 7, ReadOwn),
            "getpid()                                = 7");
  EXPECT_EQ(EndTraceLine("[pid    12] ", line, SYS_getpid, {}, 7, ReadOwn),
            "[pid    12] getpid()                    = 7");
}

TEST(Trace, Memory) {
  EXPECT_EQ(
      Trace(SYS_mmap, {0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, ~0ull, 0},
            0x7f0000001000),
      "mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = "
      "0x7f0000001000");
  EXPECT_EQ(Trace(SYS_mprotect, {0x1000, 4096, PROT_NONE}, 0),
            "mprotect(0x1000, 4096, PROT_NONE) = 0");
  EXPECT_EQ(Trace(SYS_mremap, {0x1000, 1, 2, MREMAP_MAYMOVE, 9}, 0x2000),
            "mremap(0x1000, 1, 2, MREMAP_MAYMOVE) = 0x2000");
  EXPECT_EQ(Trace(SYS_madvise, {0x1000, 1, MADV_DONTNEED}, 0),
            "madvise(0x1000, 1, MADV_DONTNEED) = 0");
  EXPECT_EQ(Trace(SYS_madvise, {0x1000, 1, 99}, -EINVAL),
            "madvise(0x1000, 1, 0x63) = -1 EINVAL (Invalid argument)");
  EXPECT_EQ(Trace(SYS_brk, {0}, 0x555000), "brk(NULL) = 0x555000");
}

TEST(Trace, Stat) {
  struct stat file = {};
  file.st_mode = S_IFREG | 0644;
  file.st_size = 831;
  EXPECT_EQ(Trace(SYS_fstat, {3, At(&file)}, 0),
            "fstat(3, {st_mode=S_IFREG|0644, st_size=831, ...}) = 0");
  file.st_mode = S_IFCHR | 0666;
  file.st_rdev = 0x103;
  EXPECT_EQ(Trace(SYS_fstat, {3, At(&file)}, 0),
            "fstat(3, {st_mode=S_IFCHR|0666, st_rdev=makedev(0x1, 0x3), ...}) = 0");
  EXPECT_EQ(Trace(SYS_fstat, {3, kUnmapped}, -EFAULT), "fstat(3, 0x10) = -1 EFAULT (Bad address)");
}

TEST(Trace, SignalCalls) {
  SignalAction action = {.handler = 0x4000,
                         .flags = SA_RESTART | kSaRestorer,
                         .restorer = 0x5000,
                         .mask = SignalBit(SIGINT) | SignalBit(34)};
  EXPECT_EQ(Trace(SYS_rt_sigaction, {SIGUSR1, At(&action), 0, 8}, 0),
            "rt_sigaction(SIGUSR1, {sa_handler=0x4000, sa_mask=[INT RT_2], "
            "sa_flags=SA_RESTORER|SA_RESTART, sa_restorer=0x5000}, NULL, 8) = 0");
  action = {};
  EXPECT_EQ(Trace(SYS_rt_sigaction, {65, 0, At(&action), 8}, -EINVAL),
            absl::StrCat("rt_sigaction(65, NULL, ", FormatAddress(At(&action)),
                         ", 8) = -1 EINVAL (Invalid argument)"));
  SignalSet all = ~uint64_t{0} & ~SignalBit(SIGCHLD);
  EXPECT_EQ(Trace(SYS_rt_sigprocmask, {SIG_SETMASK, At(&all), 0, 8}, 0),
            "rt_sigprocmask(SIG_SETMASK, ~[CHLD], NULL, 8) = 0");
  EXPECT_EQ(Trace(SYS_tgkill, {1, 2, SIGTERM}, 0), "tgkill(1, 2, SIGTERM) = 0");
  EXPECT_EQ(Trace(SYS_rt_sigreturn, {}, std::nullopt), "rt_sigreturn() = ?");
}

TEST(Trace, FutexShowsTheArgumentsOfItsOperation) {
  timespec time = {1, 500};
  EXPECT_EQ(Trace(SYS_futex, {0x8000, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 2, 0, 7, 7}, -EAGAIN),
            "futex(0x8000, FUTEX_WAIT_PRIVATE, 2, NULL) = "
            "-1 EAGAIN (Resource temporarily unavailable)");
  EXPECT_EQ(Trace(SYS_futex, {0x8000, FUTEX_WAKE, 1, 7, 7, 7}, 1),
            "futex(0x8000, FUTEX_WAKE, 1) = 1");
  EXPECT_EQ(
      Trace(SYS_futex,
            {0x8000, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 2, At(&time), 7, 0xffffffff}, 0),
      "futex(0x8000, FUTEX_WAIT_BITSET|FUTEX_CLOCK_REALTIME, 2, {tv_sec=1, tv_nsec=500}, "
      "FUTEX_BITSET_MATCH_ANY) = 0");
  EXPECT_EQ(Trace(SYS_futex, {0x8000, FUTEX_CMP_REQUEUE, 1, 2, 0x9000, 3}, 1),
            "futex(0x8000, FUTEX_CMP_REQUEUE, 1, 2, 0x9000, 3) = 1");
  EXPECT_EQ(Trace(SYS_futex, {0x8000, FUTEX_UNLOCK_PI, 1, 2, 3, 4}, 0),
            "futex(0x8000, FUTEX_UNLOCK_PI) = 0");
}

TEST(Trace, ThreadsAndSleep) {
  EXPECT_EQ(Trace(SYS_clone, {0x3d0f00, 0x7000, 0, 0, 0}, 12),
            "clone(CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD|CLONE_SYSVSEM|"
            "CLONE_SETTLS|CLONE_PARENT_SETTID|CLONE_CHILD_CLEARTID, 0x7000, NULL, NULL, 0) = 12");
  EXPECT_EQ(Trace(SYS_ptrace, {PTRACE_GETREGSET, 12, 1, 0x7000}, 0),
            "ptrace(PTRACE_GETREGSET, 12, 0x1, 0x7000) = 0");
  EXPECT_EQ(Trace(SYS_wait4, {12, 0, __WALL | WNOHANG, 0}, -ECHILD),
            "wait4(12, NULL, WNOHANG|__WALL, NULL) = -1 ECHILD (No child processes)");
  for (const auto& [status, text] : std::initializer_list<std::pair<int, const char*>>{
           {W_EXITCODE(7, 0), "WIFEXITED(s) && WEXITSTATUS(s) == 7"},
           {W_EXITCODE(0, SIGKILL), "WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL"},
           {W_EXITCODE(0, SIGSEGV) | WCOREFLAG,
            "WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)"},
           {W_STOPCODE(SIGSTOP), "WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP"},
           {0xffff, "WIFCONTINUED(s)"}}) {
    EXPECT_EQ(Trace(SYS_wait4, {12, At(&status), 0, 0}, 12),
              absl::StrCat("wait4(12, [{", text, "}], 0, NULL) = 12"));
  }
  timespec time = {0, 1000};
  std::string address = FormatAddress(At(&time));
  EXPECT_EQ(Trace(SYS_nanosleep, {At(&time), At(&time)}, 0),
            absl::StrCat("nanosleep({tv_sec=0, tv_nsec=1000}, ", address, ") = 0"));
  EXPECT_EQ(Trace(SYS_nanosleep, {At(&time), At(&time)}, -EINTR),
            "nanosleep({tv_sec=0, tv_nsec=1000}, {tv_sec=0, tv_nsec=1000}) = "
            "-1 EINTR (Interrupted system call)");
  EXPECT_EQ(Trace(SYS_pause, {}, kRestartNoHandler),
            "pause() = ? ERESTARTNOHAND (To be restarted if no handler)");
  EXPECT_EQ(Trace(SYS_exit_group, {3}, std::nullopt), "exit_group(3) = ?");
}

TEST(Trace, VectorsAndPolls) {
  char a[] = "abc";
  char b[] = "defghi";
  iovec vectors[2] = {{a, 3}, {b, 6}};
  EXPECT_EQ(Trace(SYS_writev, {1, At(vectors), 2}, 9),
            "writev(1, [{iov_base=\"abc\", iov_len=3}, {iov_base=\"defghi\", iov_len=6}], 2) = 9");
  EXPECT_EQ(Trace(SYS_readv, {1, At(vectors), 2}, 4),
            "readv(1, [{iov_base=\"abc\", iov_len=3}, {iov_base=\"d\", iov_len=6}], 2) = 4");
  pollfd polls[2] = {{3, POLLIN | POLLPRI, 0}, {4, POLLOUT, POLLOUT}};
  EXPECT_EQ(Trace(SYS_poll, {At(polls), 2, ~0ull}, 1),
            "poll([{fd=3, events=POLLIN|POLLPRI}, {fd=4, events=POLLOUT}], 2, -1) = "
            "1 ([{fd=4, revents=POLLOUT}])");
  EXPECT_EQ(Trace(SYS_poll, {At(polls), 0, 10}, 0), "poll([], 0, 10) = 0 (Timeout)");
  fd_set set;
  FD_ZERO(&set);
  FD_SET(3, &set);
  timeval time = {0, 1};
  EXPECT_EQ(Trace(SYS_select, {4, At(&set), 0, 0, At(&time)}, 1),
            "select(4, [3], NULL, NULL, {tv_sec=0, tv_usec=1}) = 1 (in [3])");
}

TEST(Trace, ArgumentsThatDependOnCommands) {
  EXPECT_EQ(Trace(SYS_fcntl, {3, F_GETFL, 7}, O_RDWR | O_APPEND),
            "fcntl(3, F_GETFL) = 0x402 (flags O_RDWR|O_APPEND)");
  EXPECT_EQ(Trace(SYS_fcntl, {3, F_SETFD, FD_CLOEXEC}, 0), "fcntl(3, F_SETFD, FD_CLOEXEC) = 0");
  EXPECT_EQ(Trace(SYS_fcntl, {3, F_DUPFD, 10}, 10), "fcntl(3, F_DUPFD, 10) = 10");
  EXPECT_EQ(Trace(SYS_ioctl, {1, 0x5413, kUnmapped}, -ENOTTY),
            "ioctl(1, TIOCGWINSZ, 0x10) = -1 ENOTTY (Inappropriate ioctl for device)");
  EXPECT_EQ(Trace(SYS_prctl, {15, At("worker"), 1, 2, 3}, 0), "prctl(PR_SET_NAME, \"worker\") = 0");
}

TEST(Trace, UnknownNumbersAndUnsupportedCalls) {
  EXPECT_EQ(Trace(0x1234, {1, 2, 3, 0, 0, 0}, -ENOSYS),
            "syscall_0x1234(0x1, 0x2, 0x3, 0, 0, 0) = -1 ENOSYS (Function not implemented)");
  EXPECT_EQ(Trace(SYS_getpid, {}, -4000), "getpid() = -1 (errno 4000)");
}

TEST(Trace, HostileMemoryIsReadWithinBounds) {
  // A string without an end, and arrays larger than any memory.
  std::string endless(1 << 16, 'x');
  std::string line = Trace(SYS_chdir, {At(endless.data())}, -ENAMETOOLONG);
  EXPECT_LT(line.size(), 4300u);
  EXPECT_THAT(line, HasSubstr("x\"..."));
  iovec vector = {const_cast<char*>(endless.data()), ~size_t{0}};
  for (uint64_t count : {uint64_t{1} << 31, ~uint64_t{0}}) {
    auto reader = [&vector](void* to, uint64_t from, size_t size) {
      // Everything readable, all vectors the same.
      if (size == sizeof(vector)) {
        memcpy(to, &vector, size);
      } else {
        memset(to, 0x41, size);
      }
      return from != 0;
    };
    for (size_t i = 0; i < SyscallCount(); ++i) {
      const SyscallRow& row = SyscallAt(i);
      CallArguments arguments = {count, count, count, count, count, count};
      TraceLine begun = BeginTraceLine(&row, arguments, reader);
      for (int64_t result : {int64_t{0}, int64_t{-1}, INT64_MAX, INT64_MIN}) {
        EXPECT_LT(EndTraceLine("", begun, row.number, arguments, result, reader).size(), 40000u);
      }
    }
  }
}

TEST(Trace, EveryKindInTheTableIsKnown) {
  // Kinds that depend on other arguments become others before they are shown.
  const std::set<absl::string_view> resolved = {
      "open_mode",     "mremap_addr", "fcntl_arg",  "ioctl_arg", "prctl_arg",    "futex_val",
      "futex_timeout", "futex_addr2", "futex_val3", "hidden",    "remaining_out"};
  const std::set<absl::string_view> results = {"",       "fd",    "addr", "hex",   "mode",
                                               "signal", "fcntl", "poll", "select"};
  auto zeros = [](void* to, uint64_t, size_t size) {
    memset(to, 0, size);
    return true;
  };
  CallArguments arguments = {1, 1, 1, 1, 1, 1};
  for (size_t i = 0; i < SyscallCount(); ++i) {
    std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(SyscallAt(i).arguments, absl::MaxSplits("=>", 1));
    EXPECT_TRUE(results.contains(parts.second)) << SyscallAt(i).name << ": " << parts.second;
    for (absl::string_view kind : absl::StrSplit(parts.first, ' ', absl::SkipEmpty())) {
      std::pair<absl::string_view, absl::string_view> name =
          absl::StrSplit(kind, absl::MaxSplits(':', 1));
      if (resolved.contains(name.first) || FormatScalar(name.first, 0).has_value()) continue;
      TraceValue value = {arguments, 0, 1, zeros};
      EXPECT_TRUE(FormatArray(name.first, name.second, value).has_value() ||
                  FormatStruct(name.first, value).has_value())
          << SyscallAt(i).name << ": " << kind;
    }
  }
}

TEST(Trace, Siginfo) {
  siginfo_t info = {};
  info.si_signo = SIGUSR1;
  info.si_code = SI_USER;
  info.si_pid = 1;
  EXPECT_EQ(FormatSiginfo(info), "{si_signo=SIGUSR1, si_code=SI_USER, si_pid=1, si_uid=0}");
  info.si_code = SI_QUEUE;
  info.si_value.sival_ptr = reinterpret_cast<void*>(7);
  EXPECT_EQ(FormatSiginfo(info),
            "{si_signo=SIGUSR1, si_code=SI_QUEUE, si_pid=1, si_uid=0, si_int=7, si_ptr=0x7}");
  info = {};
  info.si_signo = SIGSEGV;
  info.si_code = SEGV_MAPERR;
  info.si_addr = reinterpret_cast<void*>(8);
  EXPECT_EQ(FormatSiginfo(info), "{si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x8}");
  info.si_signo = SIGALRM;
  info.si_code = SI_KERNEL;
  EXPECT_EQ(FormatSiginfo(info), "{si_signo=SIGALRM, si_code=SI_KERNEL}");
  EXPECT_EQ(FormatSignal(32), "SIGRTMIN");
  EXPECT_EQ(FormatSignal(64), "SIGRT_32");
  EXPECT_EQ(FormatSignalSet(0), "[]");
  EXPECT_EQ(FormatSignalSet(~uint64_t{0}), "~[]");
}

TEST(Tracer, ChoosesCallsByName) {
  auto tracer = Tracer::Create("^open|stat$");
  ASSERT_TRUE(tracer.ok()) << tracer.status();
  EXPECT_TRUE((*tracer)->Wants(FindSyscall(SYS_openat)));
  EXPECT_TRUE((*tracer)->Wants(FindSyscall(SYS_fstat)));
  EXPECT_FALSE((*tracer)->Wants(FindSyscall(SYS_statfs)));
  EXPECT_FALSE((*tracer)->Wants(FindSyscall(SYS_read)));
  EXPECT_TRUE((*tracer)->Wants(nullptr));
  auto all = Tracer::Create("");
  ASSERT_TRUE(all.ok()) << all.status();
  for (size_t i = 0; i < SyscallCount(); ++i) EXPECT_TRUE((*all)->Wants(&SyscallAt(i)));
}

TEST(Tracer, BadExpressionsAreRefused) {
  absl::Status status = Tracer::Create("open(").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("open("));
  EXPECT_EQ(Tracer::Create("no_such_call").status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace km
