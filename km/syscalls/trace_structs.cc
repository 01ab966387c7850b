// Structures of the program as text. The host's own structures are the program's: both are x86-64.
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "km/signals/actions.h"
#include "km/syscalls/trace_format.h"

namespace km {
namespace {

std::string Names(absl::string_view kind, uint64_t value) {
  return FormatScalar(kind, value).value_or("");
}

std::string ModeText(uint32_t mode) {
  const char* type = S_ISREG(mode)    ? "S_IFREG"
                     : S_ISDIR(mode)  ? "S_IFDIR"
                     : S_ISCHR(mode)  ? "S_IFCHR"
                     : S_ISBLK(mode)  ? "S_IFBLK"
                     : S_ISFIFO(mode) ? "S_IFIFO"
                     : S_ISSOCK(mode) ? "S_IFSOCK"
                     : S_ISLNK(mode)  ? "S_IFLNK"
                                      : nullptr;
  std::string rights = absl::StrFormat("%#03o", mode & 07777);
  return type != nullptr ? absl::StrCat(type, "|", rights) : absl::StrFormat("%#o", mode);
}

std::string Text(const struct stat& s) {
  std::string size =
      S_ISCHR(s.st_mode) || S_ISBLK(s.st_mode)
          ? absl::StrFormat("st_rdev=makedev(%#x, %#x)", major(s.st_rdev), minor(s.st_rdev))
          : absl::StrCat("st_size=", s.st_size);
  return absl::StrCat("{st_mode=", ModeText(s.st_mode), ", ", size, ", ...}");
}

std::string Text(const struct statx& s) {
  return absl::StrCat("{stx_mask=", Names("statx_mask", s.stx_mask),
                      ", stx_mode=", ModeText(s.stx_mode), ", stx_size=", s.stx_size, ", ...}");
}

std::string Text(const struct statfs& s) {
  return absl::StrFormat("{f_type=%#x, f_bsize=%d, f_blocks=%u, f_bfree=%u, f_bavail=%u, ...}",
                         s.f_type, s.f_bsize, s.f_blocks, s.f_bfree, s.f_bavail);
}

std::string Text(const timespec& t) {
  if (t.tv_nsec == UTIME_NOW) return "UTIME_NOW";
  if (t.tv_nsec == UTIME_OMIT) return "UTIME_OMIT";
  return absl::StrCat("{tv_sec=", t.tv_sec, ", tv_nsec=", t.tv_nsec, "}");
}

std::string Text(const timeval& t) {
  return absl::StrCat("{tv_sec=", t.tv_sec, ", tv_usec=", t.tv_usec, "}");
}

std::string Text(const itimerval& t) {
  return absl::StrCat("{it_interval=", Text(t.it_interval), ", it_value=", Text(t.it_value), "}");
}

std::string Text(const itimerspec& t) {
  return absl::StrCat("{it_interval=", Text(t.it_interval), ", it_value=", Text(t.it_value), "}");
}

struct FilePairTimes {
  timespec access;
  timespec change;
};
std::string Text(const FilePairTimes& t) {
  return absl::StrCat("[", Text(t.access), ", ", Text(t.change), "]");
}

struct FilePairTimevals {
  timeval access;
  timeval change;
};
std::string Text(const FilePairTimevals& t) {
  return absl::StrCat("[", Text(t.access), ", ", Text(t.change), "]");
}

std::string Text(const SignalAction& a) {
  std::string handler = a.is_default()  ? "SIG_DFL"
                        : a.is_ignore() ? "SIG_IGN"
                                        : FormatAddress(a.handler);
  std::string restorer = (a.flags & kSaRestorer) != 0
                             ? absl::StrCat(", sa_restorer=", FormatAddress(a.restorer))
                             : std::string();
  return absl::StrCat("{sa_handler=", handler, ", sa_mask=", FormatSignalSet(a.mask),
                      ", sa_flags=", Names("sigaction_flags", a.flags), restorer, "}");
}

struct MaskOnly {
  uint64_t mask;
};
std::string Text(const MaskOnly& set) { return FormatSignalSet(set.mask); }

// The sixth argument of pselect6(2).
struct MaskArgument {
  uint64_t address;
  uint64_t size;
};
std::string Text(const MaskArgument& a) {
  return absl::StrCat("{sigmask=", FormatAddress(a.address), ", sigsetsize=", a.size, "}");
}

std::string Text(const siginfo_t& info) { return FormatSiginfo(info); }

std::string Text(const stack_t& s) {
  return absl::StrCat("{ss_sp=", FormatAddress(reinterpret_cast<uint64_t>(s.ss_sp)),
                      ", ss_flags=", Names("altstack_flags", static_cast<uint32_t>(s.ss_flags)),
                      ", ss_size=", s.ss_size, "}");
}

std::string LimitText(rlim_t limit) {
  if (limit == RLIM_INFINITY) return "RLIM64_INFINITY";
  return limit != 0 && limit % 1024 == 0 ? absl::StrCat(limit / 1024, "*1024")
                                         : absl::StrCat(limit);
}
std::string Text(const rlimit& l) {
  return absl::StrCat("{rlim_cur=", LimitText(l.rlim_cur), ", rlim_max=", LimitText(l.rlim_max),
                      "}");
}

struct FdPair {
  int first;
  int second;
};
std::string Text(const FdPair& p) { return absl::StrCat("[", p.first, ", ", p.second, "]"); }

struct OneInt {
  int value;
};
std::string Text(const OneInt& n) { return absl::StrCat("[", n.value, "]"); }

struct OneLong {
  int64_t value;
};
std::string Text(const OneLong& n) { return absl::StrCat("[", n.value, "]"); }

std::string Text(const utsname& u) {
  auto field = [](const char* text, size_t size) {
    return QuoteBytes(absl::string_view(text, strnlen(text, size)));
  };
  return absl::StrCat("{sysname=", field(u.sysname, sizeof(u.sysname)),
                      ", nodename=", field(u.nodename, sizeof(u.nodename)),
                      ", release=", field(u.release, sizeof(u.release)), ", ...}");
}

std::string Text(const struct sysinfo& s) {
  return absl::StrFormat("{uptime=%d, totalram=%u, freeram=%u, procs=%u, mem_unit=%u, ...}",
                         s.uptime, s.totalram, s.freeram, s.procs, s.mem_unit);
}

std::string Text(const tms& t) {
  return absl::StrFormat("{tms_utime=%d, tms_stime=%d, tms_cutime=%d, tms_cstime=%d}", t.tms_utime,
                         t.tms_stime, t.tms_cutime, t.tms_cstime);
}

std::string Text(const rusage& r) {
  return absl::StrCat("{ru_utime=", Text(r.ru_utime), ", ru_stime=", Text(r.ru_stime), ", ...}");
}

std::string Text(const clone_args& c) {
  return absl::StrCat(
      "{flags=", Names("clone_flags", c.flags), ", child_tid=", FormatAddress(c.child_tid),
      ", parent_tid=", FormatAddress(c.parent_tid),
      ", exit_signal=", c.exit_signal == 0 ? "0" : FormatSignal(static_cast<int>(c.exit_signal)),
      ", stack=", FormatAddress(c.stack), absl::StrFormat(", stack_size=%#x", c.stack_size),
      ", tls=", FormatAddress(c.tls), "}");
}

std::string Text(const epoll_event& e) {
  uint64_t data = e.data.u64;
  return absl::StrFormat("{events=%s, data={u32=%u, u64=%u}}", Names("epoll_events", e.events),
                         static_cast<uint32_t>(data), data);
}

std::string Text(const winsize& w) {
  return absl::StrCat("{ws_row=", w.ws_row, ", ws_col=", w.ws_col, ", ws_xpixel=", w.ws_xpixel,
                      ", ws_ypixel=", w.ws_ypixel, "}");
}

std::string Text(const struct flock& f) {
  return absl::StrCat("{l_type=", Names("lock_type", static_cast<uint16_t>(f.l_type)),
                      ", l_whence=", Names("whence", static_cast<uint16_t>(f.l_whence)),
                      ", l_start=", f.l_start, ", l_len=", f.l_len, "}");
}

std::string Text(const open_how& how) {
  std::string mode = how.mode != 0 ? absl::StrFormat(", mode=%#03o", how.mode) : "";
  return absl::StrCat("{flags=", Names("open_flags", how.flags), mode,
                      ", resolve=", how.resolve == 0 ? "0" : Names("resolve_flags", how.resolve),
                      "}");
}

std::string Text(const iocb& i) {
  std::string text =
      absl::StrFormat("{aio_data=%#x, aio_lio_opcode=%s, aio_fildes=%d", i.aio_data,
                      Names("aio_opcode", i.aio_lio_opcode), static_cast<int>(i.aio_fildes));
  if (i.aio_lio_opcode == IOCB_CMD_POLL) {
    absl::StrAppend(&text, ", aio_buf=", Names("poll_events", i.aio_buf));
  } else if (i.aio_lio_opcode != IOCB_CMD_FSYNC && i.aio_lio_opcode != IOCB_CMD_FDSYNC) {
    absl::StrAppend(&text, ", aio_buf=", FormatAddress(i.aio_buf), ", aio_nbytes=", i.aio_nbytes,
                    ", aio_offset=", i.aio_offset);
  }
  if (i.aio_flags & IOCB_FLAG_RESFD) absl::StrAppend(&text, ", aio_resfd=", i.aio_resfd);
  return text + "}";
}

// wait(2)'s.
struct WaitStatus {
  int value;
};
std::string Text(const WaitStatus& status) {
  const int s = status.value;
  if (WIFEXITED(s)) {
    return absl::StrFormat("[{WIFEXITED(s) && WEXITSTATUS(s) == %d}]", WEXITSTATUS(s));
  }
  if (WIFSTOPPED(s)) {
    return absl::StrCat("[{WIFSTOPPED(s) && WSTOPSIG(s) == ", FormatSignal(WSTOPSIG(s)), "}]");
  }
  if (WIFSIGNALED(s)) {
    return absl::StrCat("[{WIFSIGNALED(s) && WTERMSIG(s) == ", FormatSignal(WTERMSIG(s)),
                        WCOREDUMP(s) ? " && WCOREDUMP(s)}]" : "}]");
  }
  return WIFCONTINUED(s) ? "[{WIFCONTINUED(s)}]" : absl::StrFormat("[%#x]", s);
}

struct OneAddress {
  uint64_t value;
};
std::string Text(const OneAddress& a) { return absl::StrCat("[", FormatAddress(a.value), "]"); }

// struct file_handle without its bytes, and struct cachestat_range and struct cachestat, which not
// all headers have.
struct HandleHead {
  uint32_t bytes;
  int32_t type;
};
std::string Text(const HandleHead& h) {
  return absl::StrFormat("{handle_bytes=%u, handle_type=%#x, ...}", h.bytes, h.type);
}

struct CachestatRange {
  uint64_t start, length;
};
std::string Text(const CachestatRange& r) {
  return absl::StrFormat("{off=%u, len=%u}", r.start, r.length);
}

struct Cachestat {
  uint64_t cached, dirty, writeback, evicted, recently_evicted;
};
std::string Text(const Cachestat& c) {
  return absl::StrFormat(
      "{nr_cache=%u, nr_dirty=%u, nr_writeback=%u, nr_evicted=%u, nr_recently_evicted=%u}",
      c.cached, c.dirty, c.writeback, c.evicted, c.recently_evicted);
}

std::string Text(const f_owner_ex& o) {
  return absl::StrCat("{type=", Names("owner_type", static_cast<uint32_t>(o.type)), ", pid=", o.pid,
                      "}");
}

template <typename T>
std::optional<std::string> ReadText(const TraceValue& value) {
  T object;
  if (!value.Get(&object)) return std::nullopt;
  return Text(object);
}

// The kind is NAME_in or NAME_out.
struct StructKind {
  absl::string_view name;
  std::optional<std::string> (*text)(const TraceValue& value);
};

constexpr StructKind kStructs[] = {
    {"stat", ReadText<struct stat>},
    {"statx", ReadText<struct statx>},
    {"statfs", ReadText<struct statfs>},
    {"timespec", ReadText<timespec>},
    {"timeval", ReadText<timeval>},
    {"itimerval", ReadText<itimerval>},
    {"itimerspec", ReadText<itimerspec>},
    {"timespecs", ReadText<FilePairTimes>},
    {"timevals", ReadText<FilePairTimevals>},
    {"sigaction", ReadText<SignalAction>},
    {"sigset", ReadText<MaskOnly>},
    {"sigset_arg", ReadText<MaskArgument>},
    {"siginfo", ReadText<siginfo_t>},
    {"altstack", ReadText<stack_t>},
    {"rlimit", ReadText<rlimit>},
    {"fd_pair", ReadText<FdPair>},
    {"int", ReadText<OneInt>},
    {"long", ReadText<OneLong>},
    {"wait_status", ReadText<WaitStatus>},
    {"utsname", ReadText<utsname>},
    {"sysinfo", ReadText<struct sysinfo>},
    {"tms", ReadText<tms>},
    {"rusage", ReadText<rusage>},
    {"clone_args", ReadText<clone_args>},
    {"epoll_event", ReadText<epoll_event>},
    {"winsize", ReadText<winsize>},
    {"flock", ReadText<struct flock>},
    {"iocb", ReadText<iocb>},
    {"address", ReadText<OneAddress>},
    {"open_how", ReadText<open_how>},
    {"file_handle", ReadText<HandleHead>},
    {"cachestat_range", ReadText<CachestatRange>},
    {"cachestat", ReadText<Cachestat>},
    {"f_owner", ReadText<f_owner_ex>},
};

}  // namespace

std::optional<std::string> FormatStruct(absl::string_view kind, const TraceValue& value) {
  absl::string_view name = kind.substr(0, kind.rfind('_'));
  for (const StructKind& known : kStructs) {
    if (known.name == name) return known.text(value);
  }
  return std::nullopt;
}

}  // namespace km
