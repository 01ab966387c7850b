#include "tools/kmctl/names.h"

#include <fcntl.h>
#include <km/hypercall.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <iterator>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace km {
namespace {

struct Flag {
  uint64_t bit;
  const char* name;
};

constexpr int kFirstRealTimeSignal = 32;  // the kernel's; libc keeps two for itself. As in strace

struct SystemCall {
  uint64_t number;
  const char* name;
};
#define KM_SYSCALL(number, name, handler, support, arguments, caveat) {number, #name},
constexpr SystemCall kSystemCalls[] = {
#include "km/syscalls/table.def"
};
#undef KM_SYSCALL

// The names of the bits that are set, and the rest as a number.
std::string FlagsText(uint64_t flags, absl::Span<const Flag> names) {
  std::vector<std::string> parts;
  for (const Flag& flag : names) {
    if ((flags & flag.bit) != flag.bit) continue;
    parts.push_back(flag.name);
    flags &= ~flag.bit;
  }
  if (flags != 0) parts.push_back(HexText(flags));
  return absl::StrJoin(parts, "|");
}

}  // namespace

std::string SignalName(int number) {
  if (number == kFirstRealTimeSignal) return "SIGRTMIN";
  if (number > kFirstRealTimeSignal && number <= 64) {
    return absl::StrCat("SIGRT_", number - kFirstRealTimeSignal);
  }
  const char* name = sigabbrev_np(number);
  return name == nullptr ? absl::StrCat("signal ", number) : absl::StrCat("SIG", name);
}

std::vector<std::string> SignalNames(uint64_t mask) {
  std::vector<std::string> names;
  for (int number = 1; number <= 64; ++number) {
    if ((mask >> (number - 1) & 1) != 0) names.push_back(SignalName(number));
  }
  return names;
}

std::string SyscallName(uint64_t number) {
  for (const SystemCall& call : kSystemCalls) {
    if (call.number == number) return call.name;
  }
  return absl::StrCat("system call ", number);
}

std::string ProtectionText(uint32_t protection) {
  return {(protection & PROT_READ) != 0 ? 'r' : '-', (protection & PROT_WRITE) != 0 ? 'w' : '-',
          (protection & PROT_EXEC) != 0 ? 'x' : '-'};
}

std::string OpenFlagsText(uint32_t flags) {
  // Flags that contain others come first.
  static constexpr Flag kFlags[] = {
      {O_SYNC, "O_SYNC"},         {O_DSYNC, "O_DSYNC"},     {O_APPEND, "O_APPEND"},
      {O_NONBLOCK, "O_NONBLOCK"}, {O_DIRECT, "O_DIRECT"},   {O_DIRECTORY, "O_DIRECTORY"},
      {O_NOFOLLOW, "O_NOFOLLOW"}, {O_NOATIME, "O_NOATIME"}, {0100000, "O_LARGEFILE"},
      {O_PATH, "O_PATH"},         {O_CLOEXEC, "O_CLOEXEC"}, {O_NOCTTY, "O_NOCTTY"},
      {O_ASYNC, "O_ASYNC"}};
  static constexpr const char* kAccess[] = {"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"};
  const std::string others = FlagsText(flags & ~uint32_t{O_ACCMODE}, kFlags);
  return absl::StrCat(kAccess[flags & O_ACCMODE], others.empty() ? "" : "|", others);
}

std::string ActionFlagsText(uint64_t flags) {
  static constexpr Flag kFlags[] = {{SA_SIGINFO, "SA_SIGINFO"},     {SA_ONSTACK, "SA_ONSTACK"},
                                    {SA_RESTART, "SA_RESTART"},     {SA_NODEFER, "SA_NODEFER"},
                                    {SA_RESETHAND, "SA_RESETHAND"}, {SA_NOCLDSTOP, "SA_NOCLDSTOP"},
                                    {SA_NOCLDWAIT, "SA_NOCLDWAIT"}, {0x04000000, "SA_RESTORER"}};
  return FlagsText(flags, kFlags);
}

std::string SizeText(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string DurationText(int64_t nanoseconds) {
  return absl::StrFormat("%.3f s", static_cast<double>(nanoseconds) / 1e9);
}

std::string UptimeText(uint64_t nanoseconds) {
  const uint64_t seconds = nanoseconds / 1000000000;
  if (seconds < 60) return absl::StrCat(seconds, "s");
  if (seconds < 3600) return absl::StrFormat("%dm%02ds", seconds / 60, seconds % 60);
  return absl::StrFormat("%dh%02dm", seconds / 3600, seconds / 60 % 60);
}

std::string TimeText(int64_t realtime_ns) {
  constexpr int64_t kSecond = 1000000000;
  int64_t fraction = realtime_ns % kSecond;
  if (fraction < 0) fraction += kSecond;
  const time_t seconds = (realtime_ns - fraction) / kSecond;
  struct tm parts = {};
  gmtime_r(&seconds, &parts);
  return absl::StrFormat("%04d-%02d-%02d %02d:%02d:%02d.%03d UTC", parts.tm_year + 1900,
                         parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                         fraction / 1000000);
}

std::string HexText(uint64_t value) { return absl::StrFormat("0x%x", value); }

std::string BytesText(absl::Span<const uint8_t> bytes) {
  return absl::BytesToHexString({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

std::vector<std::string> XsaveComponentNames(uint64_t xcr0) {
  // Intel SDM, volume 1, 13.1.
  constexpr const char* kNames[] = {"x87",    "sse",       "avx",      "bndregs",  "bndcsr",
                                    "opmask", "zmm_hi256", "hi16_zmm", "pt",       "pkru",
                                    "pasid",  "cet_u",     "cet_s",    "hdc",      "uintr",
                                    "lbr",    "hwp",       "tilecfg",  "tiledata", "apx"};
  std::vector<std::string> names;
  for (size_t bit = 0; bit < 64; ++bit) {
    if ((xcr0 >> bit & 1) == 0) continue;
    names.push_back(bit < std::size(kNames) ? kNames[bit] : absl::StrCat("bit ", bit));
  }
  return names;
}

std::string Printable(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      absl::StrAppendFormat(&result, "\\x%02x", byte);
    } else {
      result += c;
    }
  }
  return result;
}

}  // namespace km
