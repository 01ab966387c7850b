// Signals as text.
#include <signal.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "km/process/file_signals.h"
#include "km/signals/signal_set.h"
#include "km/syscalls/trace_format.h"

namespace km {
namespace {

// Without "SIG".
std::string ShortName(int sig) {
  if (sig == kFirstRealTimeSignal) return "RTMIN";
  if (sig > kFirstRealTimeSignal) return absl::StrCat("RT_", sig - kFirstRealTimeSignal);
  if (sig == SIGIO) return "IO";  // and not POLL
  const char* name = sigabbrev_np(sig);
  return name != nullptr ? name : absl::StrCat(sig);
}

struct CodeName {
  int code;
  const char* name;
};
#define KM_CODE(code) \
  CodeName { code, #code }

constexpr CodeName kAnyCodes[] = {
    KM_CODE(SI_USER),  KM_CODE(SI_KERNEL),  KM_CODE(SI_QUEUE), KM_CODE(SI_TIMER),
    KM_CODE(SI_MESGQ), KM_CODE(SI_ASYNCIO), KM_CODE(SI_SIGIO), KM_CODE(SI_TKILL),
};
constexpr CodeName kIllCodes[] = {
    KM_CODE(ILL_ILLOPC), KM_CODE(ILL_ILLOPN), KM_CODE(ILL_ILLADR), KM_CODE(ILL_ILLTRP),
    KM_CODE(ILL_PRVOPC), KM_CODE(ILL_PRVREG), KM_CODE(ILL_COPROC), KM_CODE(ILL_BADSTK),
};
constexpr CodeName kFpeCodes[] = {
    KM_CODE(FPE_INTDIV), KM_CODE(FPE_INTOVF), KM_CODE(FPE_FLTDIV), KM_CODE(FPE_FLTOVF),
    KM_CODE(FPE_FLTUND), KM_CODE(FPE_FLTRES), KM_CODE(FPE_FLTINV), KM_CODE(FPE_FLTSUB),
};
constexpr CodeName kSegvCodes[] = {KM_CODE(SEGV_MAPERR), KM_CODE(SEGV_ACCERR), KM_CODE(SEGV_BNDERR),
                                   KM_CODE(SEGV_PKUERR)};
constexpr CodeName kBusCodes[] = {KM_CODE(BUS_ADRALN), KM_CODE(BUS_ADRERR), KM_CODE(BUS_OBJERR),
                                  KM_CODE(BUS_MCEERR_AR), KM_CODE(BUS_MCEERR_AO)};
constexpr CodeName kTrapCodes[] = {KM_CODE(TRAP_BRKPT), KM_CODE(TRAP_TRACE), KM_CODE(TRAP_BRANCH),
                                   KM_CODE(TRAP_HWBKPT)};
constexpr CodeName kChildCodes[] = {KM_CODE(CLD_EXITED),  KM_CODE(CLD_KILLED),
                                    KM_CODE(CLD_DUMPED),  KM_CODE(CLD_TRAPPED),
                                    KM_CODE(CLD_STOPPED), KM_CODE(CLD_CONTINUED)};

constexpr CodeName kFileCodes[] = {KM_CODE(POLL_IN),  KM_CODE(POLL_OUT), KM_CODE(POLL_MSG),
                                   KM_CODE(POLL_ERR), KM_CODE(POLL_PRI), KM_CODE(POLL_HUP)};

absl::Span<const CodeName> CodesOf(int sig) {
  switch (sig) {
    case SIGILL:
      return kIllCodes;
    case SIGFPE:
      return kFpeCodes;
    case SIGSEGV:
      return kSegvCodes;
    case SIGBUS:
      return kBusCodes;
    case SIGTRAP:
      return kTrapCodes;
    case SIGCHLD:
      return kChildCodes;
    case SIGIO:
      return kFileCodes;
  }
  return {};
}

std::string CodeText(int sig, int code) {
  for (absl::Span<const CodeName> names : {absl::MakeConstSpan(kAnyCodes), CodesOf(sig)}) {
    for (const CodeName& known : names) {
      if (known.code == code) return known.name;
    }
  }
  return absl::StrCat(code);
}

bool IsFault(int sig) {
  return sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE || sig == SIGTRAP;
}

std::string ValueText(const siginfo_t& info) {
  return absl::StrCat(", si_int=", info.si_int,
                      ", si_ptr=", FormatAddress(reinterpret_cast<uint64_t>(info.si_ptr)));
}

std::string SenderText(const siginfo_t& info) {
  return absl::StrCat(", si_pid=", info.si_pid, ", si_uid=", info.si_uid);
}

// The part of the union that the code says is there.
std::string DetailText(const siginfo_t& info) {
  switch (info.si_code) {
    case SI_USER:
    case SI_TKILL:
      return SenderText(info);
    case SI_TIMER:
      return absl::StrCat(", si_timerid=", info.si_timerid, ", si_overrun=", info.si_overrun,
                          ValueText(info));
  }
  if (TellsOfFile(info.si_signo, info.si_code)) {
    return absl::StrCat(", si_band=", info.si_band, ", si_fd=", info.si_fd);
  }
  if (info.si_code < 0) return SenderText(info) + ValueText(info);
  if (IsFault(info.si_signo)) {
    return absl::StrCat(", si_addr=", FormatAddress(reinterpret_cast<uint64_t>(info.si_addr)));
  }
  if (info.si_signo == SIGCHLD) {
    std::string status =
        info.si_code == CLD_EXITED ? absl::StrCat(info.si_status) : FormatSignal(info.si_status);
    return absl::StrCat(SenderText(info), ", si_status=", status, ", si_utime=", info.si_utime,
                        ", si_stime=", info.si_stime);
  }
  return "";
}

}  // namespace

std::string FormatSignal(int sig) {
  return ValidSignal(sig) ? absl::StrCat("SIG", ShortName(sig)) : absl::StrCat(sig);
}

std::string FormatSignalSet(uint64_t set) {
  // As strace: the shorter form, by its own measure.
  bool inverted = __builtin_popcountll(set) >= kMaxSignal * 2 / 3;
  std::vector<std::string> names;
  for (int sig = 1; sig <= kMaxSignal; ++sig) {
    if (Contains(set, sig) != inverted) names.push_back(ShortName(sig));
  }
  return absl::StrCat(inverted ? "~[" : "[", absl::StrJoin(names, " "), "]");
}

std::string FormatSiginfo(const siginfo_t& info) {
  return absl::StrCat("{si_signo=", FormatSignal(info.si_signo),
                      ", si_code=", CodeText(info.si_signo, info.si_code), DetailText(info), "}");
}

}  // namespace km
