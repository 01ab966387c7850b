#include "km/process/settings.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "km/base/host_files.h"
#include "km/base/log.h"
#include "km/base/owned.h"
#include "km/base/status.h"
#include "km/memory/address_space.h"

namespace km {
namespace {

constexpr int kPrSetMemoryMerge = 67, kPrGetMemoryMerge = 68;  // newer than Debian 12's header
constexpr uint32_t kPolicyDeadline = 6;
constexpr int kIoprioProcess = 1;        // linux/ioprio.h, which C++ does not take
constexpr uint64_t kUtilClamp = 0x60;    // SCHED_FLAG_UTIL_CLAMP_MIN and _MAX
constexpr uint32_t kMostUtil = 1024;     // SCHED_CAPACITY_SCALE
constexpr size_t kProcessorWords = 128;  // more than CONFIG_NR_CPUS allows
constexpr uint32_t kQueryPersonality = 0xffffffff;

// One row for each number that prctl(2) keeps.
struct PrctlRow {
  Setting setting;
  int set;
  const char* name;
  bool of_thread;
  bool followed;  // by the main thread, when the first thread has it
  int get;
  bool by_pointer;  // the value is stored where argument 1 points
};

constexpr PrctlRow kRows[] = {
    {Setting::kDeathSignal, PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG", true, false, PR_GET_PDEATHSIG,
     true},
    {Setting::kTimerSlack, PR_SET_TIMERSLACK, "PR_SET_TIMERSLACK", true, false, PR_GET_TIMERSLACK,
     false},
    {Setting::kMachineChecks, PR_MCE_KILL, "PR_MCE_KILL", true, false, PR_MCE_KILL_GET, false},
    {Setting::kNoNewPrivileges, PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS", true, true,
     PR_GET_NO_NEW_PRIVS, false},
    {Setting::kSecureBits, PR_SET_SECUREBITS, "PR_SET_SECUREBITS", true, true, PR_GET_SECUREBITS,
     false},
    {Setting::kIoFlusher, PR_SET_IO_FLUSHER, "PR_SET_IO_FLUSHER", true, false, PR_GET_IO_FLUSHER,
     false},
    {Setting::kDumpable, PR_SET_DUMPABLE, "PR_SET_DUMPABLE", false, false, PR_GET_DUMPABLE, false},
    {Setting::kSubreaper, PR_SET_CHILD_SUBREAPER, "PR_SET_CHILD_SUBREAPER", false, false,
     PR_GET_CHILD_SUBREAPER, true},
    {Setting::kHugePages, PR_SET_THP_DISABLE, "PR_SET_THP_DISABLE", false, false,
     PR_GET_THP_DISABLE, false},
    {Setting::kMemoryMerge, kPrSetMemoryMerge, "PR_SET_MEMORY_MERGE", false, false,
     kPrGetMemoryMerge, false},
};

const PrctlRow* RowOf(uint32_t option) {
  auto row = std::find_if(std::begin(kRows), std::end(kRows), [option](const PrctlRow& r) {
    return static_cast<uint32_t>(r.set) == option;
  });
  return row != std::end(kRows) ? row : nullptr;
}

std::optional<PrctlSetting> Read(const PrctlRow& row) {
  int stored = 0;
  long value = row.by_pointer ? syscall(SYS_prctl, row.get, &stored, 0, 0, 0)
                              : syscall(SYS_prctl, row.get, 0, 0, 0, 0);
  if (value < 0) return std::nullopt;
  if (row.by_pointer) value = stored;
  return PrctlSetting{static_cast<uint32_t>(row.set), static_cast<uint64_t>(value)};
}

// The whole of the secure bits needs CAP_SETPCAP; the one that PR_SET_KEEPCAPS sets does not.
long SetSecureBits(uint64_t wanted) {
  constexpr uint64_t kKeepCaps = issecure_mask(SECURE_KEEP_CAPS);
  long now = syscall(SYS_prctl, PR_GET_SECUREBITS, 0, 0, 0, 0);
  if (now < 0) return now;
  if (static_cast<uint64_t>(now) == wanted) return 0;
  if ((static_cast<uint64_t>(now) ^ wanted) == kKeepCaps) {
    return syscall(SYS_prctl, PR_SET_KEEPCAPS, (wanted & kKeepCaps) != 0 ? 1 : 0, 0, 0, 0);
  }
  return syscall(SYS_prctl, PR_SET_SECUREBITS, wanted, 0, 0, 0);
}

// What is so already is not set: that may need a privilege, or be refused for what it is.
long Write(const PrctlRow& row, uint64_t value) {
  std::optional<PrctlSetting> now = Read(row);
  if (now.has_value() && now->value == value) return 0;
  switch (row.set) {
    case PR_SET_SECUREBITS:
      return SetSecureBits(value);
    case PR_MCE_KILL:
      return syscall(SYS_prctl, PR_MCE_KILL, PR_MCE_KILL_SET, value, 0, 0);
    case PR_SET_DUMPABLE:  // what the kernel makes of a change of users may not be set: 2, as good
                           // as 0
      return syscall(SYS_prctl, row.set, value == 1 ? 1 : 0, 0, 0, 0);
    case PR_SET_THP_DISABLE:  // PR_GET_THP_DISABLE adds the flags of argument 2
      return syscall(SYS_prctl, row.set, value & 1, value & ~uint64_t{1}, 0, 0);
    default:
      return syscall(SYS_prctl, row.set, value, 0, 0, 0);
  }
}

absl::Status Refused(absl::string_view whose, absl::string_view what, absl::string_view help) {
  const int error = errno;
  return ErrnoStatus(error,
                     absl::StrCat("the host refuses ", what, " to ", whose, " (", help, ")"));
}

absl::Status ApplyPrctl(const std::vector<PrctlSetting>& from, absl::string_view whose,
                        bool followed_only, ChangedSettings* changed) {
  for (const PrctlSetting& setting : from) {
    const PrctlRow* row = RowOf(setting.option);
    if (row == nullptr || (followed_only && !row->followed)) continue;
    if (Write(*row, setting.value) != 0) {
      return Refused(whose, absl::StrCat(row->name, " ", setting.value),
                     "resume it with the privileges that setting it took");
    }
    if (changed != nullptr) changed->Note(row->setting);
  }
  return absl::OkStatus();
}

// The system call's result is the other way round, so that none is negative.
int NiceOf(pid_t host_tid) {
  return 20 - static_cast<int>(syscall(SYS_getpriority, PRIO_PROCESS, host_tid));
}

absl::Status ApplyPolicy(const SchedulingSetting& from, pid_t host_tid, absl::string_view whose) {
  SchedulingSetting wanted = from, now;
  wanted.size = sizeof(wanted);
  const bool clamped =
      wanted.util_max != 0 && (wanted.util_min != 0 || wanted.util_max != kMostUtil);
  if (clamped) wanted.flags |= kUtilClamp;
  // sched_setattr(2) sets the nice value with few policies only.
  const bool nice = NiceOf(host_tid) == from.nice ||
                    syscall(SYS_setpriority, PRIO_PROCESS, host_tid, from.nice) == 0;
  const bool as_it_is = syscall(SYS_sched_getattr, host_tid, &now, sizeof(now), 0) == 0 &&
                        now.policy == from.policy && now.flags == from.flags &&
                        now.priority == from.priority && from.policy != kPolicyDeadline && !clamped;
  if (nice && (as_it_is || syscall(SYS_sched_setattr, host_tid, &wanted, 0) == 0)) {
    return absl::OkStatus();
  }
  return Refused(whose,
                 absl::StrFormat("scheduling policy %u with nice value %d and priority %u",
                                 from.policy, from.nice, from.priority),
                 "resume it with CAP_SYS_NICE, or with RLIMIT_NICE and RLIMIT_RTPRIO that allow "
                 "it");
}

// A machine with fewer processors narrows the set, as Linux does when some go away.
absl::Status ApplyProcessors(const std::vector<uint64_t>& wanted, pid_t host_tid,
                             absl::string_view whose) {
  if (syscall(SYS_sched_setaffinity, host_tid, wanted.size() * sizeof(wanted[0]), wanted.data()) !=
      0) {
    return Refused(whose, "the processors that it was bound to",
                   "resume it where it may use one of them");
  }
  std::vector<uint64_t> now(kProcessorWords);
  long bytes = syscall(SYS_sched_getaffinity, host_tid, now.size() * sizeof(now[0]), now.data());
  if (bytes < 0) return ErrnoStatus(errno, "cannot ask for its processors");
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (i < now.size() && (wanted[i] & ~now[i]) == 0) continue;
    Log(LogLevel::kWarning, absl::StrCat(whose,
                                         " was bound to processors that are not all here: "
                                         "it runs on those that are"));
    break;
  }
  return absl::OkStatus();
}

uint64_t NodeBits(const MemoryPolicy& policy) {
  // The kernel takes one less than it is told.
  return policy.nodes.empty() ? 0 : policy.nodes.size() * 64 + 1;
}

constexpr char kOomScoreFile[] = "/proc/self/oom_score_adj";
constexpr char kNodesHelp[] = "resume it on a machine with the memory nodes that it names";

// Of the calling thread, or with MPOL_F_ADDR of the memory at a host address.
bool ReadPolicy(uint64_t host_address, uint64_t flags, MemoryPolicy* policy) {
  uint64_t nodes[16] = {};  // 1,024 bits: CONFIG_NODES_SHIFT is 10 at most
  int mode = 0;
  if (syscall(SYS_get_mempolicy, &mode, nodes, sizeof(nodes) * 8, host_address, flags) != 0) {
    return false;
  }
  policy->mode = static_cast<uint32_t>(mode);
  policy->nodes.assign(std::begin(nodes), std::end(nodes));
  while (!policy->nodes.empty() && policy->nodes.back() == 0) policy->nodes.pop_back();
  return true;
}

long SetPolicy(const MemoryPolicy& policy) {
  return syscall(SYS_set_mempolicy, policy.mode, policy.nodes.data(), NodeBits(policy));
}

// The pieces of the window that are one mapping of the host's: [first, second), host addresses.
std::vector<std::pair<uint64_t, uint64_t>> HostPieces(uint64_t window, uint64_t end) {
  std::vector<std::pair<uint64_t, uint64_t>> pieces;
  for (const absl::string_view part : absl::StrSplit(HostText("/proc/self/maps"), '\n')) {
    const std::string line(part);
    unsigned long first = 0, second = 0;
    if (sscanf(line.c_str(), "%lx-%lx", &first, &second) != 2) continue;
    if (first < end && second > window) {
      pieces.emplace_back(std::max<uint64_t>(first, window), std::min<uint64_t>(second, end));
    }
  }
  return pieces;
}

}  // namespace

std::optional<Setting> SettingOfPrctl(int option) {
  if (option == PR_SET_KEEPCAPS) return Setting::kSecureBits;
  const PrctlRow* row = RowOf(static_cast<uint32_t>(option));
  if (row == nullptr) return std::nullopt;
  return row->setting;
}

bool IsThreadPrctl(uint32_t option) {
  const PrctlRow* row = RowOf(option);
  return row != nullptr && row->of_thread;
}

bool IsProcessPrctl(uint32_t option) {
  const PrctlRow* row = RowOf(option);
  return row != nullptr && !row->of_thread;
}

std::string PrctlName(uint32_t option) {
  const PrctlRow* row = RowOf(option);
  return row != nullptr ? row->name : absl::StrCat("prctl option ", option);
}

void ReadOwnSettings(const ChangedSettings& changed, ThreadSettings* to) {
  *to = {};
  if (changed.Has(Setting::kPersonality)) {
    to->personality = static_cast<uint32_t>(personality(kQueryPersonality));
  }
  if (MemoryPolicy policy; changed.Has(Setting::kMemoryPolicy) && ReadPolicy(0, 0, &policy)) {
    to->memory_policy = std::move(policy);
  }
  for (const PrctlRow& row : kRows) {
    if (!row.of_thread || !changed.Has(row.setting)) continue;
    if (std::optional<PrctlSetting> setting = Read(row)) to->prctl.push_back(*setting);
  }
  if (changed.Has(Setting::kCredentials)) to->credentials = ReadCredentials();
}

void ReadScheduling(const ChangedSettings& changed, pid_t host_tid, ThreadSettings* to) {
  if (SchedulingSetting attr; changed.Has(Setting::kScheduling) &&
                              syscall(SYS_sched_getattr, host_tid, &attr, sizeof(attr), 0) == 0) {
    attr.nice = NiceOf(host_tid);  // sched_getattr(2) tells it with few policies only
    to->scheduling = attr;
  }
  if (changed.Has(Setting::kProcessors)) {
    std::vector<uint64_t> processors(kProcessorWords);
    long bytes = syscall(SYS_sched_getaffinity, host_tid, processors.size() * sizeof(processors[0]),
                         processors.data());
    if (bytes > 0) {
      while (processors.size() > 1 && processors.back() == 0) processors.pop_back();
      to->processors = std::move(processors);
    }
  }
  if (changed.Has(Setting::kIoPriority)) {
    long priority = syscall(SYS_ioprio_get, kIoprioProcess, host_tid);
    if (priority >= 0) to->io_priority = static_cast<uint32_t>(priority);
  }
}

std::vector<PrctlSetting> ReadProcessSettings(const ChangedSettings& changed) {
  std::vector<PrctlSetting> settings;
  for (const PrctlRow& row : kRows) {
    if (row.of_thread || !changed.Has(row.setting)) continue;
    if (std::optional<PrctlSetting> setting = Read(row)) settings.push_back(*setting);
  }
  return settings;
}

absl::Status ApplyOwnSettings(const ThreadSettings& from, absl::string_view whose,
                              ChangedSettings* changed) {
  if (from.personality.has_value()) {
    if (personality(*from.personality) == -1) {
      return Refused(whose, absl::StrFormat("personality %#x", *from.personality),
                     "resume it on a kernel that knows it");
    }
    changed->Note(Setting::kPersonality);
  }
  if (from.memory_policy.has_value()) {
    if (SetPolicy(*from.memory_policy) != 0) {
      return Refused(whose, absl::StrFormat("memory policy %#x", from.memory_policy->mode),
                     kNodesHelp);
    }
    changed->Note(Setting::kMemoryPolicy);
  }
  KM_RETURN_IF_ERROR(ApplyPrctl(from.prctl, whose, false, changed));
  if (!from.credentials.has_value()) return absl::OkStatus();
  KM_RETURN_IF_ERROR(ApplyCredentials(*from.credentials, whose));
  changed->Note(Setting::kCredentials);
  // The change took some of them back: PR_SET_PDEATHSIG and PR_SET_KEEPCAPS.
  return ApplyPrctl(from.prctl, whose, false, changed);
}

absl::Status ApplyScheduling(const ThreadSettings& from, pid_t host_tid, absl::string_view whose,
                             ChangedSettings* changed) {
  if (!from.processors.empty()) {
    KM_RETURN_IF_ERROR(ApplyProcessors(from.processors, host_tid, whose));
    changed->Note(Setting::kProcessors);
  }
  if (from.io_priority.has_value()) {
    if (syscall(SYS_ioprio_set, kIoprioProcess, host_tid, *from.io_priority) != 0) {
      return Refused(whose, absl::StrFormat("I/O priority %#x", *from.io_priority),
                     "resume it with CAP_SYS_ADMIN or CAP_SYS_NICE");
    }
    changed->Note(Setting::kIoPriority);
  }
  if (from.scheduling.has_value()) {
    KM_RETURN_IF_ERROR(ApplyPolicy(*from.scheduling, host_tid, whose));
    changed->Note(Setting::kScheduling);
  }
  return absl::OkStatus();
}

absl::Status FollowSettings(const ThreadSettings& first) {
  constexpr char kWhose[] = "the process";
  if (first.scheduling.has_value() && first.scheduling->policy != kPolicyDeadline) {
    KM_RETURN_IF_ERROR(ApplyPolicy(*first.scheduling, 0, kWhose));
  }
  if (first.io_priority.has_value()) {
    (void)syscall(SYS_ioprio_set, kIoprioProcess, 0, *first.io_priority);
  }
  if (first.personality.has_value()) (void)personality(*first.personality);
  return ApplyPrctl(first.prctl, kWhose, true, nullptr);
}

absl::Status FollowCredentials(const ThreadSettings& first) {
  if (!first.credentials.has_value()) return absl::OkStatus();
  return ApplyCredentials(*first.credentials, "the process");
}

std::optional<int32_t> ReadOomScore(const ChangedSettings& changed) {
  int32_t score = 0;
  if (!changed.Has(Setting::kOomScore)) return std::nullopt;
  if (!absl::SimpleAtoi(HostText(kOomScoreFile), &score)) return std::nullopt;
  return score;
}

absl::Status ApplyOomScore(int32_t score, ChangedSettings* changed) {
  changed->Note(Setting::kOomScore);
  if (ReadOomScore(*changed) == score) return absl::OkStatus();
  const std::string text = absl::StrCat(score);
  const OwnedFd file(open(kOomScoreFile, O_WRONLY | O_CLOEXEC));
  if (file.valid() && write(file.get(), text.data(), text.size()) >= 0) return absl::OkStatus();
  return Refused("the process", absl::StrCat("oom_score_adj ", score),
                 "resume it with CAP_SYS_RESOURCE");
}

absl::Status ApplyProcessSettings(const std::vector<PrctlSetting>& from, ChangedSettings* changed) {
  return ApplyPrctl(from, "the process", false, changed);
}

void FollowScheduling(pid_t first) {
  SchedulingSetting attr;
  if (syscall(SYS_sched_getattr, first, &attr, sizeof(attr), 0) != 0) return;
  if (attr.policy != kPolicyDeadline) syscall(SYS_sched_setattr, getpid(), &attr, 0);
  long io = syscall(SYS_ioprio_get, kIoprioProcess, first);
  if (io >= 0) syscall(SYS_ioprio_set, kIoprioProcess, getpid(), io);
}

std::vector<MappingPolicy> ReadMappingPolicies(const ChangedSettings& changed,
                                               AddressSpace& space) {
  constexpr uint64_t kByAddress = 2;  // MPOL_F_ADDR
  std::vector<MappingPolicy> policies;
  if (!changed.Has(Setting::kMappingPolicy)) return policies;
  const auto window = reinterpret_cast<uint64_t>(space.memory().window());
  for (const auto& [first, second] : HostPieces(window, window + space.memory().end())) {
    MemoryPolicy policy;
    if (!ReadPolicy(first, kByAddress, &policy) || policy.mode == 0) continue;
    for (const auto& [start, end] : space.MappedPieces(first - window, second - window)) {
      policies.push_back({start, end, policy});
    }
  }
  return policies;
}

absl::Status ApplyMappingPolicies(const std::vector<MappingPolicy>& from, AddressSpace& space,
                                  ChangedSettings* changed) {
  for (const MappingPolicy& piece : from) {
    if (!space.IsMapped(piece.start, piece.end - piece.start)) {
      return absl::DataLossError(absl::StrFormat(
          "there is a memory policy for %#x-%#x, which is not mapped", piece.start, piece.end));
    }
    if (syscall(SYS_mbind, space.memory().window() + piece.start, piece.end - piece.start,
                piece.policy.mode, piece.policy.nodes.data(), NodeBits(piece.policy), 0) != 0) {
      return Refused(absl::StrFormat("the memory at %#x-%#x", piece.start, piece.end),
                     absl::StrFormat("memory policy %#x", piece.policy.mode), kNodesHelp);
    }
    changed->Note(Setting::kMappingPolicy);
  }
  return absl::OkStatus();
}

}  // namespace km
