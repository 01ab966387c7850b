// Attributes of threads and of the process. Source: prctl(2), arch_prctl(2), personality(2),
// kernel/sys.c, arch/x86/kernel/process_64.c.
#include <asm/prctl.h>
#include <linux/prctl.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "km/syscalls/handlers.h"
#include "km/syscalls/host.h"
#include "km/syscalls/self_call.h"

namespace km {
namespace {

// Newer than Debian 12's linux/prctl.h and asm/prctl.h.
constexpr int kPrSetMemoryMerge = 67, kPrGetMemoryMerge = 68, kPrGetAuxv = 0x41555856;
constexpr int kArchGetUntagMask = 0x4001, kArchGetMaxTagBits = 0x4003;
constexpr uint64_t kAmxTileData = 18;  // the one component that is had on request

enum class Option {
  kProcess,         // of the process, and so of the monitor: the host's, as it is
  kThread,          // of the thread
  kCredential,      // of the thread, and the main thread follows
  kProcessPointer,  // argument 1 is where an int is stored
};

struct HostOption {
  int number;
  Option option;
};

// Served by the host. What is not here, nor in Prctl, answers EINVAL, as in a kernel that does not
// know it: of other processors (unaligned accesses, endianness, FPU emulation, pointer
// authentication, ...), or of no use to a thread whose instructions the host does not see (system
// call dispatch, core scheduling, seccomp).
constexpr HostOption kHostOptions[] = {
    {PR_SET_PDEATHSIG, Option::kThread},
    {PR_GET_PDEATHSIG, Option::kProcessPointer},
    {PR_GET_DUMPABLE, Option::kProcess},
    {PR_SET_DUMPABLE, Option::kProcess},
    {PR_GET_KEEPCAPS, Option::kProcess},
    {PR_SET_KEEPCAPS, Option::kCredential},
    {PR_GET_TIMING, Option::kProcess},
    {PR_SET_TIMING, Option::kProcess},
    {PR_GET_SECCOMP, Option::kProcess},
    {PR_CAPBSET_READ, Option::kProcess},
    {PR_CAPBSET_DROP, Option::kCredential},
    {PR_GET_SECUREBITS, Option::kProcess},
    {PR_SET_SECUREBITS, Option::kCredential},
    {PR_SET_TIMERSLACK, Option::kThread},
    {PR_GET_TIMERSLACK, Option::kProcess},
    {PR_TASK_PERF_EVENTS_DISABLE, Option::kProcess},
    {PR_TASK_PERF_EVENTS_ENABLE, Option::kProcess},
    {PR_MCE_KILL, Option::kThread},
    {PR_MCE_KILL_GET, Option::kProcess},
    {PR_SET_CHILD_SUBREAPER, Option::kProcess},
    {PR_GET_CHILD_SUBREAPER, Option::kProcessPointer},
    {PR_SET_NO_NEW_PRIVS, Option::kCredential},
    {PR_GET_NO_NEW_PRIVS, Option::kProcess},
    {PR_GET_THP_DISABLE, Option::kProcess},
    {PR_SET_THP_DISABLE, Option::kProcess},
    {PR_CAP_AMBIENT, Option::kCredential},
    {PR_SET_IO_FLUSHER, Option::kThread},
    {PR_GET_IO_FLUSHER, Option::kProcess},
    {kPrSetMemoryMerge, Option::kProcess},
    {kPrGetMemoryMerge, Option::kProcess},
};

SyscallResult MakeHostPrctl(Call& call, const HostOption& option) {
  std::array<uint64_t, 5> arguments;
  std::copy_n(call.arguments.begin(), arguments.size(), arguments.begin());
  switch (option.option) {
    case Option::kThread:
      return SelfCall(call, SYS_prctl, arguments, Follow::kNot);
    case Option::kCredential:
      return SelfCall(call, SYS_prctl, arguments, Follow::kFirstThread);
    case Option::kProcessPointer:
      arguments[1] = call.HostArg(1, sizeof(int));
      break;
    case Option::kProcess:
      break;
  }
  return HostResult(
      syscall(SYS_prctl, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]));
}

// What the program has set itself a snapshot carries.
SyscallResult HostPrctl(Call& call, const HostOption& option) {
  if (option.number == PR_SET_DUMPABLE) call.process.KeepPagemap();
  SyscallResult result = MakeHostPrctl(call, option);
  std::optional<Setting> setting = SettingOfPrctl(option.number);
  if (result.value == 0 && setting.has_value()) call.process.changed_settings().Note(*setting);
  return result;
}

int64_t SetName(Call& call) {
  constexpr size_t kSize = 16;
  std::string text;
  int error = call.memory().CopyInString(&text, call.Addr(1), kSize);
  if (error == -EFAULT) return error;
  call.process.SetComm(call.thread.tid, text.substr(0, kSize - 1));
  return 0;
}

int64_t GetName(Call& call) {
  char name[16] = {};
  call.process.Comm(call.thread.tid).copy(name, sizeof(name) - 1);
  return call.memory().CopyOut(call.Addr(1), name);
}

int64_t GetAuxv(Call& call) {
  if (call.arguments[3] != 0 || call.arguments[4] != 0) return -EINVAL;
  const std::vector<uint64_t>& auxv = call.process.identity().auxv;
  uint64_t size = auxv.size() * sizeof(auxv[0]);
  int error = call.memory().CopyOut(call.Addr(1), auxv.data(), std::min(size, call.arguments[2]));
  return error != 0 ? error : static_cast<int64_t>(size);
}

// The program names a process that may trace it, which is to say the monitor.
int64_t SetPtracer(Call& call) {
  uint64_t pid = call.arguments[1];
  bool own =
      pid == call.process.identity().pid || call.process.FindCompanion(call.Uint(1)) != nullptr;
  return HostResult(syscall(SYS_prctl, PR_SET_PTRACER, own ? getpid() : pid, 0, 0, 0));
}

// RDTSC is not taken from a thread: only what is so anyway.
int64_t SetTsc(Call& call) { return call.arguments[1] == PR_TSC_ENABLE ? 0 : -EINVAL; }

int64_t SetBase(Call& call, Vcpu::Base base) {
  if (call.arguments[1] >= call.memory().end()) return -EPERM;
  return call.thread.vcpu->WriteBase(base, call.arguments[1]).ok() ? 0 : -EINVAL;
}

int64_t GetBase(Call& call, uint64_t Registers::*base) {
  if (!call.thread.vcpu->ReadBases(call.thread.registers).ok()) return -EINVAL;
  return call.memory().CopyOut(call.Addr(1), call.thread.registers.*base);
}

}  // namespace

SyscallResult Prctl(Call& call) {
  int number = call.Int(0);
  // A process beside the program ends with it in any case.
  if (number == PR_SET_PDEATHSIG && call.thread.companion != nullptr) {
    return call.arguments[1] == 0 || ValidSignal(call.Int(1)) ? 0 : -EINVAL;
  }
  auto known = std::find_if(std::begin(kHostOptions), std::end(kHostOptions),
                            [number](const HostOption& o) { return o.number == number; });
  if (known != std::end(kHostOptions)) return HostPrctl(call, *known);
  switch (number) {
    case PR_SET_NAME:
      return SetName(call);
    case PR_GET_NAME:
      return GetName(call);
    case PR_GET_TID_ADDRESS:
      return call.memory().CopyOut(call.Addr(1), call.thread.clear_child_tid.value());
    case kPrGetAuxv:
      return GetAuxv(call);
    case PR_SET_PTRACER:
      return SetPtracer(call);
    case PR_SET_VMA:
      return PrctlSetVma(call);
    case PR_GET_TSC:
      return call.memory().CopyOut(call.Addr(1), int{PR_TSC_ENABLE});
    case PR_SET_TSC:
      return SetTsc(call);
    case PR_SET_MM:
      return -EPERM;
    case PR_GET_SPECULATION_CTRL:
    case PR_SET_SPECULATION_CTRL:
      return -ENODEV;
    default:
      return -EINVAL;
  }
}

SyscallResult ArchPrctl(Call& call) {
  switch (call.Int(0)) {
    case ARCH_SET_FS:
      return SetBase(call, Vcpu::Base::kFs);
    case ARCH_SET_GS:
      return SetBase(call, Vcpu::Base::kGs);
    case ARCH_GET_FS:
      return GetBase(call, &Registers::fs_base);
    case ARCH_GET_GS:
      return GetBase(call, &Registers::gs_base);
    case ARCH_GET_CPUID:
      return 1;
    case ARCH_SET_CPUID:
      return -ENODEV;
    // The machine has what it has: there is nothing left to permit.
    case ARCH_GET_XCOMP_SUPP:
    case ARCH_GET_XCOMP_PERM:
      return call.memory().CopyOut(call.Addr(1), call.process.xcr0());
    case ARCH_REQ_XCOMP_PERM:
      if (call.arguments[1] > kAmxTileData) return -EINVAL;
      return (call.process.xcr0() >> kAmxTileData & 1) && call.arguments[1] == kAmxTileData
                 ? 0
                 : -EOPNOTSUPP;
    case kArchGetUntagMask:
      return call.memory().CopyOut(call.Addr(1), ~uint64_t{0});
    case kArchGetMaxTagBits:
      return call.memory().CopyOut(call.Addr(1), uint64_t{0});
    default:
      return -EINVAL;
  }
}

// READ_IMPLIES_EXEC would change the monitor's own mappings. All else acts at an exec, or on calls
// that the host serves.
SyscallResult Personality(Call& call) {
  constexpr uint32_t kQuery = 0xffffffff;
  uint32_t wanted = call.Uint(0);
  if (wanted == kQuery) return HostResult(syscall(SYS_personality, kQuery));
  if (wanted & READ_IMPLIES_EXEC) return -EINVAL;
  call.process.changed_settings().Note(Setting::kPersonality);
  return SelfCall(call, SYS_personality, {wanted, 0, 0, 0, 0}, Follow::kFirstThread);
}

}  // namespace km
