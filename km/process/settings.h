// What Linux keeps for a thread or a process beside memory, files and signals: how it is scheduled,
// and what prctl(2), personality(2), set_mempolicy(2) and mbind(2) set. Source: sched(7), prctl(2),
// ioprio_set(2), numa(7).
#ifndef KM_PROCESS_SETTINGS_H_
#define KM_PROCESS_SETTINGS_H_

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "km/process/credentials.h"

namespace km {

class AddressSpace;

// What a program can set, a bit each. What it never set it has from whoever started or resumed it,
// and a snapshot does not carry that (docs/decisions/0020).
enum class Setting : uint32_t {
  kScheduling,     // policy, nice value, priority
  kProcessors,     // sched_setaffinity(2)
  kIoPriority,     // ioprio_set(2)
  kPersonality,    // personality(2)
  kMemoryPolicy,   // set_mempolicy(2)
  kMappingPolicy,  // mbind(2)
  kHomeNode,       // set_mempolicy_home_node(2)
  kDeathSignal,    // PR_SET_PDEATHSIG, and so on
  kTimerSlack,
  kMachineChecks,
  kNoNewPrivileges,
  kSecureBits,  // and PR_SET_KEEPCAPS
  kIoFlusher,
  kDumpable,
  kSubreaper,
  kHugePages,
  kMemoryMerge,
  kOomScore,     // /proc/self/oom_score_adj
  kCredentials,  // users, groups, capabilities, where they are others than before
};

// Thread-safe.
class ChangedSettings {
 public:
  void Note(Setting setting) { bits_.fetch_or(Bit(setting)); }
  bool Has(Setting setting) const { return (bits_.load() & Bit(setting)) != 0; }
  bool any() const { return bits_.load() != 0; }

 private:
  static uint32_t Bit(Setting setting) { return 1u << static_cast<uint32_t>(setting); }
  std::atomic<uint32_t> bits_ = 0;
};

// struct sched_attr as Linux 5.3 has it (linux/sched/types.h clashes with sched.h).
struct SchedulingSetting {
  uint32_t size = 0, policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0, deadline = 0, period = 0;  // nanoseconds, of SCHED_DEADLINE
  uint32_t util_min = 0, util_max = 0;
};
static_assert(sizeof(SchedulingSetting) == 56);

struct MemoryPolicy {
  uint32_t mode = 0;            // MPOL_* with MPOL_F_*
  std::vector<uint64_t> nodes;  // bits; without zeros at the end
};

struct MappingPolicy {
  uint64_t start = 0, end = 0;  // the program's addresses, page aligned
  MemoryPolicy policy;
};

// A number that prctl(2) sets: PR_SET_* and the value, as PR_GET_* gives it.
struct PrctlSetting {
  uint32_t option = 0;
  uint64_t value = 0;
};

// Of one thread. What is absent is as whoever resumes has it.
struct ThreadSettings {
  bool empty() const {
    return !scheduling && processors.empty() && !io_priority && !personality && !memory_policy &&
           prctl.empty() && !credentials;
  }
  std::optional<SchedulingSetting> scheduling;
  std::vector<uint64_t> processors;  // bits
  std::optional<uint32_t> io_priority;
  std::optional<uint32_t> personality;
  std::optional<MemoryPolicy> memory_policy;
  std::vector<PrctlSetting> prctl;
  std::optional<Credentials> credentials;
};

// Which setting a successful prctl(2) with this option changes, if any that is kept here.
std::optional<Setting> SettingOfPrctl(int option);
// Whether a snapshot may hold the option: of a thread, or of the process.
bool IsThreadPrctl(uint32_t option);
bool IsProcessPrctl(uint32_t option);
// "PR_SET_DUMPABLE"; of an option that is none of these "prctl option 5".
std::string PrctlName(uint32_t option);

// What only a thread itself can ask the host for: of the calling host thread.
void ReadOwnSettings(const ChangedSettings& changed, ThreadSettings* to);
// What is asked for from outside: of the host thread `host_tid`, which may change any moment unless
// all threads are parked.
void ReadScheduling(const ChangedSettings& changed, pid_t host_tid, ThreadSettings* to);
// Of the process; none when the program set none.
std::vector<PrctlSetting> ReadProcessSettings(const ChangedSettings& changed);

// What ReadOwnSettings reads, on the calling host thread, and what ReadScheduling reads, on any.
// Errors name what the host refuses, why, and what helps. Sets bits of `changed` for all that is
// there, so that the next snapshot has it, too.
absl::Status ApplyOwnSettings(const ThreadSettings& from, absl::string_view whose,
                              ChangedSettings* changed);
absl::Status ApplyScheduling(const ThreadSettings& from, pid_t host_tid, absl::string_view whose,
                             ChangedSettings* changed);
// On the main thread, when the program's first thread has them: what whoever looks at the process
// sees (docs/decisions/0019). Not the processors, and no deadline, which it would eat up.
absl::Status FollowSettings(const ThreadSettings& first);
// The same of credentials, which leave no privilege for what else is to be done.
absl::Status FollowCredentials(const ThreadSettings& first);
// Of /proc/self/oom_score_adj, in its units; none when the program did not open it to write to it.
std::optional<int32_t> ReadOomScore(const ChangedSettings& changed);
absl::Status ApplyOomScore(int32_t score, ChangedSettings* changed);
absl::Status ApplyProcessSettings(const std::vector<PrctlSetting>& from, ChangedSettings* changed);

// The main thread takes over the scheduling of the host thread `first`, as far as it is allowed.
void FollowScheduling(pid_t first);

// Policies of memory that mbind(2) gave, of the program's mappings. For the main thread, while all
// others are parked.
std::vector<MappingPolicy> ReadMappingPolicies(const ChangedSettings& changed, AddressSpace& space);
absl::Status ApplyMappingPolicies(const std::vector<MappingPolicy>& from, AddressSpace& space,
                                  ChangedSettings* changed);

}  // namespace km

#endif  // KM_PROCESS_SETTINGS_H_
